"""LabelMe JSON, one file an image and beside it; rectangles as two corners in pixels from 0."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import DataError
from ..images import SUFFIXES
from ..records import Box, Dataset, Finding, Image
from .coco_images import is_there
from .files import copy, new_folder, stem, unique_names, walk, write_json
from .json_text import holds_keys, kind, load_json
from .reading import Entry, Reading, clean_name, part_of, score_of, sentence, size_mismatch, sized
from .roots import is_inside, leads_out, roots_around, roots_of

VERSION = "5.0.0"  # of the layout; LabelMe only tells its user where the first number is another
_FIX = "save it anew in LabelMe"


def read(path: Path) -> Dataset:
    """The data set of a folder, or of one file.

    Raises:
        DataError: anything in it can't be read, has no partner, or is no rectangle.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path]) -> Reading:
    """Read all LabelMe files at or below ``sources`` with the images that they name.

    An image is looked for at the file's ``imagePath``, then beside the file under its own name, then by its name in all
    sources; outside of the data root it is not looked for. One that no file belongs to has not been labelled, and is an
    error.

    Raises:
        DataError: a source does not exist, or there is no LabelMe file.
    """
    label_files = [path for path in walk(sources, [".json"]) if path in sources or looks_like_labelme(path)]
    if not label_files:
        places = ", ".join(map(str, sources))
        raise DataError("no LabelMe file in it", where=places, fix="check the path")
    images = walk([source for source in sources if source.is_dir()], SUFFIXES)
    inside = roots_of(sources)
    named: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        named[unicodedata.normalize("NFC", path.name)].append(path)

    findings: list[Finding] = []
    entries: list[Entry] = []
    owner: dict[Path, Path] = {}
    for label_file in label_files:
        try:
            data = _load(label_file)
            path = _image_of(label_file, data["imagePath"], named, inside)
        except DataError as error:
            findings.append(Finding("unreadable label file", "error", label_file, sentence(error)))
            continue
        other = owner.setdefault(path.resolve(), label_file)
        if other is not label_file:
            message = f"it is about {path}, as {other} is; keep one of them"
            findings.append(Finding("same name twice", "error", label_file, message))
            continue
        image = sized(path, _boxes(label_file, data["shapes"], findings), findings, label_file)
        if image is None:
            continue
        entries.append(Entry(image, label_file, part_of(label_file)))
        told = _told_size(data)
        mismatch = size_mismatch(label_file, image, told) if told else None
        findings += [mismatch] if mismatch else []
    for path in images:
        if path.resolve() not in owner:
            message = f"no {stem(path)}.json tells of it; save one in LabelMe (without shapes, if there are none)"
            findings.append(Finding("image without label file", "error", path, message))
    return Reading(tuple(entries), (), tuple(findings))


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>/<image>.json`` and copy each image beside its file, as LabelMe opens them.

    Images get another name where two would have the same. Flags for difficult and crowd objects become flags of the
    shape. The score of a draft is told in its description, and as ``score``, which X-AnyLabeling shows.

    Returns:
        The folder of each part.

    Raises:
        DataError: ``out/<part>`` is not empty.
    """
    new_folder(out, list(parts))
    for part, dataset in parts.items():
        (out / part).mkdir(exist_ok=True)
        for image, name in zip(dataset.images, unique_names([image.path for image in dataset.images])):
            copy(image.path, out / part / name)
            write_json((out / part / name).with_suffix(".json"), to_dict(image, name), indent=2)
    return {part: out / part for part in parts}


def to_dict(image: Image, filename: str) -> dict[str, Any]:
    """The annotation of one image as plain values; the image is named, not embedded."""
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [_shape(box) for box in image.boxes],
        "imagePath": filename,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def looks_like_labelme(path: Path) -> bool:
    """Whether a JSON file has LabelMe's keys."""
    return holds_keys(path, "shapes", "imagePath")


def _shape(box: Box) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy
    shape = {
        "label": box.label,
        "points": [[x1, y1], [x2, y2]],
        "group_id": None,
        "description": "" if box.score is None else f"score {box.score:g}",
        "shape_type": "rectangle",
        "flags": {name: True for name in ("difficult", "crowd") if getattr(box, name)},
    }
    return shape if box.score is None else {**shape, "score": box.score}


def _load(path: Path) -> dict[str, Any]:
    data = load_json(path, fix=_FIX)
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise DataError("it has no list of shapes, as LabelMe writes it", where=path, fix=_FIX)
    name = data.get("imagePath")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DataError("it has no imagePath, which names the image", where=path, fix=_FIX)
    return data


def _image_of(label_file: Path, told: str, named: Mapping[str, Sequence[Path]], inside: Sequence[str]) -> Path:
    """The image; where there is none, the path at which it should lie, unless that leads out of the data."""
    roots = [*inside, *roots_around(label_file.parent)]
    clean = told.replace("\\", "/")
    at = Path(os.path.normpath(label_file.parent / clean))
    beside = [label_file.with_suffix(suffix) for suffix in (Path(clean).suffix, *SUFFIXES) if len(suffix) > 1]
    near = next((path for path in (at, *beside) if is_inside(path, roots) and is_there(path)), None)
    if near is not None:
        return near
    others = named.get(unicodedata.normalize("NFC", Path(clean).name), [])
    if len(others) > 1:
        found = f"its image {told} is not beside it, and {len(others)} others have that name"
        raise DataError(found, where=label_file, fix="put the right one beside it")
    if not others and not is_inside(at, roots):
        raise leads_out(f"its imagePath {told!r}", label_file)
    return others[0] if others else at


def _told_size(data: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = data.get("imageWidth"), data.get("imageHeight")
    return (width, height) if _is_number(width) and _is_number(height) else None


def _boxes(path: Path, shapes: Sequence[Any], findings: list[Finding]) -> tuple[Box, ...]:
    boxes: list[Box] = []
    for position, shape in enumerate(shapes, start=1):
        try:
            boxes.append(_box(shape))
        except ValueError as error:
            findings.append(Finding("broken object", "error", path, f"shape {position}: {error}; correct or remove it"))
    return tuple(boxes)


def _box(shape: Any) -> Box:
    if not isinstance(shape, dict):
        raise ValueError(f"it is {kind(shape)}, not an object")
    label = clean_name(shape["label"]) if isinstance(shape.get("label"), str) else ""
    if not label:
        raise ValueError("it has no label")
    form = shape.get("shape_type") or "polygon"  # as LabelMe takes it
    if form != "rectangle":
        raise ValueError(f"{label} is a {form}, and only rectangles are read")
    points = shape.get("points")
    if not isinstance(points, list) or len(points) not in (2, 4) or not all(map(_is_point, points)):
        raise ValueError(f"the points of {label} are {kind(points)}, not the two corners of a rectangle")
    xs, ys = sorted({float(x) for x, _ in points}), sorted({float(y) for _, y in points})
    if len(points) == 4 and (len(xs) > 2 or len(ys) > 2):  # X-AnyLabeling tells all four corners
        raise ValueError(f"{label} is a turned rectangle, and only upright ones are read")
    flags = shape.get("flags")
    told = {name for name, value in flags.items() if value is True} if isinstance(flags, dict) else set()
    difficult = "difficult" in told or shape.get("difficult") is True  # X-AnyLabeling has a key of its own for it
    return Box(label, (xs[0], ys[0], xs[-1], ys[-1]), difficult, "crowd" in told, score_of(shape.get("score")))


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
