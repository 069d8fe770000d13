"""Precision over recall, and what each score threshold would give: all at an IoU of 0.5 unless told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ap import ALL, BEST_100, IOU_50, IOU_75
from .records import Evaluated

_TABLE = tuple(round(0.05 * i, 2) for i in range(1, 20))
NO_DETECTIONS_THRESHOLD = 0.5


def precision_recall(evaluated: Evaluated) -> dict[str, Any]:
    """pycocotools' 101 interpolated points: {"recall": [...], "per_class": {name: {"0.50": [...], "0.75": [...]}}}.

    A category without a box has None instead of its curves.
    """
    per_class: dict[str, Any] = {}
    for k, name in enumerate(evaluated.truth.categories):
        curves = evaluated.precision[:, :, k, ALL, BEST_100]
        empty = bool((curves[IOU_50] < 0).all())
        per_class[name] = None if empty else {"0.50": curves[IOU_50].tolist(), "0.75": curves[IOU_75].tolist()}
    return {"recall": [i / 100 for i in range(evaluated.precision.shape[1])], "per_class": per_class}


def best_f1(evaluated: Evaluated, category: int | None = None) -> dict[str, float | None]:
    """The score threshold that gives the best F1, with its precision, recall and F1.

    Detections with a score of at least the threshold count; of equal F1 the higher threshold is taken. All values are
    None where there is no box to find or nothing was found.
    """
    scores, hits, boxes = _ranked(evaluated, category)
    if not boxes or not hits.any():
        return dict.fromkeys(("threshold", "precision", "recall", "f1"))
    true = np.cumsum(hits)
    f1 = 2 * true / (np.arange(1, len(hits) + 1) + boxes)  # 2 TP / (2 TP + FP + FN)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # a threshold can't part equal scores
    best = int(np.argmax(f1))
    return {"threshold": float(scores[best]), **at_threshold(evaluated, float(scores[best]), category, brief=True)}


def at_threshold(
    evaluated: Evaluated, threshold: float, category: int | None = None, *, brief: bool = False
) -> dict[str, Any]:
    """Hits, misses and false alarms of the detections with a score of at least ``threshold``.

    Returns:
        {"found", "missed", "false", "precision", "recall", "f1"}; the first three are left out if ``brief``. A rate
        with nothing to divide by is None.
    """
    scores, hits, boxes = _ranked(evaluated, category)
    found = int(hits[scores >= threshold].sum())
    false = int((scores >= threshold).sum()) - found
    counts = {} if brief else {"found": found, "missed": boxes - found, "false": false}
    return counts | {
        "precision": found / (found + false) if found + false else None,
        "recall": found / boxes if boxes else None,
        "f1": 2 * found / (found + false + boxes) if found + false + boxes else None,
    }


def threshold_table(evaluated: Evaluated) -> list[dict[str, Any]]:
    """What the thresholds 0.05, 0.10, ..., 0.95 give over all categories."""
    return [{"threshold": t, **at_threshold(evaluated, t)} for t in _TABLE]


def _ranked(evaluated: Evaluated, category: int | None) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Scores, falling, and whether each hit; crowds are left out. And the number of boxes to find."""
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    use = ~matches.ignored[IOU_50]
    to_find = ~truth.crowd
    if category is not None:
        use &= found.category[matches.order] == category
        to_find = to_find & (truth.category == category)
    scores = found.scores[matches.order[use]]
    hits = matches.truth_of[IOU_50, use] >= 0
    falling = np.argsort(-scores, kind="stable")
    return scores[falling], hits[falling], int(to_find.sum())
