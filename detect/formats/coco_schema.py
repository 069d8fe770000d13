"""What makes a file COCO: the keys, types and ids that everything else relies on, checked once."""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import DataError
from .json_text import kind, load_json

FIX = "correct the file or write it anew with `detect convert`"


def load(path: Path) -> dict[str, Any]:
    """Read and check a COCO data set; foreign ids, gaps in them and extra keys are kept as they are.

    Raises:
        DataError: missing, no JSON, a key or type that is wrong, an id used twice or pointing nowhere,
            a number that is not finite.
    """
    data = load_json(path, fix=FIX)
    try:
        check(data)
    except RecursionError:  # it could just be read, but not be told
        raise DataError("the JSON can't be read (it is nested too deeply)", where=path, fix=FIX) from None
    except ValueError as error:
        raise DataError(str(error), where=path, fix=FIX) from None
    return dict(data)


def check(data: Any) -> None:
    """Raise ValueError, in words, for the first thing that makes ``data`` unusable as a COCO data set."""
    if not isinstance(data, dict):
        raise ValueError(f"the outermost value is {kind(data)}, not an object with images, annotations and categories")
    images, categories, annotations = (_records(data, key) for key in ("images", "categories", "annotations"))
    image_ids = _ids(images, "images")
    category_ids = _ids(categories, "categories")
    _ids(annotations, "annotations", optional=True)
    for i, item in enumerate(images):
        name = item.get("file_name")
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise ValueError(f"images[{i}] has no file_name")
        for key in ("width", "height"):
            if item.get(key) is not None:  # null is what Label Studio tells of pictures it has not seen
                _finite(item[key], f"images[{i}].{key}")
    _names(categories, "categories")
    _frames(data, images)
    for i, item in enumerate(annotations):
        if not _plainly_right(item, image_ids, category_ids):
            _annotation(item, f"annotations[{i}]", image_ids, category_ids)


def _names(records: list[dict[str, Any]], key: str) -> None:
    seen: dict[str, int] = {}
    for i, item in enumerate(records):
        name = item.get("name")
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{key}[{i}] has no name")
        clean = " ".join(name.split())
        if clean in seen:
            raise ValueError(f"{key}[{seen[clean]}] and {key}[{i}] are both named {clean!r}")
        seen[clean] = i


def _frames(data: dict[str, Any], images: list[dict[str, Any]]) -> None:
    """What an image may tell of its place in a video; images that tell nothing are stills."""
    videos = _records(data, "videos") if "videos" in data else []
    video_ids = _ids(videos, "videos")
    _names(videos, "videos")
    taken: dict[tuple[int, int], int] = {}
    for i, item in enumerate(images):
        video, frame = item.get("video_id"), item.get("frame_id")
        if video is None and frame is None:
            continue
        if video is None:
            raise ValueError(f"images[{i}] has a frame_id, but no video_id to say which strip it is of")
        if not _is_id(video) or video not in video_ids:
            raise ValueError(f"images[{i}].video_id is {kind(video)}, which none of the videos has")
        if not _is_id(frame) or not 0 <= frame <= 1e9:
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


def _plainly_right(item: dict[str, Any], image_ids: set[int], category_ids: set[int]) -> bool:
    """The usual case at a glance, as there may be millions; whatever else there is has to be looked at closely."""
    bbox, area = item.get("bbox"), item.get("area", 0)
    return (
        type(item.get("image_id")) is int
        and type(item.get("category_id")) is int
        and item["image_id"] in image_ids
        and item["category_id"] in category_ids
        and type(bbox) is list
        and len(bbox) == 4
        and all((type(value) is float or type(value) is int) and -1e9 <= value <= 1e9 for value in (*bbox, area))
        and item.get("iscrowd", 0) in (0, 1)
        and item.get("difficult", 0) in (0, 1)
    )


def _annotation(item: dict[str, Any], where: str, image_ids: set[int], category_ids: set[int]) -> None:
    for key, known in (("image_id", image_ids), ("category_id", category_ids)):
        if not _is_id(item.get(key)):
            raise ValueError(f"{where}.{key} is {kind(item.get(key))}, not a whole number")
        if item[key] not in known:
            raise ValueError(
                f"{where}.{key} is {item[key]}, which none of the {'images' if key == 'image_id' else 'categories'} has"
            )
    bbox = item.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"{where}.bbox is {kind(bbox)}, not a list of the four numbers x, y, width, height")
    for value in bbox:
        _finite(value, f"{where}.bbox")
    if "area" in item:
        _finite(item["area"], f"{where}.area")
    for key in ("iscrowd", "difficult"):
        if item.get(key, 0) not in (0, 1):
            raise ValueError(f"{where}.{key} is {reprlib.repr(item[key])}, neither 0 nor 1")


def _records(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    if key not in data:
        raise ValueError(f"the key {key!r} is missing")
    records = data[key]
    if not isinstance(records, list):
        raise ValueError(f"{key} is {kind(records)}, not a list")
    for i, item in enumerate(records):
        if not isinstance(item, dict):
            raise ValueError(f"{key}[{i}] is {kind(item)}, not an object")
    return records


def _ids(records: list[dict[str, Any]], key: str, *, optional: bool = False) -> set[int]:
    ids: set[int] = set()
    for i, item in enumerate(records):
        if optional and "id" not in item:
            continue
        value = item.get("id")
        if not _is_id(value):
            raise ValueError(f"{key}[{i}].id is {kind(value)}, not a whole number")
        if value in ids:
            raise ValueError(f"{key}[{i}].id is {value}, which an earlier one has too")
        ids.add(value)
    return ids


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where} holds {kind(value)}, not a number")
    if abs(value) > 1e9 or not math.isfinite(value):  # also keeps float() of a giant integer from overflowing
        raise ValueError(
            f"{where} holds {value if isinstance(value, float) else 'a giant number'}, which can't be right"
        )
