"""Scores of several ways to detect on strips, with intervals, and differences between any two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import Any

from ...evaluation.ap import average_precisions
from ...evaluation.intervals import Resampled, difference_of, intervals_of, resample
from ...evaluation.matching import evaluate
from ...evaluation.validation import check_detections, check_truth
from ...prediction import coco_results
from ...records import Detections
from .truth import Truth

FIGURES = ("AP50", "AP")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A system's way to detect, judged on several parts of the data.

    Attributes:
        by_run: {part: [{figure: score}, ...]}, by seed.
        drawn: {part: the same on resampled strips}.
    """

    by_run: dict[str, list[dict[str, float | None]]]
    drawn: dict[str, Resampled]

    def told(self, confidence: float) -> dict[str, Any]:
        """{part: {figure: {"mean", "sd", "low", "high"}}}, plain values."""
        return {part: {key: self._score(part, key, confidence) for key in FIGURES} for part in self.drawn}

    def _score(self, part: str, key: str, confidence: float) -> dict[str, float | None]:
        interval = intervals_of(self.drawn[part], confidence=confidence).overall[key]
        scores = [score for run in self.by_run[part] if (score := run[key]) is not None]
        spread = stdev(scores) if len(scores) > 1 else None
        return {"mean": interval.value, "sd": spread, "low": interval.low, "high": interval.high}


def score(
    found_by_run: Sequence[Mapping[int, Detections]],
    truths: Mapping[str, Truth],
    strip_of: Sequence[int],
    *,
    resamples: int,
) -> Scored:
    """Judge one way to detect by the truth of each part.

    Args:
        found_by_run: for each seed the detections of each frame by position, of all frames that any truth holds.
        truths: by the part's name.
        strip_of: a number a frame; frames of one strip share theirs, and are drawn together.
        resamples: draws behind the intervals.
    """
    by_run: dict[str, list[dict[str, float | None]]] = {}
    drawn = {}
    for part, truth in truths.items():
        labels = check_truth(truth)
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        positions = sorted(image["id"] - 1 for image in truth["images"])
        judged = []
        for found in found_by_run:
            results = [
                {**each, "image_id": positions[int(str(each["image_id"])) - 1] + 1}
                for each in coco_results([found[position] for position in positions], ids)
            ]
            judged.append(evaluate(labels, check_detections(results, labels), sizes=False))
        by_run[part] = [average_precisions(each) for each in judged]
        groups = [strip_of[position] for position in positions]
        drawn[part] = resample([judged], resamples=resamples, groups=[groups])
    return Scored(by_run, drawn)


def difference(a: Scored, b: Scored, confidence: float) -> dict[str, Any]:
    """{part: {figure: {"value", "low", "high", "verdict"}}} of ``a`` minus ``b`` on the same resampled strips."""
    told = {}
    for part in a.drawn:
        intervals = difference_of(a.drawn[part], b.drawn[part], confidence=confidence).overall
        told[part] = {key: {**asdict(intervals[key]), "verdict": intervals[key].verdict()} for key in FIGURES}
    return told
