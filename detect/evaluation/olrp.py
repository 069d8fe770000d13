"""Optimal localisation recall precision (oLRP): one error for misses, false alarms and inexact boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structures import elementwise_iou, xywh_to_xyxy
from .coco_eval import IOU_50
from .records import CocoEvaluation

_IOU = 0.5
CountArray = NDArray[np.float64] | NDArray[np.int64]
_PARTS = ("localisation", "false_positives", "false_negatives")


def olrp(evaluated: CocoEvaluation, category: int | None = None) -> dict[str, Any]:
    """oLRP at an IoU of 0.5 (Oksuz, Cam, Akbas & Kalkan, ECCV 2018), 0 for a perfect detector, 1 for a useless one.

    At a score threshold s, TP of the detections with a score of at least s match a label, FP match none and FN labels
    have no match. Then

        LRP(s) = (sum over the TP of (1 - IoU) / (1 - 0.5) + FP + FN) / (TP + FP + FN),

    so a miss and a false alarm cost 1 each and a hit from 0 (exact) to 1 (IoU 0.5). oLRP is the minimum of LRP(s) over
    all scores s and over no detections at all, which costs 1; of equal minima the highest threshold is chosen. In
    contrast to AP every detection that is shown counts, and the result includes the threshold.

    Detections on crowd regions and beyond the best 100 per image and category don't count.

    Args:
        evaluated: one run of COCOeval.
        category: position of one category; by default the mean over those with a label, the paper's moLRP, each at
            its own best threshold.

    Returns:
        ``oLRP``; ``threshold``, the score s of the minimum (None for the mean, and where no detections are best); at
        that threshold the paper's three parts: ``localisation`` (mean of 1 - IoU over the TP, 0 to 0.5),
        ``false_positives`` (FP / (TP + FP), 1 - precision) and ``false_negatives`` (FN / (TP + FN), 1 - recall); and
        ``adds``, the contribution of each to oLRP, which they sum to. All None without a label; the first two parts
        are None without detections, and such classes are left out of their means.
    """
    if category is None:
        return _mean([olrp(evaluated, k) for k in range(len(evaluated.truth.categories))])
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    boxes = int((~truth.crowd & (truth.category == category)).sum())
    if not boxes:
        return _row(None, None, (None, None, None), (None, None, None))
    of_class = np.flatnonzero((found.category[matches.order] == category) & ~matches.ignored[IOU_50])
    of_class = of_class[np.argsort(-found.scores[matches.order[of_class]], kind="stable")]
    rows, label = matches.order[of_class], matches.matched_label[IOU_50, of_class]
    hit = label >= 0
    inexact = localisation_errors(evaluated, of_class)
    scores, inexact, true = found.scores[rows], np.cumsum(inexact), np.cumsum(hit)
    false, missed = np.arange(1, len(rows) + 1) - true, boxes - true
    cost = lrp(inexact, true, false, missed)
    cost[:-1][scores[:-1] == scores[1:]] = np.inf  # a threshold can't separate equal scores
    best = int(np.argmin(cost)) if len(rows) else -1
    if best < 0 or cost[best] >= 1:
        return _row(1.0, None, (None, None, 1.0), (0.0, 0.0, 1.0))
    hits, alarms, misses, total = true[best], false[best], missed[best], boxes + false[best]
    parts = (inexact[best] / hits, alarms / (hits + alarms), misses / boxes)
    adds = (inexact[best] / (1 - _IOU) / total, alarms / total, misses / total)
    return _row(float(cost[best]), float(scores[best]), tuple(map(float, parts)), tuple(map(float, adds)))


def localisation_errors(evaluated: CocoEvaluation, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 - IoU, 0 to 0.5, of those of ``matches.order[columns]`` that match a label at IoU 0.5; 0 for the others."""
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    rows, label = matches.order[columns], matches.matched_label[IOU_50, columns]
    hit = label >= 0
    inexact = np.zeros(len(rows))
    pairs = xywh_to_xyxy(found.boxes_xywh[rows[hit]]), xywh_to_xyxy(truth.boxes_xywh[label[hit]])
    inexact[hit] = np.clip(1 - elementwise_iou(*pairs), 0, 1 - _IOU)  # pycocotools' own IoU may differ in the last bit
    return inexact


def lrp(inexact: CountArray, true: CountArray, false: CountArray, missed: CountArray) -> NDArray[np.float64]:
    """LRP from the sum of 1 - IoU over the hits and the numbers of hits, false alarms and misses; NaN if all are 0."""
    total = np.asarray(true + false + missed, dtype=np.float64)
    cost = inexact / (1 - _IOU) + false + missed
    return np.asarray(np.divide(cost, total, out=np.full(total.shape, np.nan), where=total > 0))


def _row(value: float | None, threshold: float | None, parts: tuple[Any, ...], adds: tuple[Any, ...]) -> dict[str, Any]:
    return {"oLRP": value, "threshold": threshold, **dict(zip(_PARTS, parts)), "adds": dict(zip(_PARTS, adds))}


def _mean(classes: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(values: list[float | None]) -> float | None:
        defined = [value for value in values if value is not None]
        return float(np.mean(defined)) if defined else None

    parts = tuple(mean([each[part] for each in classes]) for part in _PARTS)
    adds = tuple(mean([each["adds"][part] for each in classes]) for part in _PARTS)
    return _row(mean([each["oLRP"] for each in classes]), None, parts, adds)
