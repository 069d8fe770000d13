"""pycocotools' COCOeval, run once and silently; its matches and curves become plain arrays."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .records import Evaluated, Found, Matches, OfSize, Truth


def evaluate(truth: Truth, found: Found, *, sizes: bool = True) -> Evaluated:
    """Match and accumulate with COCOeval's own parameters for boxes.

    Args:
        truth, found: checked labels and detections.
        sizes: also for small, medium and large boxes; without them A is 1 and it takes about a quarter of the time.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(_labels(truth), _results(truth, found), "bbox")
        if not sizes:
            coco_eval.params.areaRng = coco_eval.params.areaRng[:1]
            coco_eval.params.areaRngLbl = coco_eval.params.areaRngLbl[:1]
        coco_eval.evaluate()
        coco_eval.accumulate()
    every, *by_size = [_of_size(coco_eval, truth, size) for size in range(len(coco_eval.params.areaRng))]
    return Evaluated(
        truth=truth,
        found=found,
        matches=every.matches,
        precision=coco_eval.eval["precision"],
        recall=coco_eval.eval["recall"],
        sizes=tuple(by_size),
    )


def _of_size(coco_eval: Any, truth: Truth, size: int) -> OfSize:
    thresholds = len(coco_eval.params.iouThrs)
    areas, images = len(coco_eval.params.areaRng), len(truth.images)
    rows, truth_of, ignored = [], [], []
    detection_of = np.full((thresholds, len(truth.image)), -1, dtype=np.int64)
    to_find = np.zeros(len(truth.image), dtype=bool)
    for k in range(len(truth.categories)):
        first = (k * areas + size) * images  # evalImgs runs over categories, then sizes (all boxes first), then images
        for pair in coco_eval.evalImgs[first : first + images]:
            if pair is None:
                continue
            # Ids are rows + 1, so that "no match", written as 0, becomes -1.
            rows.append(np.asarray(pair["dtIds"], dtype=np.int64) - 1)
            truth_of.append(np.asarray(pair["dtMatches"], dtype=np.int64) - 1)
            ignored.append(np.asarray(pair["dtIgnore"], dtype=bool))
            labels = np.asarray(pair["gtIds"], dtype=np.int64) - 1
            detection_of[:, labels] = np.asarray(pair["gtMatches"], dtype=np.int64) - 1
            to_find[labels] = ~np.asarray(pair["gtIgnore"], dtype=bool)
    matches = Matches(
        order=_joined(rows, (0,), np.int64),
        truth_of=_joined(truth_of, (thresholds, 0), np.int64),
        ignored=_joined(ignored, (thresholds, 0), np.bool_),
        detection_of=detection_of,
    )
    return OfSize(matches, to_find)


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts, axis=-1) if parts else np.empty(empty, dtype=kind)


def _labels(truth: Truth) -> COCO:
    boxes, areas, crowd = truth.boxes_xywh.tolist(), truth.area.tolist(), truth.crowd.tolist()
    places = zip(truth.image.tolist(), truth.category.tolist(), boxes, areas, crowd)
    return _coco(truth, [_annotation(row, *values) for row, values in enumerate(places)])


def _results(truth: Truth, found: Found) -> COCO:
    """What ``COCO.loadRes`` makes of the detections, which it can't do for an empty list."""
    boxes, scores = found.boxes_xywh.tolist(), found.scores.tolist()
    results = []
    for row, (image, category, box) in enumerate(zip(found.image.tolist(), found.category.tolist(), boxes)):
        results.append(_annotation(row, image, category, box, box[2] * box[3], False) | {"score": scores[row]})
    return _coco(truth, results)


def _annotation(row: int, image: int, category: int, box: list[float], area: float, crowd: bool) -> dict[str, Any]:
    places = {"id": row + 1, "image_id": image, "category_id": category}
    return {**places, "bbox": box, "area": area, "iscrowd": int(crowd)}


def _coco(truth: Truth, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(truth.images))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.categories)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
