"""FROC: the share of defects found against false alarms an image (Bunch et al. 1977), at an IoU of 0.5."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Evaluated
from .tally import tallies

SUMMARY_POINTS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false alarms an image
_CURVE_POINTS = 100


def froc(evaluated: Evaluated) -> dict[str, Any]:
    """The curve and its usual points (Setio et al. 2017), over all categories by one threshold, and for each alone.

    Returns:
        {"overall", "per_class"}; each with ``points``: what can be found with at most 1/8, 1/4, ..., 8 false alarms an
        image, as {"false_alarms_per_image", "sensitivity", "threshold", "reached"}, where ``threshold`` is the lowest
        score that does it, None where nothing can be shown, and ``reached`` is False where all detections together
        raise fewer; ``mean_sensitivity`` of these seven points; and ``curve``: ``false_alarms_per_image`` and
        ``sensitivity``, up to 100 points. A category's false alarms are its own, counted on all images. A threshold
        can't part equal scores. Sensitivities are None where there is nothing to find.
    """
    images = len(evaluated.truth.images)
    of_class = list(tallies(evaluated, np.ones(images, dtype=bool), np.arange(images)))
    defects = np.sort(np.concatenate([each.defect_scores for each in of_class] or [np.empty(0)]))
    alarms = np.sort(np.concatenate([each.false_scores for each in of_class] or [np.empty(0)]))
    return {
        "overall": _of(defects, alarms, images),
        "per_class": {
            name: _of(each.defect_scores, each.false_scores, images)
            for name, each in zip(evaluated.truth.categories, of_class)
        },
    }


def _of(defects: NDArray[np.float64], alarms: NDArray[np.float64], images: int) -> dict[str, Any]:
    """From rising scores of defects, -inf for those never found, and of false alarms."""
    budgets = np.floor(np.array(SUMMARY_POINTS) * images + 1e-9).astype(np.int64)
    sensitivity, first = _with_at_most(budgets, defects, alarms)
    points = [
        {
            "false_alarms_per_image": at,
            "sensitivity": _plain(share),
            "threshold": float(defects[i]) if i < len(defects) else None,
            "reached": len(alarms) >= budget,
        }
        for at, share, i, budget in zip(SUMMARY_POINTS, sensitivity, first.tolist(), budgets.tolist())
    ]
    counts = np.unique(np.geomspace(1, len(alarms) + 1, _CURVE_POINTS).round().astype(np.int64)) - 1
    return {
        "points": points,
        "mean_sensitivity": float(sensitivity.mean()) if len(defects) else None,
        "curve": {
            "false_alarms_per_image": (counts / max(images, 1)).tolist(),
            "sensitivity": [_plain(each) for each in _with_at_most(counts, defects, alarms)[0]],
        },
    }


def _with_at_most(
    budgets: NDArray[np.int64], defects: NDArray[np.float64], alarms: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of the defects whose score is above that of the first false alarm too many; and the first such defect."""
    too_many = len(alarms) - 1 - budgets
    bars = np.where(too_many >= 0, np.append(alarms, 0)[np.maximum(too_many, 0)], -np.inf)
    first = np.searchsorted(defects, bars, side="right")
    return (len(defects) - first) / len(defects) if len(defects) else np.full(len(budgets), np.nan), first


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
