"""COCO JSON, one file a part; boxes are x, y, width, height in pixels from 0, ids count from 1."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..records import Box, Dataset, Finding, Frame, Image, Xyxy
from .coco_schema import load
from .files import natural_key, write_json
from .reading import Entry, Reading, clean_name, sentence, size_mismatch, sized

__all__ = ["files", "in_ids_of", "load", "read", "scan", "to_dict", "write"]


def read(path: Path, *, images: Path | None = None) -> Dataset:
    """The data set of one JSON file (or of all those in a folder), images in the file's own order.

    Args:
        path: the JSON file.
        images: folder of the images; by default paths are relative to the JSON file, and where that
            fails its neighbours are tried (``images/``, ``../images/``, ``../train2017/``).

    Raises:
        DataError: no such file, broken JSON, an image that is missing or can't be read, a box without area.
    """
    found = files(path) if path.is_dir() else [path]
    readings = [_scan_file(file, images) for file in found]
    return _merged(readings).dataset()


def scan(sources: Sequence[Path]) -> Reading:
    """Read JSON files, or those in folders; the file's name without suffix is the part's name.

    Raises:
        DataError: a source does not exist or holds no COCO JSON.
    """
    readings = []
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
        found = files(source) if source.is_dir() else [source]
        if not found:
            raise DataError("no JSON file of COCO's shape in it", where=source, fix="name the file itself")
        readings += [_scan_file(file, None) for file in found]
    return _merged(readings)


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>.json``; images stay where they are and are referenced from there."""
    out.mkdir(parents=True, exist_ok=True)
    written = {part: out / f"{part}.json" for part in parts}
    for part, dataset in parts.items():
        write_json(written[part], to_dict(dataset, out))
    return written


def to_dict(dataset: Dataset, root: Path) -> dict[str, Any]:
    """COCO's structure as plain values.

    Image ids are 1..N in the data set's order and category ids 1-based positions in its categories.
    Beyond the standard, each annotation tells ``difficult``, 0 or 1. Frames of strips are told as video data sets do:
    ``videos`` with id (1..M) and name, and images with ``video_id`` and ``frame_id``; and beyond these ``condition``
    and, where it is known, ``origin_xy``.

    Args:
        dataset: images and their boxes.
        root: folder that image paths are told relative to, with forward slashes.
    """
    ids = dataset.category_ids()
    references = _references([image.path for image in dataset.images], root)
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
                "difficult": int(box.difficult),
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
            for i, (name, image) in enumerate(zip(references, dataset.images), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()],
    }


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


def files(folder: Path) -> list[Path]:
    """JSON files right in a folder that hold a COCO data set."""
    found = sorted(folder.glob("*.json"), key=lambda path: natural_key(path.name))
    return [path for path in found if not path.name.startswith(".") and _looks_like_coco(path)]


def _looks_like_coco(path: Path) -> bool:
    # A quick look for the keys; a file that has them but is broken is refused in words when it is read.
    text = path.read_bytes()
    return all(f'"{key}"'.encode() in text for key in ("images", "annotations", "categories"))


def _scan_file(path: Path, images: Path | None) -> Reading:
    try:
        data = load(path)
    except DataError as error:
        return Reading((), (), (Finding("unreadable label file", "error", path, sentence(error)),))
    names = {item["id"]: clean_name(item["name"]) for item in data["categories"]}
    boxes: dict[int, list[Box]] = defaultdict(list)
    for item in data["annotations"]:
        boxes[item["image_id"]].append(_box(item, names))

    strips = {item["id"]: clean_name(item["name"]) for item in data.get("videos", [])}

    findings: list[Finding] = []
    entries: list[Entry] = []
    find = _Finder(path, images)
    for item in data["images"]:
        image = sized(find(item["file_name"]), tuple(boxes[item["id"]]), findings)
        if image is None:
            continue
        image = replace(image, frame=_frame(item, strips))
        entries.append(Entry(image, path, path.stem))
        told = size_mismatch(path, image, (item.get("width", image.width), item.get("height", image.height)))
        findings += [told] if told else []
    return Reading(tuple(entries), tuple(names.values()), tuple(findings))


def _merged(readings: Sequence[Reading]) -> Reading:
    """Several files as one; their categories are united by name, in the order of the first file that has them."""
    entries = tuple(entry for reading in readings for entry in reading.entries)
    names = dict.fromkeys(name for reading in readings for name in reading.categories)
    findings = [finding for reading in readings for finding in reading.findings]
    return Reading(entries, tuple(names), (*findings, *_frames_twice(entries)))


def _frames_twice(entries: Sequence[Entry]) -> list[Finding]:
    """Errors about frames that two files claim; within one file its schema has seen to it."""
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


def _box(item: dict[str, Any], names: dict[int, str]) -> Box:
    x, y, width, height = (float(value) for value in item["bbox"])
    xyxy: Xyxy = (x, y, x + width, y + height)
    return Box(names[item["category_id"]], xyxy, bool(item.get("difficult", 0)), bool(item.get("iscrowd", 0)))


def _frame(item: dict[str, Any], strips: dict[int, str]) -> Frame | None:
    if item.get("video_id") is None:
        return None
    origin = item.get("origin_xy")
    origin_xy = None if origin is None else (float(origin[0]), float(origin[1]))
    return Frame(strips[item["video_id"]], item["frame_id"], origin_xy, clean_name(item.get("condition", "clean")))


def _place(image: Image, video_ids: Mapping[str, int]) -> dict[str, Any]:
    """The keys that only a frame of a strip has."""
    frame = image.frame
    if frame is None:
        return {}
    place: dict[str, Any] = {"video_id": video_ids[frame.strip], "frame_id": frame.number, "condition": frame.condition}
    if frame.origin_xy is not None:
        place["origin_xy"] = [_plain(value) for value in frame.origin_xy]
    return place


class _Finder:
    """Where the images of one JSON file lie: the first place that holds an image serves for all after it."""

    def __init__(self, json_file: Path, images: Path | None) -> None:
        here = json_file.parent.resolve()
        subset = json_file.stem.rpartition("_")[2]  # COCO's own annotations/instances_train2017.json
        near = [here, here / "images", here.parent, here.parent / "images", here.parent / subset]
        self.places = [images.resolve()] if images else near

    def __call__(self, file_name: str) -> Path:
        for name in dict.fromkeys([file_name, file_name.replace("\\", "/")]):
            for position, place in enumerate(self.places):
                path = Path(os.path.normpath(place / name))
                if path.exists():
                    self.places.insert(0, self.places.pop(position))
                    return path
        return Path(os.path.normpath(self.places[0] / file_name))


def _references(paths: Sequence[Path], root: Path) -> list[str]:
    """File names relative to ``root`` with forward slashes; absolute where no relative path leads there."""
    base = root.resolve()
    prefixes: dict[Path, Path] = {}
    for folder in {path.parent for path in paths}:
        # The folder's links are followed, the image's own are not: a link may carry the name that labels go by.
        real = folder.resolve()
        try:
            prefixes[folder] = Path(os.path.relpath(real, base))
        except ValueError:  # on another drive of Windows
            prefixes[folder] = real
    return [(prefixes[path.parent] / path.name).as_posix() for path in paths]


def _plain(value: float) -> float | int:
    """Whole numbers without a decimal point."""
    return int(value) if value == int(value) else float(value)
