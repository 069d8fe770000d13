"""Labels and detections are checked before they are judged: what does not fit is refused with its likely cause."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..errors import DataError
from .mismatch import category_mismatch, image_mismatch
from .records import Found, JudgedImage, Truth


def check_truth(truth: dict[str, Any]) -> Truth:
    """Labels of a COCO data set as arrays; the given dict is left as it is.

    A missing ``area`` becomes width x height, a missing ``iscrowd`` 0. Ids of annotations are not used: pycocotools
    takes a match with id 0 for none, and of equal ids keeps only one.

    Raises:
        DataError: not a COCO data set, ids twice or unknown, or a box that is no box.
    """
    images, annotations, categories = (_list(truth, key) for key in ("images", "annotations", "categories"))
    if not images:
        raise DataError("the labels hold no image", where="images", fix="give the data set that was detected on")
    image_position = _positions(images, "images")
    category_position = _positions(categories, "categories")
    by_id = {c["id"]: str(c.get("name", c["id"])) for c in categories}
    names = tuple(by_id[i] for i in category_position)
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"two categories are named {twice!r}", where="categories", fix="give each its own name")

    boxes: list[list[float]] = []
    areas: list[float] = []
    for i, annotation in enumerate(annotations):
        where = f"annotations[{i}]"
        for key, known in (("image_id", image_position), ("category_id", category_position)):
            if _get(annotation, key, where) not in known:
                fix = f"add it to {'images' if key == 'image_id' else 'categories'} or drop the annotation"
                raise DataError(f"{key} {annotation[key]!r} is not in the labels", where=where, fix=fix)
        boxes.append(_box(annotation, where))
        given = annotation.get("area")
        areas.append(boxes[-1][2] * boxes[-1][3] if given is None else _number(given, "area", where))
        if areas[-1] < 0:
            raise DataError(f"the area {given:g} is negative", where=where, fix="leave it out: the box tells it")
    sized = {i["id"]: i for i in images}
    return Truth(
        images=tuple(_image(sized[i]) for i in image_position),
        category_ids=tuple(category_position),
        categories=names,
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        area=np.array(areas, dtype=np.float64),
        image=np.array([image_position[a["image_id"]] for a in annotations], dtype=np.int64),
        category=np.array([category_position[a["category_id"]] for a in annotations], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
    )


def check_detections(detections: Sequence[dict[str, Any]], truth: Truth) -> Found:
    """COCO results as arrays; an empty list is a detector that found nothing.

    Boxes may reach beyond the image, as those of many detectors do, but have no negative side.

    Raises:
        DataError: ids that are not in the truth, with the likely cause, or a box or score that is none, by index.
    """
    if isinstance(detections, dict) or not isinstance(detections, Sequence):
        found = f"detections are a list of COCO results, not {_kind(detections)}"
        fix = 'give [{"image_id": ..., "category_id": ..., "bbox": [x, y, width, height], "score": ...}, ...]'
        raise DataError(found, fix=fix)
    boxes, scores = [], []
    for i, detection in enumerate(detections):
        where = f"detection {i}"
        for key in ("image_id", "category_id"):
            _get(detection, key, where)
        boxes.append(_box(detection, where))
        score = _number(_get(detection, "score", where), "score", where)
        if score < 0 or score > 1:
            side = "negative" if score < 0 else "above 1"
            raise DataError(f"the score {score:g} is {side}", where=where, fix="scores go from 0 to 1: rescale them")
        scores.append(score)
    image_position = {image.id: i for i, image in enumerate(truth.images)}
    category_position = {category: k for k, category in enumerate(truth.category_ids)}
    _refuse_unknown(detections, "image_id", image_position, image_mismatch)
    _refuse_unknown(detections, "category_id", category_position, category_mismatch)
    return Found(
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float64),
        image=np.array([image_position[d["image_id"]] for d in detections], dtype=np.int64),
        category=np.array([category_position[d["category_id"]] for d in detections], dtype=np.int64),
    )


def _refuse_unknown(
    detections: Sequence[dict[str, Any]],
    key: str,
    known: dict[Any, int],
    explain: Callable[[list[Any], list[Any]], DataError],
) -> None:
    used = list(dict.fromkeys(d[key] for d in detections))
    if any(i not in known for i in used):
        raise explain(used, list(known))


def _list(truth: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(truth, dict):
        fix = 'give {"images": [...], "annotations": [...], "categories": [...]}'
        raise DataError(f"the labels are a COCO data set, not {_kind(truth)}", fix=fix)
    if not isinstance(truth.get(key), list):
        have = ", ".join(islice(map(str, truth), 6)) or "nothing"
        raise DataError(f"the labels have no list {key!r}, only {have}", fix="give a COCO data set with its labels")
    values: list[dict[str, Any]] = truth[key]
    return values


def _positions(entries: list[dict[str, Any]], key: str) -> dict[Any, int]:
    """Id -> position by sorted id."""
    ids = [_get(entry, "id", f"{key}[{i}]") for i, entry in enumerate(entries)]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"id {twice!r} stands there twice", where=key, fix="give each entry its own id")
    if len({isinstance(i, str) for i in ids}) > 1:
        raise DataError("some ids are text and some are numbers", where=key, fix="use one of both")
    return {i: position for position, i in enumerate(sorted(ids))}


def _image(entry: dict[str, Any]) -> JudgedImage:
    sides = [entry.get(key) or None for key in ("width", "height")]  # some programs write 0 for what they don't know
    width, height = (None if side is None else int(_number(side, "size", f"image {entry['id']!r}")) for side in sides)
    return JudgedImage(id=entry["id"], file_name=str(entry.get("file_name", entry["id"])), width=width, height=height)


def _get(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        have = f"only {', '.join(map(str, entry))}" if isinstance(entry, dict) and entry else f"it is {_kind(entry)}"
        raise DataError(f"there is no {key!r} ({have})", where=where, fix="write it as in the COCO format")
    value = entry[key]
    usable = isinstance(value, (int, str, float, np.integer)) and not isinstance(value, bool) and value == value
    if key.endswith("id") and not usable:
        raise DataError(f"{key!r} is {reprlib.repr(value)}", where=where, fix="ids are numbers or text")
    return value


def _box(entry: dict[str, Any], where: str) -> list[float]:
    given = _get(entry, "bbox", where)
    if not isinstance(given, (list, tuple, np.ndarray)) or len(given) != 4:
        raise DataError(f"the box is {reprlib.repr(given)}", where=where, fix="give [x, y, width, height] in pixels")
    box = [_number(value, "box", where, whole=given) for value in given]
    if box[2] < 0 or box[3] < 0:
        fix = "give [x, y, width, height], not two corners"
        raise DataError(f"the box {_show(box)} has a negative side", where=where, fix=fix)
    return box


def _number(value: Any, what: str, where: str, whole: Any = None) -> float:
    shown = reprlib.repr(value) if whole is None else _show(whole)
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.number)):
        raise DataError(f"the {what} {shown!s} is not a number", where=where, fix="give plain numbers")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        kind = "NaN" if math.isnan(number) else "infinite"
        fix = "leave such detections out, and look for what made them"
        raise DataError(f"the {what} {shown!s} is {kind}", where=where, fix=fix)
    return number


def _show(box: Any) -> str:
    return "[" + ", ".join(f"{v:g}" if isinstance(v, float) else reprlib.repr(v) for v in box) + "]"


def _kind(value: Any) -> str:
    return "a JSON object" if isinstance(value, dict) else f"a {type(value).__name__}"
