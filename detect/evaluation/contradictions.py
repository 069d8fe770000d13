"""What the detections of one image have against its labels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..boxes import Array

Reason = Literal["missing", "wrong class", "badly drawn", "not found"]

IOUS = (0.5, 0.55, 0.6)  # at which the confidence in a detection is asked for
LOOSELY = 0.3  # IoU from which on two boxes have to do with each other
_WELL, _SAME_PLACE, _APART = 0.6, 0.5, 0.1  # IoUs
_HALF = 0.5  # of a box, that lies within another


class Contradiction(NamedTuple):
    """Why and how surely a detection contradicts; ``label`` is the column it contradicts, None where none is there."""

    reason: Reason
    score: float
    label: int | None


class Pairs(NamedTuple):
    """The detections (D) and labels (L) of one image.

    Attributes:
        overlaps: float64[D, L], IoU.
        covered: float64[D, L], share of each label within each detection.
        within: float64[D, L], share of each detection within each label.
        own: bool[D, L], whether both are of one class.
        confidence: float64[3, D], at ``IOUS``.
        crowd: bool[L].
    """

    overlaps: Array
    covered: Array
    within: Array
    own: NDArray[np.bool_]
    confidence: Array
    crowd: NDArray[np.bool_]

    def reached(self) -> NDArray[np.bool_]:
        """Which labels some detection finds at least loosely: bool[L]."""
        found = (self.overlaps >= LOOSELY) | (self.own & (self.covered >= _HALF))
        return np.asarray(found.any(axis=0))

    def contradiction(self, detection: int) -> Contradiction | None:
        """What one detection has against the labels."""
        overlaps, own = np.where(self.crowd, 0, self.overlaps[detection]), self.own[detection]
        confidence = self.confidence[:, detection]
        nearest, best = _best(np.where(own, overlaps, 0))
        if best >= _WELL:
            return None
        if best >= LOOSELY:
            better = int(np.searchsorted(IOUS, best, side="right"))  # the first IoU above
            return Contradiction("badly drawn", confidence[better] * (1 - self._agrees(nearest, _WELL)), nearest)
        nearest, best_other = _best(np.where(own, 0, overlaps))
        if best_other >= _SAME_PLACE:
            return Contradiction("wrong class", confidence[0] * (1 - self._agrees(nearest, _SAME_PLACE)), nearest)
        in_part = self.within[detection, own | self.crowd].sum() >= _HALF
        over_other = (self.covered[detection, ~self.crowd] >= _HALF).any()
        if max(best, best_other) < _APART and not in_part and not over_other:
            return Contradiction("missing", confidence[0], None)
        return None

    def _agrees(self, label: int, least_iou: float) -> float:
        """Confidence of the best detection that finds a label as it is."""
        there = self.own[:, label] & (self.overlaps[:, label] >= least_iou)
        return float(self.confidence[IOUS.index(least_iou), there].max(initial=0))


def _best(overlaps: Array) -> tuple[int, float]:
    place = int(overlaps.argmax()) if len(overlaps) else -1
    return place, float(overlaps[place]) if len(overlaps) else 0.0
