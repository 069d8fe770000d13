"""The AP and AR family, over all categories or for one, exactly as COCOeval.summarize averages it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .records import Evaluated

IOU_50, IOU_75 = 0, 5  # positions in 0.50, 0.55, ..., 0.95
ALL, SMALL, MEDIUM, LARGE = range(4)
BEST_1, BEST_10, BEST_100 = range(3)


def average_precisions(evaluated: Evaluated, category: int | None = None) -> dict[str, float | None]:
    """AP, AP50, AP75 and, where sizes were evaluated, APs, APm, APl; fractions.

    None stands where pycocotools says -1: no box of that category or size to find.

    Args:
        evaluated: one run of COCOeval.
        category: position of one category; all of them by default.
    """
    precision = evaluated.precision[:, :, _chosen(category), :, BEST_100]
    scores = {
        "AP": _mean(precision[..., ALL]),
        "AP50": _mean(precision[IOU_50, ..., ALL]),
        "AP75": _mean(precision[IOU_75, ..., ALL]),
    }
    if precision.shape[-1] > 1:
        scores |= {key: _mean(precision[..., s]) for key, s in (("APs", SMALL), ("APm", MEDIUM), ("APl", LARGE))}
    return scores


def average_recalls(evaluated: Evaluated, category: int | None = None) -> dict[str, float | None]:
    """AR1, AR10, AR100 (best detections an image and category) and ARs, ARm, ARl; fractions, None as above."""
    recall = evaluated.recall[:, _chosen(category)]
    scores = {
        "AR1": _mean(recall[..., ALL, BEST_1]),
        "AR10": _mean(recall[..., ALL, BEST_10]),
        "AR100": _mean(recall[..., ALL, BEST_100]),
    }
    if recall.shape[-2] > 1:
        for key, size in (("ARs", SMALL), ("ARm", MEDIUM), ("ARl", LARGE)):
            scores[key] = _mean(recall[..., size, BEST_100])
    return scores


def _chosen(category: int | None) -> slice:
    return slice(None) if category is None else slice(category, category + 1)


def _mean(values: NDArray[Any]) -> float | None:
    """Mean of all that is defined, summed in pycocotools' order, so that not even the last bit differs."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None
