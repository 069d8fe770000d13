"""What any score threshold of a category would miss and raise on some of the images, at an IoU of 0.5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ap import IOU_50
from ..curves import NO_DETECTIONS_THRESHOLD
from ..records import Evaluated
from .bounds import rate, rate_design_effect, share, share_design_effect


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """One category on some of the images.

    Attributes:
        defect_scores: float64[N], rising: the score with which each defect was found, -inf where it never was.
        defect_units: int64[N], the image or group of each.
        false_scores: float64[F], rising: the scores of the false alarms.
        false_units: int64[F], likewise.
        images: int64[U], the number of these images in each unit.
    """

    defect_scores: NDArray[np.float64]
    defect_units: NDArray[np.int64]
    false_scores: NDArray[np.float64]
    false_units: NDArray[np.int64]
    images: NDArray[np.int64]

    def thresholds(self) -> NDArray[np.float64]:
        """Rising, one for each set of detections that a threshold can part from the rest.

        Each lies midway between the lowest score that it keeps and the next below, so that rounding on another
        machine changes nothing. The first keeps all, the last none (unless a score is 1). Without a detection it is
        the one that stands for no choice, 0.5.
        """
        scores = np.unique(np.concatenate([self.defect_scores, self.false_scores]))
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return np.array([NO_DETECTIONS_THRESHOLD])
        above_all = (scores[-1:] + 1) / 2
        return np.concatenate([scores[:1], (scores[1:] + scores[:-1]) / 2, above_all[scores[-1:] < 1]])

    def missed(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Defects that each threshold misses."""
        return np.searchsorted(self.defect_scores, thresholds, side="left")

    def false_alarms(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """False alarms that each threshold raises."""
        return len(self.false_scores) - np.searchsorted(self.false_scores, thresholds, side="left")

    def miss_counts(self, threshold: float) -> tuple[int, int, float]:
        """Missed defects, all defects, and the design effect of their share."""
        missed = int(np.searchsorted(self.defect_scores, threshold, side="left"))
        of_unit, all_of_unit = (self._by_unit(self.defect_units[:n]) for n in (missed, len(self.defect_units)))
        return missed, len(self.defect_scores), share_design_effect(of_unit, all_of_unit)

    def false_counts(self, threshold: float) -> tuple[int, int, float]:
        """False alarms, images, and the design effect of their rate."""
        first = int(np.searchsorted(self.false_scores, threshold, side="left"))
        of_unit = self._by_unit(self.false_units[first:])
        return len(self.false_scores) - first, int(self.images.sum()), rate_design_effect(of_unit, self.images)

    def rates(self, threshold: float, confidence: float) -> dict[str, Any]:
        """{"missed", "false_alarms"}: count, of, rate, low, high and design_effect of the share of defects missed and
        of the false alarms an image."""
        missed, false = self.miss_counts(threshold), self.false_counts(threshold)
        return {
            "missed": share(*missed[:2], confidence, missed[2]) | {"design_effect": missed[2]},
            "false_alarms": rate(*false[:2], confidence, false[2]) | {"design_effect": false[2]},
        }

    def _by_unit(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(units, minlength=len(self.images))


def found_scores(evaluated: Evaluated) -> NDArray[np.float64]:
    """float64[G]: the score of the detection that matched each label, -inf for none."""
    found, matches = evaluated.found, evaluated.matches
    hits = np.flatnonzero((matches.truth_of[IOU_50] >= 0) & ~matches.ignored[IOU_50])
    scores = np.full(len(evaluated.truth.image), -np.inf)
    scores[matches.truth_of[IOU_50, hits]] = found.scores[matches.order[hits]]
    return scores


def tallies(evaluated: Evaluated, images: NDArray[np.bool_], units: NDArray[np.int64]) -> Iterator[Tally]:
    """One tally a category, in the truth's order; crowds are left out.

    Args:
        evaluated: one run of COCOeval.
        images: bool[images], which to look at.
        units: int64[images], the image or group that each counts with.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    scores = found_scores(evaluated)
    defects = np.flatnonzero(~truth.crowd & images[truth.image])
    alarms = matches.order[(matches.truth_of[IOU_50] < 0) & ~matches.ignored[IOU_50]]
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
        yield Tally(
            defect_scores=scores[of_class],
            defect_units=units[truth.image[of_class]],
            false_scores=found.scores[false],
            false_units=units[found.image[false]],
            images=sizes,
        )
