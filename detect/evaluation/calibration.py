"""Calibration of scores to probabilities by a temperature and a shift per category, and its reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from .coco_eval import IOU_50
from .records import CocoEvaluation
from .threshold_counts import clopper_pearson_bounds, fold_ids, sampling_units

BINS = 15


def reliability(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], *, bins: int = BINS, confidence: float = 0.95
) -> dict[str, Any]:
    """Compare scores with the share of hits among detections of similar scores.

    Args:
        scores: float64[N], 0 to 1.
        hits: bool[N].
        bins: number of bins of equal count; equal scores share a bin, so there may be fewer.
        confidence: of each bound of a bin's share of hits, with its detections taken as independent.

    Returns:
        ``detections`` and ``hits``, their numbers; ``bins``, by ascending score, each {"count", "from", "to",
        "mean_score", "hit_rate", "low", "high"}; and the results of ``calibration_errors``.
    """
    order = np.argsort(scores, kind="stable")
    scores, hits = scores[order], hits[order]
    starts = _starts(scores, bins)
    drawn = []
    for start, stop in zip(starts, [*starts[1:], len(scores)]):
        count, right = int(stop - start), int(hits[start:stop].sum())
        low, high = clopper_pearson_bounds(right, count, confidence)
        part = scores[start:stop]
        ends = {"from": float(part[0]), "to": float(part[-1]), "mean_score": float(part.mean())}
        drawn.append({"count": count, **ends, "hit_rate": right / count, "low": low, "high": high})
    return {
        "detections": len(scores),
        "hits": int(hits.sum()),
        "bins": drawn,
        **calibration_errors(scores, hits, bins=bins),
    }


def calibration_errors(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], *, bins: int = BINS
) -> dict[str, float | None]:
    """Calibration errors over bins of equal count.

    Args:
        scores, hits, bins: as above.

    Returns:
        ``ece``, the expected calibration error: the mean over detections of the difference between share of hits and
        mean score in their bin (Naeini et al. 2015, with bins of equal count as in Nguyen and O'Connor 2015).
        ``ece_by_chance``: its expected value, by the normal approximation, if every score were exactly the probability
        of a hit; an ECE near it is no evidence of miscalibration. ``debiased_error``: the root of the mean squared
        difference minus its expected value by chance, 0 where that is larger (Kumar et al. 2019). ``nll``: the mean
        negative log-likelihood of hits and false alarms, in nats. All None without detections.
    """
    if not len(scores):
        return dict.fromkeys(("ece", "ece_by_chance", "debiased_error", "nll"))
    order = np.argsort(scores, kind="stable")
    scores, hits = scores[order], hits[order]
    starts = _starts(scores, bins)
    counts = np.diff(np.append(starts, len(scores)))
    weights = counts / len(scores)
    mean, rate = np.add.reduceat(scores, starts) / counts, np.add.reduceat(hits.astype(np.float64), starts) / counts
    by_chance = np.sqrt(2 / math.pi * np.add.reduceat(scores * (1 - scores), starts)) / counts
    squared = (rate - mean) ** 2 - rate * (1 - rate) / np.maximum(counts - 1, 1)
    safe = np.clip(np.where(hits, scores, 1 - scores), 1e-12, 1)
    return {
        "ece": float(weights @ abs(rate - mean)),
        "ece_by_chance": float(weights @ by_chance),
        "debiased_error": math.sqrt(max(0.0, float(weights @ squared))),
        "nll": float(-np.log(safe).mean()),
    }


def _starts(scores: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """First position of each bin of ascending scores."""
    first = np.arange(min(bins, len(scores))) * len(scores) // max(min(bins, len(scores)), 1)
    return np.unique(np.searchsorted(scores, scores[first], side="left"))


MIN_SCORE = 0.05
METHODS = ("temperature", "temperature and shift")
_MIN_EXAMPLES = 10  # hits, and false alarms, needed to fit a category
_MAX_TEMPERATURE = 20.0
_PRIOR = 0.01  # weight of a prior at the identity; it matters only where scores separate hits from false alarms
_STEPS = 50


def apply_calibration(scores: NDArray[np.float64], temperature: float, shift: float) -> NDArray[np.float64]:
    """Scores whose log-odds are divided by a temperature above 0 and shifted; their order does not change."""
    return np.asarray(expit(_logit(scores) / temperature + shift))


def fit_calibration(
    evaluated: CocoEvaluation,
    *,
    groups: Sequence[int] | None = None,
    folds: int = 5,
    seed: int = 0,
    min_score: float = MIN_SCORE,
) -> dict[str, Any]:
    """Fit calibrations to the matches at an IoU of 0.5, and measure their gain by cross-validation.

    Both methods minimise the negative log-likelihood of hits and false alarms within a category, which is convex: with
    a temperature alone (Guo et al. 2017), or with a shift of the log-odds too (Platt 1999), which scores need that are
    too high everywhere. A category with fewer than 10 hits or false alarms, or whose scores do not separate them or
    separate them fully, is not calibrated.

    Args:
        evaluated: one run of COCOeval.
        groups: group number of each image; images of one group stay in one fold.
        folds, seed: of the cross-validation.
        min_score: detections with a lower score are not used.

    Returns:
        ``method``: the one of METHODS with the better cross-validated likelihood. ``per_class``: by category
        ``temperature`` and ``shift`` of that method, fitted on all images (1 and 0 where it is not calibrated, with
        the reason in ``left``, else None), the results of ``reliability`` for the original scores, and
        ``cross_validated``, the results of ``calibration_errors`` by method, each detection calibrated by the other
        folds. ``overall``: the same over all categories. ``min_score`` and ``folds`` as given.

    Raises:
        DataError: not a group for each image.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    used = ~matches.ignored[IOU_50] & (found.scores[matches.order] >= min_score)
    rows, hits = matches.order[used], matches.matched_label[IOU_50, used] >= 0
    scores, category = found.scores[rows], found.category[rows]
    units = sampling_units(len(truth.images), groups)
    fold = fold_ids(truth, units, folds=folds, seed=seed)[found.image[rows]]

    of_class = [np.flatnonzero(category == k) for k in range(len(truth.categories))]
    held_out = {method: scores.copy() for method in METHODS}
    for method, target in held_out.items():
        for mine in of_class:
            for j in range(folds):
                out = mine[fold[mine] == j]
                temperature, shift, _ = _fit(scores, hits, mine[fold[mine] != j], method)
                target[out] = apply_calibration(scores[out], temperature, shift)
    likelihood = {method: calibration_errors(each, hits)["nll"] or 0.0 for method, each in held_out.items()}
    method = min(METHODS, key=lambda each: likelihood[each])

    def figures(mine: NDArray[np.int64]) -> dict[str, Any]:
        cross_validated = {each: calibration_errors(target[mine], hits[mine]) for each, target in held_out.items()}
        return {**reliability(scores[mine], hits[mine]), "cross_validated": cross_validated}

    per_class = {}
    for name, mine in zip(truth.categories, of_class):
        temperature, shift, left = _fit(scores, hits, mine, method)
        per_class[name] = {"temperature": temperature, "shift": shift, "left": left, **figures(mine)}
    overall = figures(np.arange(len(scores)))
    return {"method": method, "min_score": min_score, "folds": folds, "overall": overall, "per_class": per_class}


def _fit(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], rows: NDArray[np.int64], method: str
) -> tuple[float, float, str | None]:
    """Temperature, shift, and why they are 1 and 0 where the data don't allow a fit."""
    right = int(hits[rows].sum())
    if min(right, len(rows) - right) < _MIN_EXAMPLES:
        return 1.0, 0.0, f"{right} hits and {len(rows) - right} false alarms are too few for a fit"
    slope, shift = _logistic(_logit(scores[rows]), hits[rows], with_shift=method == METHODS[1])
    if not 1 / _MAX_TEMPERATURE <= slope <= _MAX_TEMPERATURE:
        return 1.0, 0.0, "its scores do not separate hits from false alarms, or separate them fully"
    return 1 / slope, shift, None


def _logistic(odds: NDArray[np.float64], hits: NDArray[np.bool_], *, with_shift: bool) -> tuple[float, float]:
    """Slope and shift of logistic regression, by Newton's method with steps halved where the loss increases."""
    inputs = np.stack([odds, np.ones_like(odds)], axis=1)[:, : 1 + with_shift]
    identity = np.array([1.0, 0.0])[: 1 + with_shift]
    right = hits.astype(np.float64)

    def loss(weights: NDArray[np.float64]) -> float:
        z = inputs @ weights
        return float((np.logaddexp(0, z) - right * z).sum() + _PRIOR / 2 * ((weights - identity) ** 2).sum())

    weights, value = identity, loss(identity)
    for _ in range(_STEPS):
        chance = expit(inputs @ weights)
        gradient = inputs.T @ (chance - right) + _PRIOR * (weights - identity)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + _PRIOR * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > value:
            size /= 2
        weights = weights - size * step
        before, value = value, loss(weights)
        if before - value <= 1e-10 * abs(before):
            break
    return float(weights[0]), float(weights[1]) if with_shift else 0.0


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(np.asarray(scores, dtype=np.float64), 1e-12, 1 - 1e-12)))
