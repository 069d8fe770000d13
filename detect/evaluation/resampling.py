"""Scores on resampled images, as pycocotools would give them there, from matches computed once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from .ap import IOU_50, IOU_75
from .records import Evaluated, OfSize

_RECALLS = np.linspace(0, 1, 101)
_CELLS = 2_000_000  # resamples x detections at a time, so that memory stays below some 50 MB

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]
Figures = dict[tuple[str, str | None], Scores]  # (name, category or None for all) -> float64[resamples]


def draw_images(images: int, *, resamples: int, seed: int, groups: Sequence[int] | None = None) -> Counts:
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


def resampled_precision(evaluated: Evaluated, counts: Counts, of_size: OfSize | None = None) -> Scores:
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
    result = np.full((len(counts), len(matches.truth_of), len(truth.categories)), np.nan)
    small = counts.astype(np.int32)
    counts_somewhere = ~matches.ignored.all(axis=0)  # at one IoU or another; those of another size don't
    for k in range(len(truth.categories)):
        to_find = np.bincount(truth.image[(truth.category == k) & of_size.to_find], minlength=len(truth.images))
        boxes = counts @ to_find
        columns = np.flatnonzero((found.category[matches.order] == k) & counts_somewhere)
        columns = columns[np.argsort(-found.scores[matches.order[columns]], kind="stable")]
        rows = matches.order[columns]
        places, copies = _laid_out(found.scores[rows], found.image[rows], int(counts.max(initial=1)))
        columns, image = columns[places], found.image[rows][places]
        hits, ignored = matches.truth_of[:, columns] >= 0, matches.ignored[:, columns]
        drawn = np.flatnonzero(boxes)
        for part in np.array_split(drawn, 1 + len(drawn) * len(columns) // _CELLS):
            weights = small[np.ix_(part, image)]
            if copies.any():
                weights = np.where(copies > 0, weights >= copies, weights)
            result[part, :, k] = _average_precision(weights, hits & ~ignored, ignored, boxes[part])
    return result


def by_figure(values: Scores, categories: Sequence[str]) -> Iterator[tuple[tuple[str, str | None], Scores]]:
    """Figures of each run, float64[resamples, runs], by (name, category or None), of float64[resamples, runs, T, K]."""
    by_name = {"AP": values.mean(axis=2), "AP50": values[:, :, IOU_50], "AP75": values[:, :, IOU_75]}
    for name, of_class in by_name.items():
        yield (name, None), mean_of_defined(np.moveaxis(of_class, -1, 0))
        for k, category in enumerate(categories):
            yield (name, category), of_class[..., k]


def mean_of_defined(values: Scores) -> Scores:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def interval_ends(
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


def _laid_out(scores: Scores, image: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def _average_precision(
    weights: NDArray[Any], hits: NDArray[np.bool_], ignored: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> Scores:
    """float64[resamples, T] from int[resamples, P] weights of ranked detections and bool[T, P] of what they are.

    Interpolated precision, the greatest at this or a higher recall, is reached at hits, so only these are looked at.
    """
    ranks = np.cumsum(weights, axis=1, dtype=np.int32)
    result = np.zeros((len(weights), len(hits)))
    recalls, row = _recalls_reached(boxes)
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


def _recalls_reached(boxes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the 101 recalls so many hits reach, looked up because a search for each hit takes most of the time.

    Returns:
        int64[rows, hits + 1], one row for each number of boxes; int64[resamples], the row of each resample.
    """
    distinct, row = np.unique(boxes, return_inverse=True)
    hits = np.arange(distinct.max(initial=0) + 1)
    return np.searchsorted(_RECALLS, hits / distinct[:, None], side="right"), row.ravel()
