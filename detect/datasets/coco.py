"""COCO JSON, one file per part; boxes are x, y, width, height in pixels from 0, ids count from 1."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..fileio import holds_keys, is_cut_short, kind, load_json, write_json
from ..structures import Box, Dataset, Finding, Frame, Image, Xyxy
from .paths import (
    OUTSIDE,
    ImageFinder,
    UnusableNameError,
    about_names,
    files_below,
    is_inside,
    natural_key,
    none_found,
    not_named,
    references,
    roots_of,
)
from .reading import (
    DEFAULTS,
    PARTS,
    Converted,
    Entry,
    Reading,
    ReadOptions,
    clean_name,
    clip_rounded,
    clipped,
    counted,
    enclosing,
    enclosing_rotated,
    first_few,
    score_of,
    sentence,
    size_mismatch,
    sized,
)

FIX = "correct the file or write it anew with `detect convert`"
IMAGE_ROOT = "image_root"  # in info: the folder, as seen from the file, that its names start from
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_PREFIX = "instances_"  # of files by COCO's own naming, annotations/instances_train.json
# Names of files that say what they are, not which part: the folder around them does.
_GENERIC = ("_annotations.coco", "annotations", "labels", "coco", "result", "instances", "_annotations")

Id = int | str


def read(path: Path, *, images: Path | None = None) -> Dataset:
    """The data set of one JSON file (or of all those in a folder), images in the file's own order.

    Args:
        path: the JSON file.
        images: folder of the images; without it, or where it has not all, paths are relative to the JSON file, and
            where that fails its neighbours are tried (``images/``, ``../images/``, ``../train2017/``).

    Raises:
        DataError: no such file, broken JSON, an image that is missing or can't be read, a box without area.
    """
    found = files(path) if path.is_dir() else [path]
    readings = [_scan_file(file, [images] if images else [], "", DEFAULTS) for file in found]
    return _merged(readings).dataset()


def scan(sources: Sequence[Path], options: ReadOptions = DEFAULTS) -> Reading:
    """Read JSON files, or those in folders; a part is called like its file, or like the folder of a file whose name is
    that of every export (``train/_annotations.coco.json``).

    Folders without a JSON file of COCO's shape are taken for folders of the images.

    Raises:
        DataError: a source does not exist, or none of them holds COCO JSON.
    """
    by_place: dict[Path, Path] = {}
    folders: list[Path] = []
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
        found = files(source) if source.is_dir() else [source]
        for path in found:
            by_place.setdefault(path.resolve(), path)
        folders += [] if found else [source]
    label_files = list(by_place.values())
    if not label_files:
        places = ", ".join(map(str, folders))
        raise DataError("no JSON file of COCO's shape in it", where=places, fix="name the file itself")
    names = _part_names(label_files)
    reading = _merged([_scan_file(file, folders, name, options) for file, name in zip(label_files, names)])
    whole = [source for source in sources if source.is_dir()]
    more = [*_files_left_out(whole, label_files), *not_named([entry.image.path for entry in reading.entries], whole)]
    reading = replace(reading, findings=(*reading.findings, *more))
    for folder in folders if reading.entries else ():
        if not any(is_inside(entry.image.path, [str(folder.resolve())]) for entry in reading.entries):
            useless = "no JSON file of COCO's shape in it, and none of the images that the others name"
            raise DataError(useless, where=folder, fix="check the path, or leave it out")
    return reading


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>.json``; images stay where they are and are referenced from there."""
    out.mkdir(parents=True, exist_ok=True)
    written = {part: out / f"{part}.json" for part in parts}
    for part, dataset in parts.items():
        write_json(written[part], to_dict(dataset, out))
    return written


def files(folder: Path) -> list[Path]:
    """JSON files that hold a COCO data set: right in a folder, else in its ``annotations``, else anywhere below it.

    Of the files of one folder, those called ``instances_*`` are taken alone where there are any: COCO has
    keypoints, segmentations and captions of the same images in the same folder.
    """
    found = files_in(folder) or files_in(folder / "annotations")
    if not found:
        below = (Path(path) for _, path in files_below(folder, roots_of([folder])) if path.lower().endswith(".json"))
        found = sorted(filter(looks_like_coco, below), key=lambda path: natural_key(str(path)))
    with_instances = {path.parent for path in found if path.name.startswith(_PREFIX)}
    return [path for path in found if path.parent not in with_instances or path.name.startswith(_PREFIX)]


def _files_left_out(folders: Sequence[Path], label_files: Sequence[Path]) -> Iterator[Finding]:
    """Findings about JSON files below folders that were not read: damaged ones, and those farther down."""
    taken = {path.resolve() for path in label_files}
    places = {path.parent for path in taken}
    with_instances = {path.parent for path in taken if path.name.startswith(_PREFIX)}
    farther: list[Path] = []
    for folder in folders:
        for path in sorted(folder.rglob("*.json"), key=lambda path: natural_key(str(path))):
            hidden = any(name.startswith(".") for name in path.relative_to(folder).parts)
            if hidden or path.resolve() in taken or path.resolve().parent in with_instances:
                continue
            if looks_like_coco(path):
                farther.append(path)
            elif path.resolve().parent in places and is_cut_short(path):
                message = "the JSON is empty or cut short; write it anew, or remove it"
                yield Finding("unreadable label file", "error", path, message)
    if farther:
        number = counted(len(farther), "more COCO file", "more COCO files")
        message = f"{number} farther down, not read: {first_few(farther)}; name each to read it, too"
        yield Finding("label file left out", "warning", farther[0], message, farther[1:])


def files_in(folder: Path) -> list[Path]:
    """JSON files right in a folder that hold a COCO data set."""
    found = sorted(folder.glob("*.json"), key=lambda path: natural_key(path.name))
    return [path for path in found if not path.name.startswith(".") and looks_like_coco(path)]


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's keys."""
    return holds_keys(path, "images", "annotations", "categories")


def _part_names(label_files: Sequence[Path]) -> list[str]:
    names = []
    number = Counter(path.stem for path in label_files)
    for path in label_files:
        name = path.stem.removeprefix(_PREFIX) or path.stem
        folder = path.resolve().parent.name
        is_generic, is_of_part = path.stem.lower() in _GENERIC, folder.lower() in PARTS
        is_one_of_several = is_generic and len(label_files) > 1
        is_equal = number[path.stem] > 1 or is_generic
        names.append(folder if is_one_of_several or (is_equal and is_of_part) else name)
    return names


@dataclass(slots=True)
class Content:
    """A COCO file in one form, whatever its ids and numbers looked like, and what in it is wrong.

    Attributes:
        data: ``images``, ``annotations``, ``categories`` and whatever else the file has. Ids are whole numbers, or
            text where any of the kind isn't a number; every annotation has a ``bbox`` of four numbers.
        faults: image id (None if there is no such image) and what is wrong with an annotation that is left out.
        shapes: position in ``data["annotations"]`` -> the shape that its ``bbox`` encloses.
        notes: what was passed over, in words.
        warnings: what is unusual, though it changes no box, in words.
    """

    data: dict[str, Any]
    faults: list[tuple[Id | None, str]] = field(default_factory=list)
    shapes: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load(path: Path, *, read_images: bool = True) -> dict[str, Any]:
    """Read and check a COCO data set.

    Ids that are text or fractions with the value of a whole number become whole numbers; other text stays. Numbers in
    text become numbers, an annotation without ``bbox`` gets that around its ``segmentation``, and one that CVAT has
    rotated the upright one. Fields that boxes don't need are neither checked nor changed.

    Args:
        path: the JSON file.
        read_images: whether the images will be read; if not, names of images and categories and places in a video may
            be missing.

    Raises:
        DataError: missing, no JSON, a key or type that is wrong, an id used twice or pointing nowhere,
            a number that is not finite.
    """
    content = _content(path, read_images=read_images)
    if content.faults:
        raise DataError(content.faults[0][1], where=path, fix=FIX)
    return content.data


def with_ids_of(results: Any, image_ids: Iterable[Id], category_ids: Iterable[Id]) -> Any:
    """COCO results with ids as ``load`` has them: numbers for text, or text for numbers, as in the truth.

    Args:
        results: of a detector; what is no list of objects is returned as it is.
        image_ids, category_ids: of the truth.
    """
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        return results
    as_text = {
        "image_id": any(isinstance(each, str) for each in image_ids),
        "category_id": any(isinstance(each, str) for each in category_ids),
    }
    changed = []
    for item in results:
        ids = {key: _id(item[key], text) for key, text in as_text.items() if key in item}
        changed.append({**item, **{key: value for key, value in ids.items() if value is not None}})
    return changed


def in_ids_of(truth: dict[str, Any], results: Sequence[Mapping[str, Any]], dataset: Dataset) -> list[dict[str, Any]]:
    """COCO results with the image and category ids that a file uses, whatever these are.

    Args:
        truth: the file's content, as ``load`` gives it.
        results: COCO results whose image_id is a position + 1 and category_id a 1-based position in ``dataset``.
        dataset: what ``read`` made of the same file.
    """
    image_ids = [item["id"] for item in truth["images"]]
    by_name = {clean_name(item["name"]): item["id"] for item in truth["categories"]}
    category_ids = [by_name[name] for name in dataset.categories]
    return [
        {
            **result,
            "image_id": image_ids[result["image_id"] - 1],
            "category_id": category_ids[result["category_id"] - 1],
        }
        for result in results
    ]


def _content(path: Path, *, read_images: bool = True) -> Content:
    data = load_json(path, fix=FIX, finite=False)  # some programs write NaN into fields that boxes don't need
    try:
        return _in_one_form(data, read_images=read_images)
    except RecursionError:  # it could just be read, but not be shown
        raise DataError("the JSON can't be read (it is nested too deeply)", where=path, fix=FIX) from None
    except ValueError as error:
        raise DataError(str(error), where=path, fix=FIX) from None


def _in_one_form(data: Any, *, read_images: bool) -> Content:
    """Raises ValueError, in words, for what makes ``data`` unusable as a whole."""
    if not isinstance(data, dict):
        raise ValueError(f"the outermost value is {kind(data)}, not an object with images, annotations and categories")
    images, categories, annotations = (_records(data, key) for key in ("images", "categories", "annotations"))
    images = _with_ids(images, "images")
    for i, item in enumerate(images):
        name = item.get("file_name")
        if read_images and (not isinstance(name, str) or not name.strip() or "\0" in name):
            raise ValueError(f"images[{i}] has no file_name")
        for key in ("width", "height"):
            item[key] = _number(item.get(key))  # null is what Label Studio writes for pictures it has not seen
    videos = _frames(data, images) if read_images else []
    categories = _with_ids(categories, "categories")
    for item in categories if not read_images else ():
        item.setdefault("name", str(item["id"]))
    categories = _named(categories, "categories")
    as_text = [any(isinstance(item["id"], str) for item in each) for each in (images, categories)]
    content = Content({**data, "images": images, "categories": categories, "annotations": []})
    if videos:
        content.data["videos"] = videos
    known = {item["id"]: item for item in images}, {item["id"] for item in categories}
    seen: set[Id] = set()
    twice = 0
    for i, item in enumerate(annotations):
        where = f"annotations[{i}]"
        own = item.get("id")
        if isinstance(own, (int, str)):
            twice += own in seen
            seen.add(own)
        if not _plainly_right(item, *known):
            item = {**item, **{k: _id(item.get(k), t) for k, t in zip(("image_id", "category_id"), as_text)}}
            try:
                shape = _annotation(item, where, *known)
            except ValueError as error:
                image_id = item["image_id"] if item["image_id"] in known[0] else None
                content.faults.append((image_id, str(error)))
                continue
            if shape:
                content.shapes[len(content.data["annotations"])] = shape
        content.data["annotations"].append(item)
    if twice:
        number = counted(twice, "annotation has", "annotations have")
        content.warnings.append(f"{number} the id of an earlier one; all are used, check that none was copied")
    _drop_unused(content, placeholders=read_images)
    _refuse_twice(content.data["categories"], "categories")
    return content


def _id(value: Any, as_text: bool) -> Id | None:
    """A whole number, also one written as 7.0 or "7"; other text as it is. None of what is no id."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found: Id | None
    if isinstance(value, str):
        found = int(value) if _WHOLE.fullmatch(value) else value.strip() or None
    else:
        found = int(value) if math.isfinite(value) and value == int(value) else None
    return str(found) if as_text and found is not None else found


def _with_ids(records: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Copies with ids of one kind."""
    ids = [_id(item.get("id"), False) for item in records]
    for i, (item, found) in enumerate(zip(records, ids)):
        if found is None:
            raise ValueError(f"{key}[{i}].id is {kind(item.get('id'))}, neither a whole number nor text")
    if any(isinstance(found, str) for found in ids):
        ids = [str(found) for found in ids]
    first: dict[Id | None, int] = {}
    for i, found in enumerate(ids):
        if first.setdefault(found, i) != i:
            raise ValueError(f"{key}[{i}].id is {found}, which an earlier one has too")
    return [{**item, "id": found} for item, found in zip(records, ids)]


def _named(records: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    for i, item in enumerate(records):
        name = item.get("name")
        if isinstance(name, int) and not isinstance(name, bool):
            item["name"] = str(name)
        elif name is not None and not isinstance(name, str):
            raise ValueError(f"{key}[{i}].name is {kind(name)}, not text")
        elif not name or not name.strip():
            raise ValueError(f"{key}[{i}] has no name")
    return records


def _refuse_twice(records: Sequence[dict[str, Any]], key: str) -> None:
    seen: dict[str, int] = {}
    for i, item in enumerate(records):
        clean = clean_name(item["name"])
        if clean in seen:
            raise ValueError(f"{key}[{seen[clean]}] and {key}[{i}] are both named {clean!r}")
        seen[clean] = i


def _drop_unused(content: Content, *, placeholders: bool) -> None:
    """Leave out one of two categories of one name, if no object has it, and placeholders if that is asked for.

    A placeholder is what Roboflow puts first, a category for the project itself, which no object has. It has the id 0
    and the supercategory "none", as no other category has. Detections may be given in its place, so judging keeps it.
    """
    categories = content.data["categories"]
    used = {item["category_id"] for item in content.data["annotations"]}
    rootless = [item for item in categories if str(item.get("supercategory")).lower() == "none"]
    placeholders = placeholders and len(rootless) == 1 and len(categories) > 1
    names = Counter(clean_name(item["name"]) for item in categories)
    kept = []
    for item in categories:
        name, unused = clean_name(item["name"]), item["id"] not in used
        placeholder = placeholders and str(item["id"]) == "0" and rootless[0] is item
        if unused and (placeholder or names[name] > 1):
            names[name] -= 1
            content.notes.append(f"the category {name!r} (id {item['id']}) is that of no object and left out")
        else:
            kept.append(item)
    content.data["categories"] = kept


def _frames(data: Mapping[str, Any], images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check what images say of their place in a video, if anything, and return the videos."""
    videos = _named(_with_ids(_records(data, "videos") if "videos" in data else [], "videos"), "videos")
    _refuse_twice(videos, "videos")
    video_ids = {item["id"] for item in videos}
    as_text = any(isinstance(video_id, str) for video_id in video_ids)
    taken: dict[tuple[Id, int], int] = {}
    for i, item in enumerate(images):
        frame = item.get("frame_id")
        if item.get("video_id") is None and frame is None:
            continue
        if item.get("video_id") is None:
            raise ValueError(f"images[{i}] has a frame_id, but no video_id to say which strip it is of")
        video = _id(item["video_id"], as_text)
        if video is None or video not in video_ids:
            raise ValueError(f"images[{i}].video_id is {kind(item['video_id'])}, which none of the videos has")
        item["video_id"] = video
        if isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame <= 1e9:
            raise ValueError(f"images[{i}].frame_id is {kind(frame)}, not a whole number from 0 on")
        first = taken.setdefault((video, frame), i)
        if first != i:
            raise ValueError(f"images[{first}] and images[{i}] are both frame {frame} of video {video}")
        condition, origin = item.get("condition", "clean"), item.get("origin_xy")
        if not isinstance(condition, str) or not condition.strip():
            raise ValueError(f"images[{i}].condition is {kind(condition)}, not a word such as 'clean'")
        if origin is not None and (not isinstance(origin, list) or len(origin) != 2):
            raise ValueError(f"images[{i}].origin_xy is {kind(origin)}, not a list of the two numbers x, y")
        for value in origin or ():
            _finite(value, f"images[{i}].origin_xy")
    return videos


def _plainly_right(item: dict[str, Any], image_ids: Mapping[Id, Any], category_ids: set[Id]) -> bool:
    """A fast check for the usual case, as there may be millions; all others go through ``_annotation``."""
    bbox, area = item.get("bbox"), item.get("area", 0)
    return (
        type(item.get("image_id")) is int
        and type(item.get("category_id")) is int
        and item["image_id"] in image_ids
        and item["category_id"] in category_ids
        and type(bbox) is list
        and len(bbox) == 4
        and all((type(value) is float or type(value) is int) and -1e9 <= value <= 1e9 for value in (*bbox, area))
        and area >= 0
        and item.get("iscrowd", 0) in (0, 1)
        and item.get("difficult", 0) in (0, 1)
        and not item.get("attributes")
    )


def _annotation(item: dict[str, Any], where: str, images: Mapping[Id, dict[str, Any]], category_ids: set[Id]) -> str:
    """Bring an annotation into the one form, and name the shape that its box encloses, "" if it has a box.

    Raises:
        ValueError: what makes it unusable, in words.
    """
    for key, known, owners in ("image_id", images, "images"), ("category_id", category_ids, "categories"):
        if item[key] is None:
            raise ValueError(f"{where}.{key} is missing, or neither a whole number nor text")
        if item[key] not in known:
            raise ValueError(f"{where}.{key} is {item[key]}, which none of the {owners} has")
    bbox, shape = item.get("bbox"), ""
    if bbox is None or bbox == []:
        shape, (x1, y1, x2, y2) = _around_segmentation(item.get("segmentation"), images[item["image_id"]], where)
        item["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    elif not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"{where}.bbox is {kind(bbox)}, not a list of the four numbers x, y, width, height")
    else:
        item["bbox"] = [_finite(value, f"{where}.bbox") for value in bbox]
    x, y, width, height = item["bbox"]
    angle = _rotation(item)
    if angle and width > 0 and height > 0:  # else the audit says what is wrong with it
        image = images[item["image_id"]]
        around = enclosing_rotated((x, y, x + width, y + height), angle)
        x1, y1, x2, y2 = clipped(around, image["width"] or math.inf, image["height"] or math.inf)
        shape, item["bbox"] = "rotated box", [x1, y1, x2 - x1, y2 - y1]
    if "area" in item:
        area = _number(item["area"])
        item["area"] = item["bbox"][2] * item["bbox"][3] if area is None or area < 0 else area
    for key in ("iscrowd", "difficult"):
        given = item.get(key)
        is_empty = given is None or given == "" or given != given  # NaN is what tables write for an empty cell
        value = 0 if is_empty else _number(given)
        if value not in (0, 1):
            raise ValueError(f"{where}.{key} is {reprlib.repr(given)}, neither 0 nor 1")
        if key in item:
            item[key] = int(value)
    return shape


def _around_segmentation(segmentation: Any, image: Mapping[str, Any], where: str) -> tuple[str, Xyxy]:
    """The box around polygons, or around a mask in COCO's run lengths."""
    if not segmentation:
        raise ValueError(f"{where}.bbox is missing, and so is its segmentation")
    if isinstance(segmentation, dict):
        try:
            return "mask", _around_mask(segmentation, image)
        except ValueError as error:
            raise ValueError(f"{where}.bbox is missing, and its mask can't be read ({error})") from None
    polygons = segmentation if isinstance(segmentation, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]  # a single polygon without the outer list
    points: list[tuple[float, float]] = []
    for polygon in polygons:
        values = [_finite(value, f"{where}.segmentation") for value in polygon] if isinstance(polygon, list) else []
        if len(values) % 2:
            raise ValueError(f"{where}.bbox is missing, and its segmentation has a polygon with an x without a y")
        points += zip(values[0::2], values[1::2])
    if not points:
        raise ValueError(f"{where}.bbox is missing, and its segmentation is {kind(segmentation)}, no polygon")
    return "polygon", enclosing(points)


def _around_mask(segmentation: Mapping[str, Any], image: Mapping[str, Any]) -> Xyxy:
    """The box around a mask in run lengths, which go down the columns and begin with a run outside of it.

    Raises:
        ValueError: the runs don't fill the mask, which has to be as large as its image, or hold nothing.
    """
    size = segmentation.get("size")
    height, width = map(_number, size) if isinstance(size, list) and len(size) == 2 else (None, None)
    if not height or not width or height != int(height) or width != int(width):
        raise ValueError(f"its size is {kind(size)}, not height and width")
    if any(image.get(key) not in (None, 0, side) for key, side in (("height", height), ("width", width))):
        raise ValueError(f"it has {width:g} x {height:g} pixels, its image {image['width']} x {image['height']}")
    counts = segmentation.get("counts")
    try:
        runs = np.array(_run_lengths(counts) if isinstance(counts, str) else counts or [], dtype=np.float64)
    except TypeError:
        raise ValueError("its run lengths are no numbers") from None
    if runs.ndim != 1 or (runs < 0).any() or (runs != np.floor(runs)).any() or runs.sum() != height * width:
        raise ValueError("its run lengths don't fill it")
    ends = np.cumsum(runs)
    first, last = ends[0::2][: len(ends) // 2], ends[1::2] - 1  # positions of the first and last pixel of each run
    is_run = last >= first
    first, last = first[is_run], last[is_run]
    if not len(first):
        raise ValueError("it is empty")
    in_one_column = first // height == last // height
    y1 = np.where(in_one_column, first % height, 0).min()
    y2 = np.where(in_one_column, last % height, height - 1).max()
    return float(first[0] // height), float(y1), float(last[-1] // height + 1), float(y2 + 1)


def _run_lengths(text: str) -> list[int]:
    """Of COCO's compressed form: five bits in each character, the sixth says that more follow; from the fourth number
    on, each is the difference to the last but one before it.
    """
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("its run lengths are damaged")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut short")
    return runs


def _rotation(item: Mapping[str, Any]) -> float:
    """Degrees by which CVAT has rotated the rectangle of an annotation about its centre; ``bbox`` is as before that."""
    attributes = item.get("attributes")
    angle = attributes.get("rotation") if isinstance(attributes, dict) and not item.get("segmentation") else None
    return (_number(angle) or 0.0) % 360


def _records(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    if key not in data:
        raise ValueError(f"the key {key!r} is missing")
    records = data[key]
    if not isinstance(records, list):
        raise ValueError(f"{key} is {kind(records)}, not a list")
    for i, item in enumerate(records):
        if not isinstance(item, dict):
            raise ValueError(f"{key}[{i}] is {kind(item)}, not an object")
    return records


def _number(value: Any) -> float | None:
    """A finite number, also one written as text or as true; None of anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)) or abs(value) > 1e9 or not math.isfinite(value):
        return None
    return value


def _finite(value: Any, where: str) -> float:
    found = None if isinstance(value, bool) else _number(value)
    if found is not None:
        return found
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where} holds {kind(value)}, not a number")
    raise ValueError(f"{where} holds {value if isinstance(value, float) else 'a giant number'}, which can't be right")


def _scan_file(path: Path, folders: Sequence[Path], part: str, options: ReadOptions) -> Reading:
    try:
        content = _content(path)
    except DataError as error:
        return Reading((), (), (Finding("unreadable label file", "error", path, sentence(error)),))
    data = content.data
    names = {item["id"]: clean_name(item["name"]) for item in data["categories"]}
    objects: dict[Id, list[int]] = defaultdict(list)
    for position, item in enumerate(data["annotations"]):
        objects[item["image_id"]].append(position)
    strips = {item["id"]: clean_name(item["name"]) for item in data.get("videos", [])}

    find = ImageFinder(path, folders, root=_image_root(data))
    missing: list[Finding] = []
    findings: list[Finding] = []
    entries: list[Entry] = []
    paths: dict[Id, Path] = {}
    for item in data["images"]:
        try:
            image_path = find(item["file_name"])
        except UnusableNameError as error:
            named = "" if error.kind == OUTSIDE else f"{item['file_name']}: "
            missing.append(Finding(error.kind, "error", path, named + sentence(error)))
            continue
        image = sized(image_path, options, missing)
        if image is None:
            continue
        boxes = tuple(
            _box(data["annotations"][i], names, image, content.shapes.get(i, "")) for i in objects[item["id"]]
        )
        entries.append(Entry(replace(image, boxes=boxes, frame=_frame(item, strips)), path, part))
        paths[item["id"]] = image_path
        findings += size_mismatch(path, image, _size_of(item, image))
    findings += none_found(path, find, missing) or missing
    for image_id, fault in content.faults:
        image_of = None if image_id is None else paths.get(image_id)
        findings.append(Finding("broken object", "error", path, f"{fault}; {FIX}", image=image_of))
    findings += [*about_names(path, find), *_about_shapes(path, content)]
    findings += [Finding("category left out", "note", path, note) for note in content.notes]
    findings += [Finding("annotation id twice", "warning", path, text) for text in content.warnings]
    return Reading(tuple(entries), tuple(names.values()), tuple(findings))


def _about_shapes(path: Path, content: Content) -> Iterator[Finding]:
    """Findings on outlines and rotated boxes, which become upright boxes, and on masks that count for nothing."""
    annotations = content.data["annotations"]
    shapes = Counter(content.shapes.values())
    rotated = shapes.pop("rotated box", 0)
    if rotated:
        are = counted(rotated, "rectangle is", "rectangles are")
        message = f"{are} rotated; the upright box around each is used, which holds more than the object"
        yield Finding("rotated boxes", "warning", path, message)
    yield from Converted(shapes).findings(path)
    outlines = sum(bool(item.get("segmentation")) for item in annotations) - sum(shapes.values())
    if outlines:
        has = counted(outlines, "object has", "objects have")
        yield Finding("outlines left out", "note", path, f"{has} an outline or a mask; only boxes are used")
    crowds = sum(isinstance(item.get("segmentation"), dict) and item.get("iscrowd") == 1 for item in annotations)
    if crowds:
        are = counted(crowds, "object is a mask", "objects are masks")
        message = (
            f"{are} with iscrowd set, which an evaluation counts neither as hit nor as miss; CVAT sets it on all that "
            "is drawn with its brush, so draw rectangles or polygons if these are defects"
        )
        yield Finding("masks are crowd", "warning", path, message)


def _image_root(data: Mapping[str, Any]) -> str | None:
    """Where the file says that its names start from; only pre-annotations of this library do."""
    info = data.get("info")
    root = info.get(IMAGE_ROOT) if isinstance(info, dict) else None
    return root if isinstance(root, str) and "\0" not in root else None


def _size_of(item: Mapping[str, Any], image: Image) -> tuple[float, float]:
    width, height = item.get("width"), item.get("height")
    return image.width if width is None else width, image.height if height is None else height


def _merged(readings: Sequence[Reading]) -> Reading:
    """Several files as one; their categories are united by name, in the order of the first file that has them."""
    entries = tuple(entry for reading in readings for entry in reading.entries)
    names = dict.fromkeys(name for reading in readings for name in reading.categories)
    findings = [finding for reading in readings for finding in reading.findings]
    return Reading(entries, tuple(names), (*findings, *_frames_twice(entries)))


def _frames_twice(entries: Sequence[Entry]) -> list[Finding]:
    """Errors about frames that are in two files; within one file they were checked already."""
    findings: list[Finding] = []
    first: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        frame = entry.image.frame
        other = first.setdefault((frame.strip, frame.number), entry) if frame else entry
        if frame and other is not entry:
            message = (
                f"{entry.image.path.name} is frame {frame.number} of strip {frame.strip!r}, as {other.image.path.name} "
                f"is in {other.label_file.name}; give strips of different files different names"
            )
            findings.append(Finding("same frame twice", "error", entry.label_file, message, (other.label_file,)))
    return findings


def _box(item: Mapping[str, Any], names: Mapping[Id, str], image: Image, shape: str) -> Box:
    x, y, width, height = (float(value) for value in item["bbox"])
    xyxy = clip_rounded((x, y, x + width, y + height), shape, image.width, image.height)
    flags = bool(item.get("difficult", 0)), bool(item.get("iscrowd", 0))
    return Box(names[item["category_id"]], xyxy, *flags, score_of(item.get("score")))


def _frame(item: Mapping[str, Any], strips: Mapping[Id, str]) -> Frame | None:
    if item.get("video_id") is None:
        return None
    origin = item.get("origin_xy")
    origin_xy = None if origin is None else (float(origin[0]), float(origin[1]))
    return Frame(strips[item["video_id"]], item["frame_id"], origin_xy, clean_name(item.get("condition", "clean")))


def to_dict(dataset: Dataset, root: Path) -> dict[str, Any]:
    """COCO's structure as plain values.

    Image ids are 1..N in the data set's order and category ids 1-based positions in its categories.
    Beyond the standard, each annotation has ``difficult``, 0 or 1, and a pre-annotation its ``score``. Frames of strips
    are given as video data sets do: ``videos`` with id (1..M) and name, and images with ``video_id`` and ``frame_id``;
    and beyond these ``condition`` and, where it is known, ``origin_xy``.

    Args:
        dataset: images and their boxes.
        root: folder that image paths are relative to, with forward slashes.
    """
    ids = dataset.category_ids()
    names = references([image.path for image in dataset.images], root)
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(dataset.images, start=1):
        for box in image.boxes:
            x1, y1, x2, y2 = box.xyxy
            width, height = x2 - x1, y2 - y1
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": ids[box.label],
                "bbox": [_plain(value) for value in (x1, y1, width, height)],
                "area": _plain(width * height),
                "iscrowd": int(box.crowd),
                "segmentation": [],  # CVAT refuses annotations without this key
                "difficult": int(box.difficult),
                **({} if box.score is None else {"score": box.score}),
            }
            annotations.append(annotation)
    strips = dict.fromkeys(image.frame.strip for image in dataset.images if image.frame)
    video_ids = {name: i for i, name in enumerate(strips, start=1)}
    return {
        "info": {"description": "Surface defects, boxes in pixels"},
        "licenses": [],
        **({"videos": [{"id": i, "name": name} for name, i in video_ids.items()]} if video_ids else {}),
        "images": [
            {"id": i, "file_name": name, "width": image.width, "height": image.height, **_place(image, video_ids)}
            for i, (name, image) in enumerate(zip(names, dataset.images), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()],
    }


def _place(image: Image, video_ids: Mapping[str, int]) -> dict[str, Any]:
    """The keys that only a frame of a strip has."""
    frame = image.frame
    if frame is None:
        return {}
    place: dict[str, Any] = {"video_id": video_ids[frame.strip], "frame_id": frame.number, "condition": frame.condition}
    if frame.origin_xy is not None:
        place["origin_xy"] = [_plain(value) for value in frame.origin_xy]
    return place


def _plain(value: float) -> float | int:
    """Whole numbers without a decimal point, others without rounding errors of a subtraction."""
    value = round(value, 9)
    return int(value) if value == int(value) else float(value)
