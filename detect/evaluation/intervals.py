"""How far AP can be trusted: bootstrap intervals over images and trainings, alone and as a paired difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .ap import IOU_50, IOU_75
from .records import Evaluated, Truth
from .resampling import draw_images, resampled_precision
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
        scenes: how many groups of images there were to draw in all folds; from one nothing can be told.
    """

    categories: tuple[str, ...]
    folds: tuple[NDArray[np.float64], ...]
    truths: tuple[Truth, ...]
    counts: tuple[NDArray[np.int64], ...]
    scenes: int


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
    values, draws, scenes = [], [], 0
    for j, (runs, truth) in enumerate(zip(folds, truths)):
        if truth.categories != categories or not all(_same_labels(run.truth, truth) for run in runs):
            raise DataError("the runs were judged by different labels", fix="judge all by the same")
        together = groups[j] if groups is not None else None
        drawn = draw_images(len(truth.images), resamples=resamples, seed=seed + j, groups=together)
        counts = np.concatenate([np.ones_like(drawn[:1]), drawn])
        values.append(np.stack([resampled_precision(run, counts) for run in runs], axis=1))
        draws.append(counts)
        scenes += len(truth.images if together is None else set(together))
    return Resampled(categories, tuple(values), truths, tuple(draws), scenes)


def intervals_of(resampled: Resampled, *, seeds_too: bool = True, confidence: float = 0.95) -> Intervals:
    """Percentile intervals of the mean over runs and folds.

    Args:
        resampled: a system's runs.
        seeds_too: also draw among the runs of a fold, so that the interval covers other seeds and not these trained
            weights alone; says nothing where there is one run.
        confidence: share of such intervals that would hold the true value.
    """
    figures = _figures(resampled, 0 if seeds_too else None)
    figures = {key: np.clip(values, 0, 1) for key, values in figures.items()}  # stretched deviations may leave them
    return _intervals(figures, resampled, _covered(seeds_too, resampled), confidence)


def difference_of(a: Resampled, b: Resampled, *, seeds_too: bool = True, confidence: float = 0.95) -> Intervals:
    """Percentile intervals of ``a`` minus ``b`` on the same resamples; arguments as for ``intervals_of``.

    Raises:
        DataError: they were not drawn alike.
    """
    alike = len(a.truths) == len(b.truths) and all(map(_same_labels, a.truths, b.truths))
    if not alike or not all(map(np.array_equal, a.counts, b.counts)):
        found = "the systems were judged by different labels, or their images drawn differently"
        raise DataError(found, fix="judge both by the same and resample them with the same seed")
    # Two systems' seeds have nothing in common, so each draws its own.
    first, second = (_figures(each, stream if seeds_too else None) for stream, each in enumerate((a, b)))
    figures = {key: first[key] - second[key] for key in first}
    return _intervals(figures, a, _covered(seeds_too, a, b), confidence)


def _figures(resampled: Resampled, stream: int | None) -> dict[tuple[str, str | None], NDArray[np.float64]]:
    """(figure, category or None for all) -> float64[1 + resamples], the mean over runs, then over folds."""
    folds: dict[tuple[str, str | None], list[NDArray[np.float64]]] = {}
    for j, values in enumerate(resampled.folds):
        seed = None if stream is None else (stream, j)
        for key, of_runs in _by_figure(values, resampled.categories):
            folds.setdefault(key, []).append(of_runs.mean(axis=1) + seed_noise(of_runs, seed))
    return {key: _mean(np.stack(each)) for key, each in folds.items()}


def _by_figure(
    values: NDArray[np.float64], categories: Sequence[str]
) -> Iterator[tuple[tuple[str, str | None], NDArray[np.float64]]]:
    """Figures of each run, float64[1 + resamples, runs]."""
    by_name = {"AP": values.mean(axis=2), "AP50": values[:, :, IOU_50], "AP75": values[:, :, IOU_75]}
    for name, of_class in by_name.items():
        yield (name, None), _mean(np.moveaxis(of_class, -1, 0))
        for k, category in enumerate(categories):
            yield (name, category), of_class[..., k]


def _intervals(
    figures: dict[tuple[str, str | None], NDArray[np.float64]],
    drawn: Resampled,
    covers: Literal["images", "images and seeds"],
    confidence: float,
) -> Intervals:
    ends = ((1 - confidence) / 2, (1 + confidence) / 2)
    found = {key: _interval(values if drawn.scenes > 1 else values[:1], ends) for key, values in figures.items()}
    names = [name for name, category in found if category is None]
    per_class = {category: {name: found[name, category] for name in names} for category in drawn.categories}
    return Intervals({name: found[name, None] for name in names}, per_class, covers)


def _interval(values: NDArray[np.float64], ends: tuple[float, float]) -> Interval:
    drawn = values[1:][np.isfinite(values[1:])]  # a rare category may be missing from a resample
    if not np.isfinite(values[0]) or not drawn.size:
        return Interval(float(values[0]) if np.isfinite(values[0]) else None, None, None)
    low, high = np.quantile(drawn, ends)
    return Interval(float(values[0]), float(low), float(high))


def _covered(seeds_too: bool, *systems: Resampled) -> Literal["images", "images and seeds"]:
    several = all(values.shape[1] > 1 for each in systems for values in each.folds)
    return "images and seeds" if seeds_too and several else "images"


def _same_labels(a: Truth, b: Truth) -> bool:
    named = a.images == b.images and a.categories == b.categories
    return named and all(
        np.array_equal(getattr(a, key), getattr(b, key)) for key in ("boxes_xywh", "image", "category", "crowd")
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is defined; NaN where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
