"""Whether an exported model finds what the detector finds: box by box, or by what it no longer finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import Evaluated
from ..records import Detections

SURE = 0.05  # score from which on a detection has to have its like
TOLERANCE_PX = 0.1  # of each edge
TOLERANCE_SCORE = 0.001
MOST_LOST = 0.02  # share of a class's defects that int8 may lose


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two lists of detections agree.

    Attributes:
        compared: detections with a score of at least ``SURE``, of both.
        unmatched: of them, those without their like of the same class within the tolerances.
        largest_px: largest difference of an edge among those that have one.
        largest_score: likewise of a score.
    """

    compared: int
    unmatched: int
    largest_px: float
    largest_score: float

    @property
    def holds(self) -> bool:
        """Whether every detection has its like."""
        return self.unmatched == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, the tolerances with them."""
        return {
            "compared": self.compared,
            "unmatched": self.unmatched,
            "largest_px": round(self.largest_px, 6),
            "largest_score": round(self.largest_score, 7),
            "tolerance_px": TOLERANCE_PX,
            "tolerance_score": TOLERANCE_SCORE,
            "from_score": SURE,
        }


def parity(ours: Sequence[Detections], theirs: Sequence[Detections]) -> Parity:
    """Compare two detectors image by image; each detection looks for its like in all that the other found.

    Args:
        ours, theirs: one entry an image, in the same order.
    """
    compared, unmatched, px, score = 0, 0, 0.0, 0.0
    for one, other in zip(ours, theirs):
        for asking, asked in ((one, other), (other, one)):
            sure = asking.scores >= SURE
            apart_px, apart_score = _nearest(asking, asked)
            alike = (apart_px <= TOLERANCE_PX) & (apart_score <= TOLERANCE_SCORE)
            compared += int(sure.sum())
            unmatched += int((sure & ~alike).sum())
            px = max(px, float(apart_px[sure & alike].max(initial=0)))
            score = max(score, float(apart_score[sure & alike].max(initial=0)))
    return Parity(compared, unmatched, px, score)


def _nearest(asking: Detections, asked: Detections) -> tuple[Any, Any]:
    """For each detection the distance, of edges and of score, to the one of its class that lies nearest."""
    if not len(asked) or not len(asking):
        return np.full(len(asking), np.inf), np.full(len(asking), np.inf)
    px = np.abs(asking.boxes_xyxy[:, None] - asked.boxes_xyxy[None]).max(axis=2).astype(np.float64)
    px[asking.labels[:, None] != asked.labels[None]] = np.inf
    nearest = px.argmin(axis=1)
    return px.min(axis=1), np.abs(asking.scores - asked.scores[nearest])


def lost_recall(before: Evaluated, after: Evaluated, lowest: Mapping[str, float]) -> dict[str, float | None]:
    """By class, the share of its defects found before and not after; below 0 where more are found, None if it has none.

    Args:
        before, after: two judgements by the same labels.
        lowest: class -> score from which on a detection counts.
    """
    lost: dict[str, float | None] = {}
    for number, name in enumerate(before.truth.categories):
        mine = (before.truth.category == number) & ~before.truth.crowd
        found = [int(_is_found(each, lowest[name])[mine].sum()) for each in (before, after)]
        lost[name] = (found[0] - found[1]) / int(mine.sum()) if mine.any() else None
    return lost


def _is_found(evaluated: Evaluated, lowest: float) -> NDArray[np.bool_]:
    """Of each label, whether a detection with that score covers it with an IoU of at least 0.5."""
    by = evaluated.matches.detection_of[0]
    scores = np.append(evaluated.found.scores, -1.0)  # the last one stands for no detection
    return np.asarray(scores[by] >= max(lowest, 0.0))
