"""How often labels and detector agree in a case like this one, as it rises with score or size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .records import Evaluated

Floats = NDArray[np.float64]


def confidences(evaluated: Evaluated, thresholds: int = 1) -> Floats:
    """How often detections of a class with a score like each one's match a label: float64[thresholds, D].

    Rows are for IoUs of 0.50, 0.55, ... It is 0 for what isn't judged: detections beyond the best 100 an image and
    category, and those on crowd regions.
    """
    found, matches = evaluated.found, evaluated.matches
    result = np.zeros((thresholds, len(found.scores)))
    category = found.category[matches.order]
    for k in np.unique(category):
        for t in range(thresholds):
            columns = np.flatnonzero((category == k) & ~matches.ignored[t])
            rows = matches.order[columns]
            result[t, rows] = rising_share(found.scores[rows], matches.truth_of[t, columns] >= 0)
    return result


def rising_share(values: Floats, true: NDArray[np.bool_]) -> Floats:
    """The share of what is true at each value, taken to rise with it: float64[N], above 0 and below 1.

    Isotonic regression, as Zadrozny & Elkan (2002) calibrate scores by. Where k of n cases are pooled, it gives
    (k + 1) / (n + 2), after Laplace, so that a few lucky cases aren't taken for certainty.

    Args:
        values: float64[N], finite.
        true: bool[N].
    """
    if not len(values):
        return np.zeros(0)
    place = np.unique(values, return_inverse=True)[1].ravel()
    cases, hits = np.bincount(place), np.bincount(place, weights=true)
    # Neighbours of equal share are never parted; to pool them first leaves some two steps for each hit.
    run = np.concatenate([[0], np.cumsum(np.diff(hits / cases) != 0)])
    pooled: list[tuple[float, float, int]] = []  # cases, hits, runs
    for n, k in zip(np.bincount(run, weights=cases), np.bincount(run, weights=hits)):
        runs = 1
        while pooled and pooled[-1][1] * n >= k * pooled[-1][0]:
            before = pooled.pop()
            n, k, runs = n + before[0], k + before[1], runs + before[2]
        pooled.append((float(n), float(k), runs))
    n_each, k_each, runs_each = (np.array(column) for column in zip(*pooled))
    share = np.maximum.accumulate((k_each + 1) / (n_each + 2))
    return np.asarray(np.repeat(share, runs_each.astype(int))[run][place])
