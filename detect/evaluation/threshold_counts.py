"""Missed defects and false alarms at any score threshold of a category, with confidence bounds of their rates.

Each bound holds with the given confidence by itself; two bounds of 0.95 make an interval of 0.90. Counts may be
fractions, so that counts of clustered cases can be divided by their design effect first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, gammainc, gammaincinv

from ..errors import DataError
from .coco_eval import IOU_50, NO_DETECTIONS_THRESHOLD
from .records import CocoEvaluation, GroundTruth


def clopper_pearson_bounds(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of a proportion: ``count`` of ``of`` independent cases (Clopper and Pearson 1934).

    Args:
        count: 0 to ``of``.
        of: number of cases, above 0.
        confidence: of each bound, 0 to 1.
    """
    low = 0.0 if count <= 0 else float(betaincinv(count, of - count + 1, 1 - confidence))
    high = 1.0 if count >= of else float(betaincinv(count + 1, of - count, confidence))
    return low, high


def garwood_bounds(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of a rate: ``count`` independent events on ``of`` images (Garwood 1936)."""
    low = 0.0 if count <= 0 else float(gammaincinv(count, 1 - confidence))
    return low / of, float(gammaincinv(count + 1, confidence)) / of


def share_within_limit(count: float, of: float, limit: float, confidence: float) -> bool:
    """Whether the upper bound of a proportion is at most ``limit``; faster than the bound itself."""
    return count < of and bool(betainc(count + 1, of - count, limit) >= confidence)


def rate_within_limit(count: float, of: float, limit: float, confidence: float) -> bool:
    """Whether the upper bound of a rate is at most ``limit``."""
    return bool(gammainc(count + 1, limit * of) >= confidence)


def required_cases(limit: float, confidence: float, rate: float = 0.0) -> int | None:
    """The number of cases at which the upper bound of the proportion is ``limit``, if ``rate`` of them are counted.

    With a rate of 0 that is about 3 / limit at a confidence of 0.95. None: the rate is not below the limit, or more
    than 10^9 cases are needed.
    """
    return _smallest(lambda of: share_within_limit(rate * of, of, limit, confidence)) if rate < limit else None


def required_images_for_rate(limit: float, confidence: float, rate: float = 0.0) -> int | None:
    """The number of images at which the upper bound is ``limit``, if each has ``rate`` events; None as above."""
    return _smallest(lambda of: rate_within_limit(rate * of, of, limit, confidence)) if rate < limit else None


def share_estimate(count: int, of: int, confidence: float, design_effect: float = 1.0) -> dict[str, Any]:
    """{"count", "of", "rate", "low", "high"}; the last three are None if ``of`` is 0."""
    if not of:
        return {"count": count, "of": of, "rate": None, "low": None, "high": None}
    low, high = clopper_pearson_bounds(count / design_effect, of / design_effect, confidence)
    return {"count": count, "of": of, "rate": count / of, "low": low, "high": high}


def rate_estimate(count: int, of: int, confidence: float, design_effect: float = 1.0) -> dict[str, Any]:
    """The same for events on ``of`` images."""
    if not of:
        return {"count": count, "of": of, "rate": None, "low": None, "high": None}
    low, high = garwood_bounds(count / design_effect, of / design_effect, confidence)
    return {"count": count, "of": of, "rate": count / of, "low": low, "high": high}


def share_design_effect(counted: NDArray[np.int64], cases: NDArray[np.int64]) -> float:
    """The ratio of the variance of a proportion to that of independent cases, at least 1 (Korn and Graubard 1998).

    Args:
        counted, cases: int[units], for each image or group.
    """
    has_cases = cases > 0
    counted, cases = counted[has_cases], cases[has_cases]
    mean = counted.sum() / max(cases.sum(), 1)
    return _design_effect(counted - mean * cases, float(counted.sum() * (1 - mean)))


def rate_design_effect(counted: NDArray[np.int64], images: NDArray[np.int64]) -> float:
    """The ratio of the variance of a rate to that of independent events, at least 1; int[units] as above."""
    has_images = images > 0
    counted, images = counted[has_images], images[has_images]
    mean = counted.sum() / max(images.sum(), 1)
    return _design_effect(counted - mean * images, float(counted.sum()))


def _design_effect(residuals: NDArray[np.float64], independent: float) -> float:
    units = len(residuals)
    if units < 2 or independent <= 0:
        return 1.0
    return max(1.0, float(residuals @ residuals) * units / (units - 1) / independent)


def _smallest(enough: Callable[[int], bool]) -> int | None:
    high = 1
    while not enough(high):
        high *= 2
        if high > 10**9:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdCounts:
    """Defects and false alarms of one category on some of the images.

    Attributes:
        defect_scores: float64[N], ascending: score of the detection that matches each defect, -inf for none.
        defect_units: int64[N], image or group of each defect.
        false_scores: float64[F], ascending: scores of the false alarms.
        false_units: int64[F], image or group of each false alarm.
        images: int64[U], number of images in each unit.
    """

    defect_scores: NDArray[np.float64]
    defect_units: NDArray[np.int64]
    false_scores: NDArray[np.float64]
    false_units: NDArray[np.int64]
    images: NDArray[np.int64]

    def thresholds(self) -> NDArray[np.float64]:
        """Ascending, one for each set of detections that a threshold can select.

        Each is halfway between the lowest score that it keeps and the next lower one, so that rounding on another
        machine has no effect. The first keeps all, the last none (unless a score is 1). Without detections there is
        only the default, 0.5.
        """
        scores = np.unique(np.concatenate([self.defect_scores, self.false_scores]))
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return np.array([NO_DETECTIONS_THRESHOLD])
        above_all = (scores[-1:] + 1) / 2
        return np.concatenate([scores[:1], (scores[1:] + scores[:-1]) / 2, above_all[scores[-1:] < 1]])

    def missed(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of defects missed at each threshold."""
        return np.searchsorted(self.defect_scores, thresholds, side="left")

    def false_alarms(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of false alarms at each threshold."""
        return len(self.false_scores) - np.searchsorted(self.false_scores, thresholds, side="left")

    def miss_counts(self, threshold: float) -> tuple[int, int, float]:
        """Missed defects, all defects, and the design effect of their ratio."""
        missed = int(np.searchsorted(self.defect_scores, threshold, side="left"))
        of_unit, all_of_unit = (self._by_unit(self.defect_units[:n]) for n in (missed, len(self.defect_units)))
        return missed, len(self.defect_scores), share_design_effect(of_unit, all_of_unit)

    def false_counts(self, threshold: float) -> tuple[int, int, float]:
        """False alarms, images, and the design effect of their rate."""
        first = int(np.searchsorted(self.false_scores, threshold, side="left"))
        of_unit = self._by_unit(self.false_units[first:])
        return len(self.false_scores) - first, int(self.images.sum()), rate_design_effect(of_unit, self.images)

    def rates(self, threshold: float, confidence: float) -> dict[str, Any]:
        """{"missed", "false_alarms"}: count, of, rate, low, high and design_effect of the share of missed defects and
        of the false alarms per image."""
        missed, false = self.miss_counts(threshold), self.false_counts(threshold)
        return {
            "missed": share_estimate(*missed[:2], confidence, missed[2]) | {"design_effect": missed[2]},
            "false_alarms": rate_estimate(*false[:2], confidence, false[2]) | {"design_effect": false[2]},
        }

    def _by_unit(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(units, minlength=len(self.images))


def matched_scores(evaluated: CocoEvaluation) -> NDArray[np.float64]:
    """float64[G]: score of the detection that matches each label, -inf for none."""
    found, matches = evaluated.found, evaluated.matches
    hits = np.flatnonzero((matches.matched_label[IOU_50] >= 0) & ~matches.ignored[IOU_50])
    scores = np.full(len(evaluated.truth.image), -np.inf)
    scores[matches.matched_label[IOU_50, hits]] = found.scores[matches.order[hits]]
    return scores


def threshold_counts(
    evaluated: CocoEvaluation, images: NDArray[np.bool_], units: NDArray[np.int64]
) -> Iterator[ThresholdCounts]:
    """One per category, in the truth's order; crowd regions are left out.

    Args:
        evaluated: one run of COCOeval.
        images: bool[images], which to use.
        units: int64[images], image or group number of each image.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    scores = matched_scores(evaluated)
    defects = np.flatnonzero(~truth.crowd & images[truth.image])
    alarms = matches.order[(matches.matched_label[IOU_50] < 0) & ~matches.ignored[IOU_50]]
    alarms = alarms[images[found.image[alarms]]]
    defects = defects[np.lexsort((scores[defects], truth.category[defects]))]
    alarms = alarms[np.lexsort((found.scores[alarms], found.category[alarms]))]
    edges = np.arange(len(truth.categories) + 1)
    defect_edges = np.searchsorted(truth.category[defects], edges)
    alarm_edges = np.searchsorted(found.category[alarms], edges)
    sizes = np.bincount(units[images], minlength=int(units.max(initial=-1)) + 1)
    for k in range(len(truth.categories)):
        of_class = defects[defect_edges[k] : defect_edges[k + 1]]
        false = alarms[alarm_edges[k] : alarm_edges[k + 1]]
        yield ThresholdCounts(
            defect_scores=scores[of_class],
            defect_units=units[truth.image[of_class]],
            false_scores=found.scores[false],
            false_units=units[found.image[false]],
            images=sizes,
        )


def sampling_units(images: int, groups: Sequence[int] | None) -> NDArray[np.int64]:
    """int64[images]: sampling unit of each image, numbered from 0: its group, or the image itself.

    Raises:
        DataError: not a group for each image.
    """
    if groups is None:
        return np.arange(images)
    if len(groups) != images:
        raise DataError(f"{len(groups)} groups for {images} images", fix="give one number per image")
    return np.unique(np.asarray(groups), return_inverse=True)[1].ravel().astype(np.int64)


def tuning_images(truth: GroundTruth, units: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.bool_]:
    """bool[images]: images of the tuning part; the others are the holdout part. Units are not divided.

    Args:
        truth: labels; units are stratified by their rarest category.
        units: int64[images], from ``sampling_units``.
        share: of the units, 0 to 1.
        seed: the same seed gives the same part.
    """
    order, start = _shuffled(truth, units, seed)
    steps = np.floor(np.arange(len(order) + 1) * share + start)
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order] = np.diff(steps) > 0
    return chosen[units]


def fold_ids(truth: GroundTruth, units: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """int64[images]: the fold of each image, 0 to ``folds`` - 1; arguments as above."""
    order, _ = _shuffled(truth, units, seed)
    fold = np.zeros(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold[units]


def _shuffled(truth: GroundTruth, units: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], float]:
    """Units sorted by their rarest category, in random order within; and a random offset from 0 to 1."""
    categories, count = len(truth.categories), int(units.max(initial=-1)) + 1
    boxes = np.bincount(truth.category, minlength=categories)
    rank = np.argsort(np.argsort(boxes, kind="stable"), kind="stable")
    rarest = np.full(count, categories, dtype=np.int64)  # units without a label come last
    np.minimum.at(rarest, units[truth.image], rank[truth.category])
    rng = np.random.default_rng(seed)
    return np.lexsort((rng.random(count), rarest)), float(rng.random())
