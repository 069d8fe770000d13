"""Bootstrap over images: intervals of COCO's metrics and of all others in a report, from the same resamples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ..errors import DataError
from .coco_eval import IOU_50, IOU_75, NO_DETECTIONS_THRESHOLD, best_f1
from .olrp import localisation_errors, lrp, olrp
from .records import AreaRangeMatches, CocoEvaluation, GroundTruth, groups_with_boxes

_RECALLS = np.linspace(0, 1, 101)
_MAX_CELLS = 2_000_000  # resamples x detections at a time, so that memory stays below some 50 MB

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]
MetricSamples = dict[tuple[str, str | None], Scores]  # (name, category or None for all) -> float64[resamples]


def bootstrap_counts(images: int, *, resamples: int, seed: int, groups: Sequence[int] | None = None) -> Counts:
    """Draw images with replacement, as many as there are, and count how often each was drawn.

    Args:
        images: number of images.
        resamples: number of resamples.
        seed: the same seed gives the same draws.
        groups: group number of each image; images of one group (frames of a strip, near-duplicates) are drawn
            together, as they are not independent. None: each image is a group.

    Returns:
        int64[resamples, images].
    """
    of_image = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    count = int(of_image.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(count, 1)), size=resamples)
    return np.asarray(drawn[:, of_image], dtype=np.int64)


def bootstrap_ap(evaluated: CocoEvaluation, counts: Counts, of_size: AreaRangeMatches | None = None) -> Scores:
    """AP at each IoU and of each category on resamples of the images.

    The result equals COCOeval's, up to rounding, on a data set that holds each image as often as it was drawn, under
    new ids in the order of the old ones; equal scores are ranked in that order, within an image in the order given.
    COCOeval matches image by image, so the matches of a copy are those of its original; only the ranking is repeated.

    Args:
        evaluated: one run of COCOeval on the original images.
        counts: int[resamples, images], how often each image is drawn, 0 for not at all.
        of_size: one of ``evaluated.sizes``; None: boxes of all sizes.

    Returns:
        float64[resamples, T, K], fractions; NaN where no label of the category was drawn.
    """
    of_size = of_size or evaluated.all_sizes
    truth, found, matches = evaluated.truth, evaluated.found, of_size.matches
    result = np.full((len(counts), len(matches.matched_label), len(truth.categories)), np.nan)
    small = counts.astype(np.int32)
    counts_somewhere = ~matches.ignored.all(axis=0)  # at any IoU; detections of another size never count
    for k in range(len(truth.categories)):
        to_find = np.bincount(truth.image[(truth.category == k) & of_size.to_find], minlength=len(truth.images))
        boxes = counts @ to_find
        columns = np.flatnonzero((found.category[matches.order] == k) & counts_somewhere)
        columns = columns[np.argsort(-found.scores[matches.order[columns]], kind="stable")]
        rows = matches.order[columns]
        places, copies = _expand_ties(found.scores[rows], found.image[rows], int(counts.max(initial=1)))
        columns, image = columns[places], found.image[rows][places]
        hits, ignored = matches.matched_label[:, columns] >= 0, matches.ignored[:, columns]
        drawn = np.flatnonzero(boxes)
        for part in np.array_split(drawn, 1 + len(drawn) * len(columns) // _MAX_CELLS):
            weights = small[np.ix_(part, image)]
            if copies.any():
                weights = np.where(copies > 0, weights >= copies, weights)
            result[part, :, k] = interpolated_ap(weights, hits & ~ignored, ignored, boxes[part])
    return result


def by_metric(values: Scores, categories: Sequence[str]) -> Iterator[tuple[tuple[str, str | None], Scores]]:
    """(name, category or None) and float64[resamples, runs] for each metric of float64[resamples, runs, T, K]."""
    by_name = {"AP": values.mean(axis=2), "AP50": values[:, :, IOU_50], "AP75": values[:, :, IOU_75]}
    for name, of_class in by_name.items():
        yield (name, None), nan_mean(np.moveaxis(of_class, -1, 0))
        for k, category in enumerate(categories):
            yield (name, category), of_class[..., k]


def nan_mean(values: Scores) -> Scores:
    """Mean over the first axis without NaN; NaN where all values are NaN."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def bootstrap_interval(
    values: Scores, groups: Collection[int], confidence: float, *, above: float | None = None
) -> tuple[float, float]:
    """The ends of a percentile interval of resampled values, with corrections for few groups and for bias.

    The percentiles are widened to the width of a Student's t interval of as many groups, because plain percentiles of
    few groups are too narrow (Hesterberg, 2015).

    AP on few images is biased upwards, because precision is interpolated to the best value at this or a higher recall,
    and the bias is larger on resamples, which hold fewer distinct images. Its percentiles are therefore shifted down by
    the bias of the median of the resamples (BC percentiles; Efron, 1981), by two standard deviations at most.
    Differences of two systems are not corrected, because the biases cancel.

    Args:
        values: float[resamples], no NaN.
        groups: number of groups in each fold, 2 or more; the values are means over folds.
        confidence: probability that such an interval contains the true value.
        above: value on the original images, for the correction of its bias; None: no correction.
    """
    normal = NormalDist()
    moved = 0.0
    if above is not None:
        below = float(np.mean(values < above) + np.mean(values == above) / 2)
        moved = 2 * normal.inv_cdf(min(max(below, normal.cdf(-1)), normal.cdf(1)))
    # With g groups, resamples show (g - 1) / g of a fold's variance, which is proportional to 1 / g; degrees of freedom
    # by Welch and Satterthwaite.
    total = sum(1 / number for number in groups)
    shown = sum((number - 1) / number**2 for number in groups) / total
    freedom = total**2 / sum(1 / (number**2 * (number - 1)) for number in groups)
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) / sqrt(shown)
    low, high = np.quantile(values, (normal.cdf(moved - reach), normal.cdf(moved + reach)))
    return float(low), float(high)


def _expand_ties(
    scores: Scores, image: NDArray[np.int64], max_copies: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Repeat tied detections of an image, so that the copies of the image are ranked as COCOeval ranks them.

    The copies of a detection follow each other in the ranking, so they share one place with a weight. Where detections
    of one image have equal scores, the first copies of all of them come before the second copies of all of them, so
    each copy gets a place.

    Returns:
        int64[P]: the detection at each place; int64[P]: which copy of it, counted from 1, or 0 for all copies.
    """
    starts = np.ones(len(scores), dtype=bool)
    starts[1:] = (scores[1:] != scores[:-1]) | (image[1:] != image[:-1])
    group = np.cumsum(starts) - 1
    tied = np.bincount(group)[group] > 1 if len(group) else starts
    places = np.repeat(np.arange(len(scores)), np.where(tied, max_copies, 1))
    copies = np.arange(len(places)) - np.searchsorted(places, places) + 1
    order = np.lexsort((places, copies, group[places]))
    return places[order], np.where(tied[places], copies, 0)[order]


def interpolated_ap(
    weights: NDArray[Any], hits: NDArray[np.bool_], ignored: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> Scores:
    """AP interpolated at 101 recalls, as pycocotools has it.

    Interpolated precision, the greatest at this or a higher recall, is reached at hits, so only these are evaluated.

    Args:
        weights: int[resamples, P], how often each of the ranked detections counts.
        hits, ignored: bool[T, P], what the detections are at each IoU.
        boxes: int64[resamples], labels to find, 1 or more.

    Returns:
        float64[resamples, T], 0 to 1.
    """
    ranks = np.cumsum(weights, axis=1, dtype=np.int32)
    result = np.zeros((len(weights), len(hits)))
    recalls, row = _recall_points_reached(boxes, int(hits.sum(axis=1).max(initial=0)))
    for t in range(len(hits)):
        at = np.flatnonzero(hits[t])
        if not len(at):
            continue
        true = np.cumsum(weights[:, at], axis=1, dtype=np.int32)
        ranked = ranks[:, at]
        if ignored[t].any():
            ranked = ranked - np.cumsum(weights * ignored[t], axis=1, dtype=np.int32)[:, at]
        precision = true / (ranked + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = recalls[row[:, None], true]
        precision[:, 0] *= reached[:, 0]
        precision[:, 1:] *= np.diff(reached, axis=1)
        result[:, t] = precision.sum(axis=1) / len(_RECALLS)
    return result


def _recall_points_reached(boxes: NDArray[np.int64], hits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the 101 recalls each number of hits reaches: a table, as one search per hit takes most of the time.

    Returns:
        int64[rows, max(boxes, hits) + 1], one row per distinct number of boxes; int64[resamples], each resample's row.
    """
    distinct, row = np.unique(boxes, return_inverse=True)
    counts = np.arange(max(int(distinct.max(initial=0)), hits) + 1)
    return np.searchsorted(_RECALLS, counts / distinct[:, None], side="right"), row.ravel()


def seed_noise(run_scores: NDArray[np.float64], seed: tuple[int, int] | None) -> NDArray[np.float64]:
    """Deviations due to the choice of seeds, to be added to the mean over runs on resampled images.

    Runs are drawn with replacement, as many as there are; the deviation is the mean of their scores on the original
    images minus the mean of all runs. With few runs its variance is too small by (runs - 1) / runs, which a factor
    corrects (the rescaling bootstrap of Rao & Wu, 1988). Runs also differ by chance on these images, which resampling
    the images already covers; that part of the variance is removed (the variance component of seeds, by the method of
    moments), as it would count twice.

    Args:
        run_scores: float64[1 + resamples, runs], scores on the original images and on each resample.
        seed: of the draws; None: no noise.

    Returns:
        float64[1 + resamples], 0 in the first row; all 0 for one run, or where runs differ by chance alone.
    """
    rows, runs = run_scores.shape
    noise = np.zeros(rows)
    differences = run_scores - run_scores.mean(axis=1, keepdims=True)
    spread = differences[0].var() * runs / max(runs - 1, 1)
    if seed is None or not spread > 0:  # NaN has no spread either
        return noise
    chance = np.nanvar(differences[1:], axis=0).mean() * runs / (runs - 1)
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=rows - 1)
    stretched = np.sqrt(runs / (runs - 1) * max(0, 1 - chance / spread))
    noise[1:] = stretched * (drawn / runs) @ differences[0]
    return noise


Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the ends of its interval, fractions; None where there is nothing to measure or to resample."""

    value: float | None
    low: float | None
    high: float | None

    def verdict(self) -> Verdict:
        """Whether a difference of a higher-is-better metric is above 0, below 0, or not significant."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True, slots=True)
class MetricIntervals:
    """Intervals of AP, AP50 and AP75.

    Attributes:
        overall: by "AP", "AP50" and "AP75".
        per_class: the same by category.
        covers: the sources of variation in the interval: the choice of images, or also of seeds.
    """

    overall: dict[str, Interval]
    per_class: dict[str, dict[str, Interval]]
    covers: Literal["images", "images and seeds"]


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapSamples:
    """AP of one system's runs on resamples of its images; make it with ``resample``.

    Attributes:
        categories: names.
        folds: one entry per fold, float64[1 + resamples, runs, T, K]; the first row is of the original images; NaN
            where a category has no label.
        truths: the labels of each fold.
        counts: int64[1 + resamples, images] of each fold, how often each image was drawn.
        scenes: number of groups in each fold that hold a label, by category and, under None, of any category.
    """

    categories: tuple[str, ...]
    folds: tuple[NDArray[np.float64], ...]
    truths: tuple[GroundTruth, ...]
    counts: tuple[NDArray[np.int64], ...]
    scenes: dict[str | None, list[int]]


def bootstrap(
    runs: Sequence[CocoEvaluation], *, resamples: int = 1000, seed: int = 0, groups: Sequence[int] | None = None
) -> MetricIntervals:
    """95 % intervals of the mean AP of runs that were evaluated on the same images.

    Args:
        runs: one or more trainings of a system with different seeds.
        resamples: number of resamples.
        seed: the same seed gives the same intervals.
        groups: group number of each image; images of one group are drawn together.

    Raises:
        DataError: the runs were evaluated against different labels.
    """
    return confidence_intervals(resample([runs], resamples=resamples, seed=seed, groups=[groups]))


def paired_bootstrap(
    a: Sequence[CocoEvaluation],
    b: Sequence[CocoEvaluation],
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[int] | None = None,
) -> MetricIntervals:
    """95 % intervals of the mean AP of ``a`` minus that of ``b``, both on the same resampled images.

    Arguments and errors as for ``bootstrap``.
    """
    first, second = (resample([runs], resamples=resamples, seed=seed, groups=[groups]) for runs in (a, b))
    return paired_difference_intervals(first, second)


def resample(
    folds: Sequence[Sequence[CocoEvaluation]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[Sequence[int] | None] | None = None,
) -> BootstrapSamples:
    """AP of every run on the same resamples of its fold's images; a fold's images stay a fold.

    Args:
        folds: for each fold the runs judged on it; one fold if there was no cross-validation.
        resamples, seed: how often to draw, and from which random numbers.
        groups: for each fold a number an image, or None; images with the same one are drawn together.

    Raises:
        DataError: the runs of a fold were evaluated against different labels.
    """
    if not folds or not all(folds):
        raise DataError("there is no run to resample", fix="give at least one evaluated run per fold")
    truths = tuple(runs[0].truth for runs in folds)
    categories = truths[0].categories
    values, draws = [], []
    scenes: dict[str | None, list[int]] = {key: [] for key in (None, *categories)}
    for j, (runs, truth) in enumerate(zip(folds, truths)):
        if truth.categories != categories or not all(same_labels(run.truth, truth) for run in runs):
            raise DataError(
                "the runs were evaluated against different labels", fix="evaluate all against the same labels"
            )
        together = groups[j] if groups is not None else None
        drawn = bootstrap_counts(len(truth.images), resamples=resamples, seed=seed + j, groups=together)
        counts = np.concatenate([np.ones((1, drawn.shape[1]), np.int64), drawn])
        values.append(np.stack([bootstrap_ap(run, counts) for run in runs], axis=1))
        draws.append(counts)
        for key, number in groups_with_boxes(truth, together).items():
            scenes[key].append(number)
    return BootstrapSamples(categories, tuple(values), truths, tuple(draws), scenes)


def confidence_intervals(
    resampled: BootstrapSamples, *, include_seeds: bool = True, confidence: float = 0.95
) -> MetricIntervals:
    """Intervals of the mean over runs and folds, by ``bootstrap_interval``.

    Args:
        resampled: a system's runs.
        include_seeds: also resample the runs of a fold, so that the interval covers the choice of seeds; without effect
            where there is one run.
        confidence: probability that such an interval contains the true value.
    """
    figures = _figures(resampled, 0 if include_seeds else None)
    figures = {key: np.clip(values, 0, 1) for key, values in figures.items()}  # deviations may leave the range
    return _intervals(figures, resampled, _covered(include_seeds, resampled), confidence, biased=True)


def paired_difference_intervals(
    a: BootstrapSamples, b: BootstrapSamples, *, include_seeds: bool = True, confidence: float = 0.95
) -> MetricIntervals:
    """Intervals of ``a`` minus ``b`` on the same resamples; arguments as for ``confidence_intervals``.

    Raises:
        DataError: they were evaluated against different labels or resampled differently.
    """
    same_truths = len(a.truths) == len(b.truths) and all(map(same_labels, a.truths, b.truths))
    if not same_truths or not all(map(np.array_equal, a.counts, b.counts)):
        found = "the systems were evaluated against different labels, or resampled differently"
        raise DataError(found, fix="evaluate both against the same labels and resample them with the same seed")
    # The seeds of two systems are independent, so each has its own random stream.
    first, second = (_figures(each, stream if include_seeds else None) for stream, each in enumerate((a, b)))
    figures = {key: first[key] - second[key] for key in first}
    return _intervals(figures, a, _covered(include_seeds, a, b), confidence, biased=False)


def confidence_interval(values: Scores, scenes: Collection[int], confidence: float, *, biased: bool) -> Interval:
    """A value with its interval.

    Args:
        values: float64[1 + resamples], the first of the original images; NaN where there is nothing to measure.
        scenes: number of groups that hold a label, in each fold; a fold with one gives no interval.
        confidence: probability that such an interval contains the true value.
        biased: whether the metric is higher on resamples, as AP is; ``bootstrap_interval`` corrects for it.
    """
    value = float(values[0]) if np.isfinite(values[0]) else None
    drawn = values[1:][np.isfinite(values[1:])]  # a rare category may be missing from a resample
    with_labels = [number for number in scenes if number]  # a fold without a label is not part of the mean
    if value is None or not drawn.size or min(with_labels, default=0) < 2:
        return Interval(value, None, None)
    return Interval(value, *bootstrap_interval(drawn, with_labels, confidence, above=value if biased else None))


def same_labels(a: GroundTruth, b: GroundTruth) -> bool:
    """Whether two sets of labels hold the same images, categories and boxes, in the same order."""
    named = a.images == b.images and a.categories == b.categories
    return named and all(
        np.array_equal(getattr(a, key), getattr(b, key)) for key in ("boxes_xywh", "image", "category", "crowd")
    )


def _figures(resampled: BootstrapSamples, stream: int | None) -> MetricSamples:
    """The mean over runs, then over folds."""
    folds: dict[tuple[str, str | None], list[NDArray[np.float64]]] = {}
    for j, values in enumerate(resampled.folds):
        seed = None if stream is None else (stream, j)
        for key, run_scores in by_metric(values, resampled.categories):
            folds.setdefault(key, []).append(run_scores.mean(axis=1) + seed_noise(run_scores, seed))
    return {key: nan_mean(np.stack(each)) for key, each in folds.items()}


def _intervals(
    figures: MetricSamples,
    drawn: BootstrapSamples,
    covers: Literal["images", "images and seeds"],
    confidence: float,
    *,
    biased: bool,
) -> MetricIntervals:
    scenes = drawn.scenes
    found = {
        key: confidence_interval(values, scenes[key[1]], confidence, biased=biased) for key, values in figures.items()
    }
    names = [name for name, category in found if category is None]
    per_class = {category: {name: found[name, category] for name in names} for category in drawn.categories}
    return MetricIntervals({name: found[name, None] for name in names}, per_class, covers)


def _covered(include_seeds: bool, *systems: BootstrapSamples) -> Literal["images", "images and seeds"]:
    several = all(values.shape[1] > 1 for each in systems for values in each.folds)
    return "images and seeds" if include_seeds and several else "images"


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
    """Intervals of the metrics in the report of one run.

    Args:
        evaluated: the evaluated run.
        groups, resamples, seed: as for ``bootstrap``.
        threshold: of score, for precision, recall and F1; by default the one with the best F1 over all categories.
            It is fixed in all resamples, and so are the thresholds of each best F1.
        confidence: probability that such an interval contains the true value.

    Returns:
        {"overall": {metric: {"low", "high"}}, "per_class": {name: the same}, "threshold", "resamples", "seed",
        "confidence", "groups"} of plain values, fractions. Metrics are COCOeval's twelve (those of a size if sizes were
        evaluated), "precision", "recall" and "f1" at the threshold, "best_f1" and "oLRP". The ends are None where there
        is nothing to measure, or where fewer than two groups hold a label. "groups" is the number of groups; without
        ``groups`` each image is one.
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
    """All metrics of a report that have an interval, on the same resamples.

    AP and AR, also by size and by number of detections, are COCOeval's. Precision, recall and F1 are those of
    detections with a score of at least ``threshold``, at an IoU of 0.5; "best_f1" is F1 at the threshold with the best
    F1 of each category, or over all categories; "oLRP" is LRP at the threshold where it is lowest. These thresholds
    are fixed: they are not chosen anew in each resample.
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
    """Matches over all sizes and for each size, by the suffix of the metric's name."""
    return {"": evaluated.all_sizes, **dict(zip("sml", evaluated.sizes))}


def _recall(
    evaluated: CocoEvaluation, counts: Counts, of_size: AreaRangeMatches, max_detections: int | None = None
) -> Scores:
    """AR of the best ``max_detections`` detections of each image and category (None: of all that were matched).

    Returns:
        float64[resamples, K + 1], the last over all categories; NaN where no label was drawn.
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
    """Rank of each detection within its image and category, from 0; the rows of each are adjacent."""
    starts = np.ones(len(image), dtype=bool)
    starts[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    first = np.flatnonzero(starts)
    return np.asarray(np.arange(len(image)) - first[np.cumsum(starts) - 1])


def _olrp(evaluated: CocoEvaluation, counts: Counts) -> Scores:
    """float64[resamples, K + 1], the last is the mean over categories; NaN where no label was drawn."""
    found, matches = evaluated.found, evaluated.matches
    chosen = [olrp(evaluated, k)["threshold"] for k in range(len(evaluated.truth.categories))]
    thresholds = np.array([np.inf if each is None else each for each in chosen])  # None: best without detections
    image, category = found.image[matches.order], found.category[matches.order]
    use = ~matches.ignored[IOU_50] & (found.scores[matches.order] >= thresholds[category])
    inexact = localisation_errors(evaluated, np.arange(len(matches.order))) * use
    hit = use & (matches.matched_label[IOU_50] >= 0)
    lack, true, shown = (counts @ _weight_sums(evaluated, image, category, each) for each in (inexact, hit, use))
    boxes = counts @ _boxes(evaluated, evaluated.all_sizes.to_find)
    cost = np.where(boxes > 0, lrp(lack, true, shown - true, boxes - true), np.nan)
    return np.column_stack([cost, nan_mean(cost.T)])


def _rates(evaluated: CocoEvaluation, counts: Counts, thresholds: Sequence[float]) -> dict[str, Scores]:
    """Precision, recall and F1: float64[resamples, K + 1], each column at its threshold; NaN where that is NaN."""
    found, matches = evaluated.found, evaluated.matches
    row = matches.order
    image, category, scores = found.image[row], found.category[row], found.scores[row]
    of_class, of_all = np.array(thresholds[:-1]), thresholds[-1]

    def drawn(use: NDArray[np.bool_]) -> Scores:
        own, together = (use & (scores >= threshold) for threshold in (of_class[category], of_all))
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
