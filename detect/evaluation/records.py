"""The data of an evaluation: labels and detections as flat arrays, checked before they are used.

Images and categories are numbered by position, 0-based, in the order of their sorted ids: pycocotools breaks ties
between equal scores in that order, so it is kept everywhere.
"""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

ImageId = int | str


@dataclass(frozen=True, slots=True)
class GroundTruthImage:
    """One image of the truth: its id, its file (relative to the truth's file) and its size in pixels, if known."""

    id: ImageId
    file_name: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Labels, one row per box, G in total.

    Attributes:
        images: by sorted id.
        category_ids, categories: ids and names, by sorted id.
        boxes_xywh: float64[G, 4], pixels.
        area: float64[G], square pixels, as given in the labels; it decides whether a box is small, medium or large.
        image, category: int64[G], positions in ``images`` and ``categories``.
        crowd: bool[G], regions that the evaluation ignores: neither hit nor miss.
    """

    images: tuple[GroundTruthImage, ...]
    category_ids: tuple[int, ...]
    categories: tuple[str, ...]
    boxes_xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DetectionArrays:
    """Detections, one row each, D in total, in the order given.

    Attributes:
        boxes_xywh: float64[D, 4], pixels.
        scores: float64[D], 0 to 1.
        image, category: int64[D], positions in the truth's images and categories.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Matches of detections and labels within a category, over all box sizes, at T = 10 IoUs of 0.50, 0.55, ..., 0.95.

    Detections are matched best score first, so a lower score threshold never changes the matches of higher scores.

    Attributes:
        order: int64[M], evaluated rows of ``DetectionArrays`` (the best 100 per image and category), sorted by
            category, then image, then descending score.
        matched_label: int64[T, M], row of ``GroundTruth`` that each one matches, -1 for none.
        ignored: bool[T, M], matched to a crowd region: neither hit nor false alarm.
        matched_detection: int64[T, G], row of ``DetectionArrays`` that matches each label, -1 for none.
    """

    order: NDArray[np.int64]
    matched_label: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    matched_detection: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class AreaRangeMatches:
    """Matches where only labels within one area range count.

    Attributes:
        matches: as over all sizes; ignored are also detections that match a label of another size, and unmatched
            detections of another size.
        to_find: bool[G], labels of this size that are no crowd regions.
    """

    matches: Matches
    to_find: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CocoEvaluation:
    """One run of pycocotools' COCOeval, from which every number is derived.

    Attributes:
        truth, found: labels and detections.
        matches: over all sizes.
        precision: float64[T, R, K, A, M], at R = 101 recalls 0, 0.01, ..., 1, for K categories, A = 4 sizes (all,
            small, medium, large) and M = 3 limits on detections per image and category (1, 10, 100); -1 where a
            category has no box of that size.
        recall: float64[T, K, A, M], likewise.
        sizes: small, medium and large boxes alone; empty where sizes weren't evaluated.
    """

    truth: GroundTruth
    found: DetectionArrays
    matches: Matches
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    sizes: tuple[AreaRangeMatches, ...] = ()

    @property
    def all_sizes(self) -> AreaRangeMatches:
        """The matches over all sizes, with the labels that count."""
        return AreaRangeMatches(self.matches, ~self.truth.crowd)


@dataclass(frozen=True, slots=True)
class Hit:
    """A label that a detection of its category covers with an IoU of at least 0.5; boxes are xyxy in pixels."""

    category: str
    score: float
    iou: float
    gt_xyxy: tuple[float, float, float, float]
    pred_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Miss:
    """A label that no detection of its category matched."""

    category: str
    gt_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A detection that matched no label of its category.

    Attributes:
        nearest: category of the label that it covers best, of any category; None where it touches none.
        iou: with that label, 0 where it touches none.
    """

    category: str
    score: float
    pred_xyxy: tuple[float, float, float, float]
    nearest: str | None
    iou: float


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """Hits, misses and false alarms of one image at the score threshold."""

    image: GroundTruthImage
    hits: tuple[Hit, ...]
    misses: tuple[Miss, ...]
    false_alarms: tuple[FalseAlarm, ...]
    crowd_xyxy: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The evaluation of a detector.

    Attributes:
        summary: the numbers of report.json, plain JSON values; None where there is nothing to measure.
        outcomes: one per image of the truth, by sorted id, at ``summary["score_threshold"]`` and an IoU of 0.5.
        detections: the evaluated detections as COCO results, with the truth's own ids.
        evaluated: the arrays from which all numbers are derived.
    """

    summary: dict[str, Any]
    outcomes: tuple[ImageOutcome, ...]
    detections: list[dict[str, Any]]
    evaluated: CocoEvaluation


def rows_by_image(image: NDArray[np.int64], images: int) -> list[NDArray[np.int64]]:
    """Rows of each image, in their order: ``images`` arrays of int64."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))


def groups_with_boxes(
    truth: GroundTruth, groups: Sequence[int] | None = None, to_find: NDArray[np.bool_] | None = None
) -> dict[str | None, int]:
    """The number of groups that hold a label: for each category and, under None, for all together.

    Args:
        truth: the labels.
        groups: group number of each image; None: each image is a group.
        to_find: bool[G], which labels count; None: all but crowd regions.
    """
    group = np.arange(len(truth.images)) if groups is None else np.asarray(groups)
    to_find = ~truth.crowd if to_find is None else to_find
    of_box, category = group[truth.image[to_find]], truth.category[to_find]
    counted: dict[str | None, int] = {None: len(np.unique(of_box))}
    return counted | {name: len(np.unique(of_box[category == k])) for k, name in enumerate(truth.categories)}


_DATA_FIX = "evaluate against the labels of the images that the detector was run on"


def image_mismatch(used: list[Any], known: list[Any]) -> DataError:
    """The error for image ids ``used`` by detections that are not all ``known`` to the truth, with the likely cause."""
    unknown = [i for i in used if i not in set(known)]
    where = _how_many(unknown, used, "image id")
    if _is_text(unknown) and not _is_text(known):
        if all(i.isdecimal() for i in unknown):
            return DataError(
                f"{where}: they are text in the detections and numbers in the truth", fix="write them as numbers"
            )
        fix = "replace each by the id that the truth has for that file"
        return DataError(f"{where}: they look like file names, but the truth has numbers", fix=fix)
    if _is_text(known) and not _is_text(unknown):
        return DataError(f"{where}: they are numbers, in the truth they are text", fix="write them as in the truth")
    if _starts_at_zero(used, known):
        return DataError(f"{where}: image ids start at 0, the truth's start at 1", fix="add 1 to each image id")
    if _starts_at_zero(known, used):
        return DataError(f"{where}: image ids start at 1, the truth's start at 0", fix="subtract 1 from each image id")
    return DataError(f"{where} ({_first(unknown)}): they seem to belong to another part or data set", fix=_DATA_FIX)


def category_mismatch(used: list[Any], known: list[Any]) -> DataError:
    """The error for category ids, likewise."""
    unknown = [i for i in used if i not in set(known)]
    where = _how_many(unknown, used, "category id")
    if _is_text(unknown) and not _is_text(known):
        return DataError(f"{where}: they are text ({_first(unknown)})", fix="give the truth's ids, not names")
    if _starts_at_zero(used, known):
        return DataError(f"{where}: category ids start at 0, the truth's start at 1", fix="add 1 to each category id")
    if _starts_at_zero(known, used) and unknown == [max(known) + 1]:
        fix = "subtract 1 from each category id"
        return DataError(f"{where}: category ids start at 1, the truth's start at 0", fix=fix)
    fix = "map the detector's categories to the truth's by name"
    return DataError(f"{where} ({_first(unknown)}; the truth has {_first(sorted(known))})", fix=fix)


def _how_many(unknown: list[Any], used: list[Any], what: str) -> str:
    if len(unknown) == len(used):
        if len(used) == 1:
            return f"the {what} {used[0]!r} is not in the truth"
        return f"none of the {len(used)} {what}s is in the truth"
    verb = "is" if len(unknown) == 1 else "are"
    return f"{len(unknown)} of the {len(used)} {what}s {verb} not in the truth"


def _first(ids: list[Any]) -> str:
    return ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _is_text(ids: list[Any]) -> bool:
    return bool(ids) and all(isinstance(i, str) for i in ids)


def _starts_at_zero(ids: list[Any], others: list[Any]) -> bool:
    """Whether ``ids`` count from 0 and would all be among ``others``, which count from 1, if they counted from 1."""
    if any(isinstance(i, str) for i in (*ids, *others)) or not ids or not others:
        return False
    return min(ids) == 0 and min(others) == 1 and all(1 <= i + 1 <= max(others) for i in ids)


def check_truth(truth: dict[str, Any]) -> GroundTruth:
    """Labels of a COCO data set as arrays; the given dict is not changed.

    A missing ``area`` becomes width x height, a missing ``iscrowd`` 0. Ids of annotations are not used, because
    pycocotools treats a match with id 0 as no match and keeps only one of equal ids.

    Raises:
        DataError: no COCO data set, duplicate or unknown ids, or an invalid box.
    """
    images, annotations, categories = (_list(truth, key) for key in ("images", "annotations", "categories"))
    if not images:
        raise DataError(
            "the labels hold no image", where="images", fix="give the data set that the detector was run on"
        )
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
            raise DataError(
                f"the area {given:g} is negative", where=where, fix="leave it out: it is computed from the box"
            )
    sized = {i["id"]: i for i in images}
    return GroundTruth(
        images=tuple(_image(sized[i]) for i in image_position),
        category_ids=tuple(category_position),
        categories=names,
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        area=np.array(areas, dtype=np.float64),
        image=np.array([image_position[a["image_id"]] for a in annotations], dtype=np.int64),
        category=np.array([category_position[a["category_id"]] for a in annotations], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
    )


def check_detections(detections: Sequence[dict[str, Any]], truth: GroundTruth) -> DetectionArrays:
    """COCO results as arrays; the list may be empty.

    Boxes may extend beyond the image, as those of many detectors do, but may not have a negative side.

    Raises:
        DataError: ids that are not in the truth, with the likely cause, or an invalid box or score, by index.
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
            raise DataError(f"the score {score:g} is {side}", where=where, fix="rescale the scores to 0 to 1")
        scores.append(score)
    image_position = {image.id: i for i, image in enumerate(truth.images)}
    category_position = {category: k for k, category in enumerate(truth.category_ids)}
    _refuse_unknown(detections, "image_id", image_position, image_mismatch)
    _refuse_unknown(detections, "category_id", category_position, category_mismatch)
    return DetectionArrays(
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


def _image(entry: dict[str, Any]) -> GroundTruthImage:
    sides = [entry.get(key) or None for key in ("width", "height")]  # some programs write 0 for what they don't know
    width, height = (None if side is None else int(_number(side, "size", f"image {entry['id']!r}")) for side in sides)
    return GroundTruthImage(
        id=entry["id"], file_name=str(entry.get("file_name", entry["id"])), width=width, height=height
    )


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
        fix = "leave such detections out and find what produced them"
        raise DataError(f"the {what} {shown!s} is {kind}", where=where, fix=fix)
    return number


def _show(box: Any) -> str:
    return "[" + ", ".join(f"{v:g}" if isinstance(v, float) else reprlib.repr(v) for v in box) + "]"


def _kind(value: Any) -> str:
    return "a JSON object" if isinstance(value, dict) else f"a {type(value).__name__}"
