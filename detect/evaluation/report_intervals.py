"""Intervals of all figures of a report on one run, from the same resamples of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import (
    Counts,
    MetricSamples,
    Scores,
    bootstrap_ap,
    bootstrap_counts,
    by_metric,
    confidence_interval,
    nan_mean,
)
from .coco_eval import IOU_50, NO_DETECTIONS_THRESHOLD, best_f1
from .olrp import localisation_errors, lrp, olrp
from .records import AreaRangeMatches, CocoEvaluation, groups_with_boxes

_MAX_DETECTIONS = {"AR1": 1, "AR10": 10, "AR100": None}


def report_intervals(
    evaluated: CocoEvaluation,
    *,
    groups: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    threshold: float | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Intervals of the figures of a report on one run.

    Args:
        evaluated: the judged run.
        groups, resamples, seed: as for ``bootstrap``.
        threshold: of score, for precision, recall and F1; by default the one with the best F1 over all categories.
            It is held fast in all resamples, and so are the thresholds of each best F1.
        confidence: share of such intervals that would hold the true value.

    Returns:
        {"overall": {figure: {"low", "high"}}, "per_class": {name: the same}, "threshold", "resamples", "seed",
        "confidence", "groups"} of plain values, fractions. Figures are COCOeval's twelve (those of a size if sizes were
        evaluated), "precision", "recall" and "f1" at the threshold, "best_f1" and "oLRP". The ends are None where there
        is nothing to measure, or where fewer than two groups hold a box. "groups" is how many there were to draw, each
        image alone being one.
    """
    truth = evaluated.truth
    if threshold is None:
        threshold = best_f1(evaluated)["threshold"]
        threshold = NO_DETECTIONS_THRESHOLD if threshold is None else threshold
    drawn = bootstrap_counts(len(truth.images), resamples=resamples, seed=seed, groups=groups)
    counts = np.concatenate([np.ones((1, drawn.shape[1]), np.int64), drawn])
    of_size = {key: groups_with_boxes(truth, groups, each.to_find) for key, each in _sizes(evaluated).items()}
    scenes = {f"{kind}{key}": counted for key, counted in of_size.items() if key for kind in ("AP", "AR")}
    ends = {
        (name, category): confidence_interval(
            values, [scenes.get(name, of_size[""])[category]], confidence, biased=name.startswith("AP")
        )
        for (name, category), values in report_figures(evaluated, counts, threshold).items()
    }
    plain = {key: {"low": each.low, "high": each.high} for key, each in ends.items()}
    names = list(dict.fromkeys(name for name, _ in plain))
    return {
        "overall": {name: plain[name, None] for name in names},
        "per_class": {category: {name: plain[name, category] for name in names} for category in truth.categories},
        "threshold": threshold,
        "resamples": resamples,
        "seed": seed,
        "confidence": confidence,
        "groups": len(truth.images) if groups is None else len(set(groups)),
    }


def report_figures(evaluated: CocoEvaluation, counts: Counts, threshold: float) -> MetricSamples:
    """All figures of a report that have an interval, on the same resamples.

    AP, AR and those of a size or a number of detections are COCOeval's. Precision, recall and F1 are those of
    detections with a score of at least ``threshold``, at an IoU of 0.5; "best_f1" is F1 at the threshold of each
    category's best one, and of that over all categories; "oLRP" is LRP at the threshold where it is least. The
    thresholds are held fast: they are not chosen anew in each resample.
    """
    categories = evaluated.truth.categories
    figures: MetricSamples = {}
    for suffix, of_size in _sizes(evaluated).items():
        precision = bootstrap_ap(evaluated, counts, of_size)[:, None]
        named = by_metric(precision, categories)
        figures |= {(f"{name}{suffix}", k): values[:, 0] for (name, k), values in named if name == "AP" or not suffix}
    bests = [best_f1(evaluated, k)["threshold"] for k in (*range(len(categories)), None)]
    columns = {
        **{
            key: _recall(evaluated, counts, evaluated.all_sizes, max_detections)
            for key, max_detections in _MAX_DETECTIONS.items()
        },
        **{f"AR{suffix}": _recall(evaluated, counts, each) for suffix, each in _sizes(evaluated).items() if suffix},
        **_rates(evaluated, counts, [threshold] * len(bests)),
        "best_f1": _rates(evaluated, counts, [np.nan if each is None else each for each in bests])["f1"],
        "oLRP": _olrp(evaluated, counts),
    }
    for name, values in columns.items():
        figures |= {(name, category): values[:, k] for k, category in enumerate((*categories, None))}
    return figures


def _sizes(evaluated: CocoEvaluation) -> dict[str, AreaRangeMatches]:
    """All boxes and those of a size, by what is added to a figure's name."""
    return {"": evaluated.all_sizes, **dict(zip("sml", evaluated.sizes))}


def _recall(
    evaluated: CocoEvaluation, counts: Counts, of_size: AreaRangeMatches, max_detections: int | None = None
) -> Scores:
    """AR of the best ``max_detections`` detections of each image and category (None: of all that were matched).

    Returns:
        float64[resamples, K + 1], the last over all categories; NaN where no box was drawn.
    """
    found, matches = evaluated.found, of_size.matches
    image, category = found.image[matches.order], found.category[matches.order]
    hit = ((matches.matched_label >= 0) & ~matches.ignored).sum(axis=0)  # at how many of the IoUs
    if max_detections is not None:
        hit[_ranks(image, category) >= max_detections] = 0
    true = counts @ _weight_sums(evaluated, image, category, hit)
    recall = _ratio(true / len(matches.matched_label), counts @ _boxes(evaluated, of_size.to_find))
    return np.column_stack([recall, nan_mean(recall.T)])


def _ranks(image: NDArray[np.int64], category: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many detections of the same image and category come before each, where such stand together."""
    starts = np.ones(len(image), dtype=bool)
    starts[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    first = np.flatnonzero(starts)
    return np.asarray(np.arange(len(image)) - first[np.cumsum(starts) - 1])


def _olrp(evaluated: CocoEvaluation, counts: Counts) -> Scores:
    """float64[resamples, K + 1], the last the mean over categories; NaN where no box was drawn."""
    found, matches = evaluated.found, evaluated.matches
    least = [olrp(evaluated, k)["threshold"] for k in range(len(evaluated.truth.categories))]
    shows = np.array([np.inf if each is None else each for each in least])  # None: to show nothing is best
    image, category = found.image[matches.order], found.category[matches.order]
    use = ~matches.ignored[IOU_50] & (found.scores[matches.order] >= shows[category])
    inexact = localisation_errors(evaluated, np.arange(len(matches.order))) * use
    hit = use & (matches.matched_label[IOU_50] >= 0)
    lack, true, shown = (counts @ _weight_sums(evaluated, image, category, each) for each in (inexact, hit, use))
    boxes = counts @ _boxes(evaluated, evaluated.all_sizes.to_find)
    cost = np.where(boxes > 0, lrp(lack, true, shown - true, boxes - true), np.nan)
    return np.column_stack([cost, nan_mean(cost.T)])


def _rates(evaluated: CocoEvaluation, counts: Counts, thresholds: Sequence[float]) -> dict[str, Scores]:
    """Precision, recall and F1: float64[resamples, K + 1], each column at its own threshold, NaN at none."""
    found, matches = evaluated.found, evaluated.matches
    row = matches.order
    image, category, scores = found.image[row], found.category[row], found.scores[row]
    of_class, of_all = np.array(thresholds[:-1]), thresholds[-1]

    def drawn(use: NDArray[np.bool_]) -> Scores:
        own, together = (use & (scores >= least) for least in (of_class[category], of_all))
        by_class, summed = (counts @ _weight_sums(evaluated, image, category, each) for each in (own, together))
        return np.column_stack([by_class, summed.sum(axis=1)])

    counted = ~matches.ignored[IOU_50]
    shown, true = drawn(counted), drawn(counted & (matches.matched_label[IOU_50] >= 0))
    boxes = counts @ _boxes(evaluated, evaluated.all_sizes.to_find)
    boxes = np.column_stack([boxes, boxes.sum(axis=1)])
    boxes[:, np.isnan(thresholds)] = shown[:, np.isnan(thresholds)] = np.nan
    return {"precision": _ratio(true, shown), "recall": _ratio(true, boxes), "f1": _ratio(2 * true, shown + boxes)}


def _boxes(evaluated: CocoEvaluation, to_find: NDArray[np.bool_]) -> Scores:
    return _weight_sums(evaluated, evaluated.truth.image, evaluated.truth.category, to_find)


def _weight_sums(
    evaluated: CocoEvaluation, image: NDArray[np.int64], category: NDArray[np.int64], weights: NDArray[Any]
) -> Scores:
    """Sums of weights by image and category, float64[images, K]: floats multiply faster, and these are exact."""
    shape = len(evaluated.truth.images), len(evaluated.truth.categories)
    sums = np.bincount(image * shape[1] + category, weights, minlength=shape[0] * shape[1])
    return np.asarray(sums.reshape(shape), dtype=np.float64)


def _ratio(part: Scores, whole: Scores) -> Scores:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
