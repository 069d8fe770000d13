"""Bootstrap over images: intervals of COCO's figures and of all other figures of a report, from the same resamples."""

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
    """How often each image is drawn when as many as there are are drawn with replacement.

    Args:
        images: how many there are.
        resamples: how many times to draw so many.
        seed: same seed, same draws.
        groups: a number an image; those that share one (frames of a strip, near-duplicates) are drawn together, as
            they tell little more than one of them. None: each is its own group.

    Returns:
        int64[resamples, images].
    """
    of_image = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    count = int(of_image.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(count, 1)), size=resamples)
    return np.asarray(drawn[:, of_image], dtype=np.int64)


def bootstrap_ap(evaluated: CocoEvaluation, counts: Counts, of_size: AreaRangeMatches | None = None) -> Scores:
    """AP at each IoU and of each category on resamples of the images.

    It equals what COCOeval gives (up to rounding) on a data set with each image as often as it was drawn, under new
    ids that keep the order of the old ones; equal scores are ranked in that order, within an image in the order given.
    Matching knows one image at a time, so a copy is matched as its original, and only the ranking is done again.

    Args:
        evaluated: one run of COCOeval on the images as they are.
        counts: int[resamples, images], how often each image is drawn, 0 for not at all.
        of_size: one of ``evaluated.sizes``; None: boxes of all sizes.

    Returns:
        float64[resamples, T, K], fractions; NaN where no box of the category was drawn.
    """
    of_size = of_size or evaluated.all_sizes
    truth, found, matches = evaluated.truth, evaluated.found, of_size.matches
    result = np.full((len(counts), len(matches.matched_label), len(truth.categories)), np.nan)
    small = counts.astype(np.int32)
    counts_somewhere = ~matches.ignored.all(axis=0)  # at one IoU or another; those of another size don't
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
    """Figures of each run, float64[resamples, runs], by (name, category or None), of float64[resamples, runs, T, K]."""
    by_name = {"AP": values.mean(axis=2), "AP50": values[:, :, IOU_50], "AP75": values[:, :, IOU_75]}
    for name, of_class in by_name.items():
        yield (name, None), nan_mean(np.moveaxis(of_class, -1, 0))
        for k, category in enumerate(categories):
            yield (name, category), of_class[..., k]


def nan_mean(values: Scores) -> Scores:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def bootstrap_interval(
    values: Scores, groups: Collection[int], confidence: float, *, above: float | None = None
) -> tuple[float, float]:
    """The ends of an interval: percentiles of resampled values.

    They lie as far out as a Student's t interval of as many groups would reach, as plain percentiles of few groups are
    too close together (Hesterberg, 2015).

    AP on few images is too high, since each precision counts as the best at its recall or beyond, and it is higher
    still on resamples, which hold fewer different images. So its percentiles are moved down by as much as the middle of
    the resamples lies above it (BC percentiles; Efron, 1981), by twice a standard deviation at most. Differences of two
    systems are not: the bias cancels, and what is left to correct for is luck.

    Args:
        values: float[resamples], no NaN.
        groups: how many there were to draw in each fold, 2 or more; the values are means over folds.
        confidence: share of such intervals that would hold the true value.
        above: the figure on the images as they are, if it is to be corrected for.
    """
    normal = NormalDist()
    moved = 0.0
    if above is not None:
        below = float(np.mean(values < above) + np.mean(values == above) / 2)
        moved = 2 * normal.inv_cdf(min(max(below, normal.cdf(-1)), normal.cdf(1)))
    # Of g groups, resamples show (g - 1) / g of a fold's variance, which is about as 1 / g; degrees of freedom by Welch
    # and Satterthwaite.
    total = sum(1 / number for number in groups)
    shown = sum((number - 1) / number**2 for number in groups) / total
    freedom = total**2 / sum(1 / (number**2 * (number - 1)) for number in groups)
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) / sqrt(shown)
    low, high = np.quantile(values, (normal.cdf(moved - reach), normal.cdf(moved + reach)))
    return float(low), float(high)


def _expand_ties(scores: Scores, image: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranked detections of one category, laid out so that the copies of an image come out in the right order.

    The copies of a detection follow each other in the ranking and so share one place, weighted by their number. Where
    detections of one image have equal scores, though, the first copy of them all comes before the second of them all:
    these have a place for each copy.

    Returns:
        int64[P]: the detection at each place; int64[P]: which copy of it, counted from 1, or 0 for all copies.
    """
    starts = np.ones(len(scores), dtype=bool)
    starts[1:] = (scores[1:] != scores[:-1]) | (image[1:] != image[:-1])
    group = np.cumsum(starts) - 1
    tied = np.bincount(group)[group] > 1 if len(group) else starts
    places = np.repeat(np.arange(len(scores)), np.where(tied, most, 1))
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
    """Draws of that move, to be added to the mean over runs on resampled images.

    Runs are drawn with replacement, as many as there are, and the mean of their scores on the images as they are is
    held against the mean of all. With few runs this spreads too little, by (runs - 1) / runs in variance, and is
    stretched by what is missing (the rescaling bootstrap of Rao & Wu, 1988). But runs also differ because each has its
    own luck with these images, which resampling the images shows already; it is taken out (the variance component of
    seeds, by the method of moments), else it would count twice.

    Args:
        run_scores: float64[1 + resamples, runs], scores on the images as they are and on each resample of them.
        seed: of the draws; None: no noise.

    Returns:
        float64[1 + resamples], 0 in the first row; all 0 for one run, or where runs differ by their luck alone.
    """
    rows, runs = run_scores.shape
    noise = np.zeros(rows)
    differences = run_scores - run_scores.mean(axis=1, keepdims=True)
    spread = differences[0].var() * runs / max(runs - 1, 1)
    if seed is None or not spread > 0:  # NaN has no spread either
        return noise
    luck = np.nanvar(differences[1:], axis=0).mean() * runs / (runs - 1)
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=rows - 1)
    stretched = np.sqrt(runs / (runs - 1) * max(0, 1 - luck / spread))
    noise[1:] = stretched * (drawn / runs) @ differences[0]
    return noise


Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the ends of its interval, fractions; None where there is nothing to measure or to draw from."""

    value: float | None
    low: float | None
    high: float | None

    def verdict(self) -> Verdict:
        """What a difference of a higher-is-better figure says: its interval lies above 0, below, or around it."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True, slots=True)
class MetricIntervals:
    """Intervals of AP, AP50 and AP75.

    Attributes:
        overall: by "AP", "AP50" and "AP75".
        per_class: the same by category.
        covers: what would change if all were done again: other images, or also other seeds.
    """

    overall: dict[str, Interval]
    per_class: dict[str, dict[str, Interval]]
    covers: Literal["images", "images and seeds"]


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapSamples:
    """AP of one system's runs on resamples of its images; make it with ``resample``.

    Attributes:
        categories: names.
        folds: one entry a fold, float64[1 + resamples, runs, T, K]; the first row is of the images as they are, NaN
            stands where a category has no box.
        truths: the labels of each fold.
        counts: int64[1 + resamples, images] of each fold, how often each image was drawn.
        scenes: how many groups of images of each fold hold a box to find of each category and, under None, of any.
    """

    categories: tuple[str, ...]
    folds: tuple[NDArray[np.float64], ...]
    truths: tuple[GroundTruth, ...]
    counts: tuple[NDArray[np.int64], ...]
    scenes: dict[str | None, list[int]]


def bootstrap(
    runs: Sequence[CocoEvaluation], *, resamples: int = 1000, seed: int = 0, groups: Sequence[int] | None = None
) -> MetricIntervals:
    """95 % intervals of the mean AP of runs that were judged on the same images.

    Args:
        runs: trainings of one system that differ by their seeds; one alone is fine.
        resamples: how often to draw.
        seed: same seed, same intervals.
        groups: a number an image; images with the same one are drawn together.

    Raises:
        DataError: the runs were judged by different labels.
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
        DataError: the runs of a fold were judged by different labels.
    """
    if not folds or not all(folds):
        raise DataError("there is no run to resample", fix="give at least one judged run a fold")
    truths = tuple(runs[0].truth for runs in folds)
    categories = truths[0].categories
    values, draws = [], []
    scenes: dict[str | None, list[int]] = {key: [] for key in (None, *categories)}
    for j, (runs, truth) in enumerate(zip(folds, truths)):
        if truth.categories != categories or not all(same_labels(run.truth, truth) for run in runs):
            raise DataError("the runs were judged by different labels", fix="judge all by the same")
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
    """Intervals of the mean over runs and folds; ``bootstrap_interval`` says how their ends are found.

    Args:
        resampled: a system's runs.
        include_seeds: also draw among the runs of a fold, so that the interval covers other seeds and not these trained
            weights alone; says nothing where there is one run.
        confidence: share of such intervals that would hold the true value.
    """
    figures = _figures(resampled, 0 if include_seeds else None)
    figures = {key: np.clip(values, 0, 1) for key, values in figures.items()}  # stretched deviations may leave them
    return _intervals(figures, resampled, _covered(include_seeds, resampled), confidence, biased=True)


def paired_difference_intervals(
    a: BootstrapSamples, b: BootstrapSamples, *, include_seeds: bool = True, confidence: float = 0.95
) -> MetricIntervals:
    """Such intervals of ``a`` minus ``b`` on the same resamples; arguments as for ``confidence_intervals``.

    Raises:
        DataError: they were not drawn alike.
    """
    alike = len(a.truths) == len(b.truths) and all(map(same_labels, a.truths, b.truths))
    if not alike or not all(map(np.array_equal, a.counts, b.counts)):
        found = "the systems were judged by different labels, or their images drawn differently"
        raise DataError(found, fix="judge both by the same and resample them with the same seed")
    # Two systems' seeds have nothing in common, so each draws its own.
    first, second = (_figures(each, stream if include_seeds else None) for stream, each in enumerate((a, b)))
    figures = {key: first[key] - second[key] for key in first}
    return _intervals(figures, a, _covered(include_seeds, a, b), confidence, biased=False)


def confidence_interval(values: Scores, scenes: Collection[int], confidence: float, *, biased: bool) -> Interval:
    """A figure with its interval.

    Args:
        values: float64[1 + resamples], the first of the images as they are; NaN where there is nothing to measure.
        scenes: how many groups of images hold a box, in each fold; from a fold of one nothing can be told.
        confidence: share of such intervals that would hold the true value.
        biased: the figure is higher on resamples than on the images, as AP is; ``bootstrap_interval`` corrects for it.
    """
    value = float(values[0]) if np.isfinite(values[0]) else None
    drawn = values[1:][np.isfinite(values[1:])]  # a rare category may be missing from a resample
    told = [number for number in scenes if number]  # a fold without a box says nothing, and has no part in the mean
    if value is None or not drawn.size or min(told, default=0) < 2:
        return Interval(value, None, None)
    return Interval(value, *bootstrap_interval(drawn, told, confidence, above=value if biased else None))


def same_labels(a: GroundTruth, b: GroundTruth) -> bool:
    """Whether two labellings hold the same images, categories and boxes, in the same order."""
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
