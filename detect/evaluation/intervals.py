"""How far a score can be trusted: bootstrap intervals over images and trainings, alone and as a paired difference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .grouping import groups_with_boxes
from .records import Evaluated, Truth
from .resampling import (
    Figures,
    Scores,
    by_figure,
    draw_images,
    interval_ends,
    mean_of_defined,
    resampled_precision,
)
from .seed_noise import seed_noise

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
class Intervals:
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
class Resampled:
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
    truths: tuple[Truth, ...]
    counts: tuple[NDArray[np.int64], ...]
    scenes: dict[str | None, list[int]]


def bootstrap(
    runs: Sequence[Evaluated], *, resamples: int = 1000, seed: int = 0, groups: Sequence[int] | None = None
) -> Intervals:
    """95 % intervals of the mean AP of runs that were judged on the same images.

    Args:
        runs: trainings of one system that differ by their seeds; one alone is fine.
        resamples: how often to draw.
        seed: same seed, same intervals.
        groups: a number an image; images with the same one are drawn together.

    Raises:
        DataError: the runs were judged by different labels.
    """
    return intervals_of(resample([runs], resamples=resamples, seed=seed, groups=[groups]))


def paired_bootstrap(
    a: Sequence[Evaluated],
    b: Sequence[Evaluated],
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[int] | None = None,
) -> Intervals:
    """95 % intervals of the mean AP of ``a`` minus that of ``b``, both on the same resampled images.

    Arguments and errors as for ``bootstrap``.
    """
    first, second = (resample([runs], resamples=resamples, seed=seed, groups=[groups]) for runs in (a, b))
    return difference_of(first, second)


def resample(
    folds: Sequence[Sequence[Evaluated]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[Sequence[int] | None] | None = None,
) -> Resampled:
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
        drawn = draw_images(len(truth.images), resamples=resamples, seed=seed + j, groups=together)
        counts = np.concatenate([np.ones((1, drawn.shape[1]), np.int64), drawn])
        values.append(np.stack([resampled_precision(run, counts) for run in runs], axis=1))
        draws.append(counts)
        for key, number in groups_with_boxes(truth, together).items():
            scenes[key].append(number)
    return Resampled(categories, tuple(values), truths, tuple(draws), scenes)


def intervals_of(resampled: Resampled, *, seeds_too: bool = True, confidence: float = 0.95) -> Intervals:
    """Intervals of the mean over runs and folds; ``interval_ends`` says how their ends are found.

    Args:
        resampled: a system's runs.
        seeds_too: also draw among the runs of a fold, so that the interval covers other seeds and not these trained
            weights alone; says nothing where there is one run.
        confidence: share of such intervals that would hold the true value.
    """
    figures = _figures(resampled, 0 if seeds_too else None)
    figures = {key: np.clip(values, 0, 1) for key, values in figures.items()}  # stretched deviations may leave them
    return _intervals(figures, resampled, _covered(seeds_too, resampled), confidence, biased=True)


def difference_of(a: Resampled, b: Resampled, *, seeds_too: bool = True, confidence: float = 0.95) -> Intervals:
    """Such intervals of ``a`` minus ``b`` on the same resamples; arguments as for ``intervals_of``.

    Raises:
        DataError: they were not drawn alike.
    """
    alike = len(a.truths) == len(b.truths) and all(map(same_labels, a.truths, b.truths))
    if not alike or not all(map(np.array_equal, a.counts, b.counts)):
        found = "the systems were judged by different labels, or their images drawn differently"
        raise DataError(found, fix="judge both by the same and resample them with the same seed")
    # Two systems' seeds have nothing in common, so each draws its own.
    first, second = (_figures(each, stream if seeds_too else None) for stream, each in enumerate((a, b)))
    figures = {key: first[key] - second[key] for key in first}
    return _intervals(figures, a, _covered(seeds_too, a, b), confidence, biased=False)


def interval_of(values: Scores, scenes: Collection[int], confidence: float, *, biased: bool) -> Interval:
    """A figure with its interval.

    Args:
        values: float64[1 + resamples], the first of the images as they are; NaN where there is nothing to measure.
        scenes: how many groups of images hold a box, in each fold; from a fold of one nothing can be told.
        confidence: share of such intervals that would hold the true value.
        biased: the figure is higher on resamples than on the images, as AP is; ``interval_ends`` corrects for it.
    """
    value = float(values[0]) if np.isfinite(values[0]) else None
    drawn = values[1:][np.isfinite(values[1:])]  # a rare category may be missing from a resample
    told = [number for number in scenes if number]  # a fold without a box says nothing, and has no part in the mean
    if value is None or not drawn.size or min(told, default=0) < 2:
        return Interval(value, None, None)
    return Interval(value, *interval_ends(drawn, told, confidence, above=value if biased else None))


def same_labels(a: Truth, b: Truth) -> bool:
    """Whether two labellings hold the same images, categories and boxes, in the same order."""
    named = a.images == b.images and a.categories == b.categories
    return named and all(
        np.array_equal(getattr(a, key), getattr(b, key)) for key in ("boxes_xywh", "image", "category", "crowd")
    )


def _figures(resampled: Resampled, stream: int | None) -> Figures:
    """The mean over runs, then over folds."""
    folds: dict[tuple[str, str | None], list[NDArray[np.float64]]] = {}
    for j, values in enumerate(resampled.folds):
        seed = None if stream is None else (stream, j)
        for key, of_runs in by_figure(values, resampled.categories):
            folds.setdefault(key, []).append(of_runs.mean(axis=1) + seed_noise(of_runs, seed))
    return {key: mean_of_defined(np.stack(each)) for key, each in folds.items()}


def _intervals(
    figures: Figures,
    drawn: Resampled,
    covers: Literal["images", "images and seeds"],
    confidence: float,
    *,
    biased: bool,
) -> Intervals:
    scenes = drawn.scenes
    found = {key: interval_of(values, scenes[key[1]], confidence, biased=biased) for key, values in figures.items()}
    names = [name for name, category in found if category is None]
    per_class = {category: {name: found[name, category] for name in names} for category in drawn.categories}
    return Intervals({name: found[name, None] for name in names}, per_class, covers)


def _covered(seeds_too: bool, *systems: Resampled) -> Literal["images", "images and seeds"]:
    several = all(values.shape[1] > 1 for each in systems for values in each.folds)
    return "images and seeds" if seeds_too and several else "images"
