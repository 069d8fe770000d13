"""LabelMe JSON, one file per image in the same folder; rectangles as two corners in pixels from 0."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import DataError
from ..fileio import copy, holds_keys, is_cut_short, kind, load_json, new_folder, write_json
from ..images import SUFFIXES
from ..structures import Box, Dataset, Finding, Image
from .paths import (
    is_inside,
    is_there,
    nfc_name,
    outside_data_error,
    roots_around,
    roots_of,
    stem,
    unique_names,
    walk,
    without_derived,
)
from .reading import (
    DEFAULTS,
    Converted,
    Entry,
    Reading,
    ReadOptions,
    clean_name,
    clip_rounded,
    enclosing,
    part_of,
    score_of,
    sentence,
    size_mismatch,
    sized,
    without_labels,
)

VERSION = "5.0.0"  # of the layout; LabelMe warns if the first number differs
_FIX = "save it anew in LabelMe"


def read(path: Path) -> Dataset:
    """The data set of a folder, or of one file.

    Raises:
        DataError: anything in it can't be read, has no partner, or has no area.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path], options: ReadOptions = DEFAULTS) -> Reading:
    """Read all LabelMe files at or below ``sources`` with the images that they name.

    An image is searched at the file's ``imagePath``, then in the file's folder under its own name, then by its name in
    all sources, never outside of the data root. An image without a label file is an error. Polygons, circles,
    masks and rotated rectangles become their enclosing boxes; lines and points have no area and are errors.

    Raises:
        DataError: a source does not exist, or there is no LabelMe file.
    """
    label_files = [path for path in walk(sources, [".json"]) if path in sources or looks_like_labelme(path)]
    if not label_files:
        places = ", ".join(map(str, sources))
        raise DataError("no LabelMe file in it", where=places, fix="check the path")
    folders = [source for source in sources if source.is_dir()]
    images, findings = without_derived(walk(folders, SUFFIXES), folders)
    inside = roots_of(sources)
    named: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        named[nfc_name(path)].append(path)

    converted = Converted()
    entries: list[Entry] = []
    owner: dict[Path, Path] = {}
    unread: set[Path] = set()  # label files whose image is unknown, and images that two label files are about
    for label_file in label_files:
        try:
            data = _load(label_file)
            path = _image_of(label_file, data["imagePath"], named, inside)
        except DataError as error:
            findings.append(Finding("unreadable label file", "error", label_file, sentence(error)))
            unread.add(label_file)
            continue
        other = owner.setdefault(path.resolve(), label_file)
        if other is not label_file:
            message = f"it is about {path}, as {other} is; keep one of them"
            findings.append(Finding("same name twice", "error", label_file, message, (path,)))
            unread.add(path.resolve())
            continue
        image = sized(path, options, findings, label_file)
        if image is None:
            continue
        boxes = _boxes(label_file, data["shapes"], image, findings, converted)
        entries.append(Entry(replace(image, boxes=boxes), label_file, part_of(label_file, sources)))
        findings += size_mismatch(label_file, image, _size_of(data))
    entries = [entry for entry in entries if entry.image.path.resolve() not in unread]
    unlabelled = []
    for path in images:
        label_file = path.with_suffix(".json")
        if path.resolve() in owner or label_file in unread:
            continue
        if is_there(label_file) and (is_cut_short(label_file) or holds_keys(label_file, "shapes")):
            message = f"it is no complete LabelMe file, though it has the name of {path.name}; {_FIX}, or remove it"
            findings.append(Finding("unreadable label file", "error", label_file, message, (path,)))
        else:
            unlabelled.append(path)
    if options.allow_empty:
        bare = [image for path in unlabelled if (image := sized(path, options, findings)) is not None]
        entries += [Entry(image, image.path, part_of(image.path, sources)) for image in bare]
        findings += without_labels([image.path for image in bare], len(entries))
    else:
        for path in unlabelled:
            fix = "save one in LabelMe, without shapes if there are none, or --allow-empty takes it as without objects"
            message = f"no {stem(path)}.json is about it; {fix}"
            findings.append(Finding("image without label file", "error", path, message))
    findings += converted.findings(sources[0])
    return Reading(tuple(entries), (), tuple(findings))


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>/<image>.json`` and copy each image into its folder, as LabelMe opens them.

    Images get another name where two would have the same. Flags for difficult and crowd objects become flags of the
    shape. The score of a pre-annotation is in its description, and in ``score``, which X-AnyLabeling shows.

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
    if not isinstance(name, str) or "\0" in name:
        data["imagePath"] = ""
    return data


def _image_of(label_file: Path, name: str, named: Mapping[str, Sequence[Path]], inside: Sequence[str]) -> Path:
    """The image; where there is none, the path at which it should lie, unless that is outside the data.

    The file of ``name`` is used only if its suffix is that of an image; otherwise the image in the same folder is.
    """
    roots = [*inside, *roots_around(label_file.parent)]
    clean = name.strip().replace("\\", "/")
    at = Path(os.path.normpath(label_file.parent / clean))
    is_image_name = at.suffix.lower() in SUFFIXES
    suffixes = dict.fromkeys([at.suffix, *SUFFIXES] if is_image_name else SUFFIXES)
    same_folder = [label_file.with_suffix(each) for suffix in suffixes for each in (suffix, suffix.upper())]
    near = [at, *same_folder] if is_image_name else same_folder
    found = next((path for path in near if is_inside(path, roots) and is_there(path)), None)
    if found is not None:
        return found
    if not is_image_name:
        found_none = f"its imagePath {name!r} names no image, and there is none in its folder"
        raise DataError(found_none, where=label_file, fix=f"put {label_file.stem}.png or the like into its folder")
    others = named.get(nfc_name(Path(clean)), [])
    if len(others) > 1:
        several = f"its image {name} is not in its folder, and {len(others)} others have that name"
        raise DataError(several, where=label_file, fix="put the right one there")
    if not others and not is_inside(at, roots):
        raise outside_data_error(f"its imagePath {name!r}", label_file)
    return others[0] if others else at


def _size_of(data: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = data.get("imageWidth"), data.get("imageHeight")
    return (width, height) if _is_number(width) and _is_number(height) else None


def _boxes(
    path: Path, shapes: Sequence[Any], image: Image, findings: list[Finding], converted: Converted
) -> tuple[Box, ...]:
    boxes: list[Box] = []
    for position, shape in enumerate(shapes, start=1):
        try:
            box, form = _box(shape)
        except ValueError as error:
            message = f"shape {position}: {error}; correct or remove it"
            findings.append(Finding("broken object", "error", path, message, image=image.path))
            continue
        if form:
            converted.shapes[form] += 1
            box = replace(box, xyxy=clip_rounded(box.xyxy, form, image.width, image.height))
        boxes.append(box)
    return tuple(boxes)


def _box(shape: Any) -> tuple[Box, str]:
    """The box of a shape, and the form that it encloses, "" of a rectangle."""
    if not isinstance(shape, dict):
        raise ValueError(f"it is {kind(shape)}, not an object")
    label = clean_name(shape["label"]) if isinstance(shape.get("label"), str) else ""
    if not label:
        raise ValueError(
            "it has no label"
            if not str(shape.get("label") or "").strip()
            else f"its label is {kind(shape['label'])}, no text"
        )
    form = shape.get("shape_type") or "polygon"  # as LabelMe takes it
    points = shape.get("points")
    if not isinstance(points, list) or not points or not all(map(_is_point, points)):
        raise ValueError(f"the points of {label} are {kind(points)}, not pairs of x and y")
    if form in ("line", "linestrip", "point", "points"):
        raise ValueError(f"{label} is a {form}, which has no area; draw a rectangle around it")
    if form not in ("rectangle", "polygon", "circle", "mask", "rotation", "oriented_rectangle"):
        raise ValueError(f"{label} is a {form}, which is not read; draw a rectangle around it")
    if form in ("rectangle", "circle", "mask") and len(points) not in ((2, 4) if form == "rectangle" else (2,)):
        raise ValueError(f"the points of {label} are {kind(points)}, not the two of a {form}")
    if form == "circle":
        (cx, cy), (x, y) = points
        radius = math.hypot(x - cx, y - cy)
        points = [(cx - radius, cy - radius), (cx + radius, cy + radius)]
    if form == "rectangle":
        # X-AnyLabeling gives all four corners, and those of a rectangle that was rotated as well.
        upright = len({float(x) for x, _ in points}) <= 2 and len({float(y) for _, y in points}) <= 2
        form = "" if upright else "rotated box"
    x1, y1, x2, y2 = enclosing((float(x), float(y)) for x, y in points)
    flags = shape.get("flags")
    true = {name for name, value in flags.items() if value is True} if isinstance(flags, dict) else set()
    difficult = "difficult" in true or shape.get("difficult") is True  # X-AnyLabeling has a key of its own for it
    box = Box(label, (x1, y1, x2, y2), difficult, "crowd" in true, score_of(shape.get("score")))
    return box, "rotated box" if form in ("rotation", "oriented_rectangle") else form


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
