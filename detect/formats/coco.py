"""COCO JSON, one file a part; boxes are x, y, width, height in pixels from 0, ids count from 1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..records import Box, Dataset, Finding, Frame, Image, Xyxy
from .coco_images import OUTSIDE, ImageFinder, UnusableNameError, about_names
from .coco_schema import load
from .coco_shapes import about_shapes, turned_by, upright_around
from .coco_values import IMAGE_ROOT, to_dict
from .files import natural_key, write_json
from .json_text import holds_keys
from .reading import Entry, Reading, clean_name, score_of, sentence, size_mismatch, sized

__all__ = ["IMAGE_ROOT", "files", "in_ids_of", "load", "looks_like_coco", "read", "scan", "to_dict", "write"]


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
    readings = [_scan_file(file, [images] if images else []) for file in found]
    return _merged(readings).dataset()


def scan(sources: Sequence[Path]) -> Reading:
    """Read JSON files, or those in folders; the file's name without suffix is the part's name.

    Folders without a JSON file of COCO's shape are taken for folders of the images.

    Raises:
        DataError: a source does not exist, or none of them holds COCO JSON.
    """
    label_files: list[Path] = []
    folders: list[Path] = []
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
        found = files(source) if source.is_dir() else [source]
        label_files += found
        folders += [] if found else [source]
    if not label_files:
        places = ", ".join(map(str, folders))
        raise DataError("no JSON file of COCO's shape in it", where=places, fix="name the file itself")
    reading = _merged([_scan_file(file, folders) for file in label_files])
    for folder in folders if reading.entries else ():
        if not any(entry.image.path.is_relative_to(folder.resolve()) for entry in reading.entries):
            useless = "no JSON file of COCO's shape in it, and none of the images that the others tell of"
            raise DataError(useless, where=folder, fix="check the path, or leave it out")
    return reading


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>.json``; images stay where they are and are referenced from there."""
    out.mkdir(parents=True, exist_ok=True)
    written = {part: out / f"{part}.json" for part in parts}
    for part, dataset in parts.items():
        write_json(written[part], to_dict(dataset, out))
    return written


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
    """JSON files that hold a COCO data set: right in a folder, or in its ``annotations`` as CVAT has them."""
    for place in (folder, folder / "annotations"):
        found = sorted(place.glob("*.json"), key=lambda path: natural_key(path.name))
        told = [path for path in found if not path.name.startswith(".") and looks_like_coco(path)]
        if told:
            return told
    return []


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's keys."""
    return holds_keys(path, "images", "annotations", "categories")


def _scan_file(path: Path, folders: Sequence[Path]) -> Reading:
    try:
        data = load(path)
    except DataError as error:
        return Reading((), (), (Finding("unreadable label file", "error", path, sentence(error)),))
    names = {item["id"]: clean_name(item["name"]) for item in data["categories"]}
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in data["annotations"]:
        objects[item["image_id"]].append(item)
    strips = {item["id"]: clean_name(item["name"]) for item in data.get("videos", [])}

    find = ImageFinder(path, folders, told=_told_folder(data))
    findings: list[Finding] = []
    entries: list[Entry] = []
    for item in data["images"]:
        try:
            image_path = find(item["file_name"])
        except UnusableNameError as error:
            named = "" if error.kind == OUTSIDE else f"{item['file_name']}: "
            findings.append(Finding(error.kind, "error", path, named + sentence(error)))
            continue
        image = sized(image_path, (), findings)
        if image is None:
            continue
        boxes = tuple(_box(each, names, image) for each in objects[item["id"]])
        image = replace(image, boxes=boxes, frame=_frame(item, strips))
        entries.append(Entry(image, path, path.stem))
        told = size_mismatch(path, image, _told_size(item, image))
        findings += [told] if told else []
    if len(findings) > 1 and all(finding.kind in ("missing image", OUTSIDE) for finding in findings):
        findings = [_no_image(path, find, findings)]
    findings += [*about_names(path, find), *about_shapes(path, data)]
    return Reading(tuple(entries), tuple(names.values()), tuple(findings))


def _told_folder(data: Mapping[str, Any]) -> str | None:
    """Where the file says that its names start from; only drafts of this library tell."""
    info = data.get("info")
    told = info.get(IMAGE_ROOT) if isinstance(info, dict) else None
    return told if isinstance(told, str) and "\0" not in told else None


def _told_size(item: Mapping[str, Any], image: Image) -> tuple[float, float]:
    width, height = item.get("width"), item.get("height")
    return image.width if width is None else width, image.height if height is None else height


def _no_image(path: Path, find: ImageFinder, missing: Sequence[Finding]) -> Finding:
    """One finding in place of one an image, where the labels came without any."""
    remedy = "name the images' folder, too, after this file"
    outside = [finding.message for finding in missing if finding.kind == OUTSIDE]
    others = [finding.path for finding in missing if finding.kind != OUTSIDE]
    if outside:
        message = f"none of its {len(missing):,} images is there; {remedy}; {outside[0]}"
        return Finding(OUTSIDE, "error", path, message, others)
    places = ", ".join(map(str, dict.fromkeys(find.places)))
    message = f"none of its {len(missing):,} images is there ({others[0].name} was looked for in {places}); {remedy}"
    return Finding("missing image", "error", path, message, others)


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


def _box(item: dict[str, Any], names: dict[int, str], image: Image) -> Box:
    x, y, width, height = (float(value) for value in item["bbox"])
    xyxy: Xyxy = (x, y, x + width, y + height)
    turn = turned_by(item)
    if turn and width > 0 and height > 0:  # else the audit says what is wrong with it
        xyxy = upright_around(xyxy, turn, image.width, image.height)
    flags = bool(item.get("difficult", 0)), bool(item.get("iscrowd", 0))
    return Box(names[item["category_id"]], xyxy, *flags, score_of(item.get("score")))


def _frame(item: dict[str, Any], strips: dict[int, str]) -> Frame | None:
    if item.get("video_id") is None:
        return None
    origin = item.get("origin_xy")
    origin_xy = None if origin is None else (float(origin[0]), float(origin[1]))
    return Frame(strips[item["video_id"]], item["frame_id"], origin_xy, clean_name(item.get("condition", "clean")))
