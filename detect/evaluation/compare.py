"""Systems judged on the same images and compared with the first of them: differences, verdicts, and single images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .bootstrap import (
    BootstrapSamples,
    Interval,
    confidence_intervals,
    paired_difference_intervals,
    resample,
    same_labels,
)
from .coco_eval import IOU_50
from .records import CocoEvaluation

SCHEMA = 1
METRICS = ("AP50", "AP", "AP75")
_POWER = 0.8  # of the test for which the number of images is estimated
_MAX_IMAGE_FACTOR = 100
FEW_GROUPS = 40  # with fewer, intervals are too narrow in a simulation; docs/compare.md has its table

Reason = Literal["nothing to measure", "too few groups", "more images", "more seeds", "too small"]  # for no verdict


@dataclass(frozen=True, slots=True)
class ImageDifference:
    """Another system against the first on one image, each at its own score threshold and an IoU of 0.5.

    Attributes:
        image: position in the truth.
        gained, lost: number of labels that only the other, or only the first, detects.
        false: number of false alarms of the first and of the other.
    """

    image: int
    gained: int
    lost: int
    false: tuple[int, int]

    @property
    def net(self) -> int:
        """How much better the other is: additional hits plus avoided false alarms."""
        return self.gained - self.lost + self.false[0] - self.false[1]


def compare(
    systems: Mapping[str, Sequence[Sequence[CocoEvaluation]]],
    *,
    groups: Sequence[Sequence[int] | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Compare systems with the first by paired bootstrap, over seeds and folds where they were trained with several.

    Args:
        systems: by name; for each fold (one, without cross-validation) the runs evaluated on it.
        groups: for each fold the group number of each image, or None; images of one group are drawn together.
        resamples, seed: of the bootstrap.
        confidence: probability that such an interval contains the true value.

    Returns:
        Plain values, as compare.json has them; docs/compare.md describes each. ``warnings`` is empty, for the
        caller to fill.

    Raises:
        DataError: fewer than two systems, or systems evaluated against different labels or in other folds.
    """
    if len(systems) < 2:
        raise DataError(f"{len(systems)} system can't be compared", fix="give two or more")
    _check_same_labels(systems)
    drawn = {name: resample(folds, resamples=resamples, seed=seed, groups=groups) for name, folds in systems.items()}
    first, *_ = drawn
    truths = drawn[first].truths
    images = sum(len(truth.images) for truth in truths)
    grouped = groups is not None and any(each is not None for each in groups)
    rows = []
    for name, each in drawn.items():
        intervals = confidence_intervals(each, confidence=confidence)
        row: dict[str, Any] = {"name": name, "runs": sum(map(len, systems[name])), "covers": intervals.covers}
        row |= {key: asdict(intervals.overall[key]) for key in METRICS}
        row["per_class"] = {
            category: {key: asdict(of_class[key]) for key in METRICS}
            for category, of_class in intervals.per_class.items()
        }
        row["difference"] = None if name == first else _difference(each, drawn[first], images, confidence)
        rows.append(row)
    counted = sum(len(set(each)) for each in groups if each is not None) if groups is not None and grouped else None
    return {
        "schema": SCHEMA,
        "against": first,
        "images": images,
        "groups": counted,
        "boxes": sum(int((~truth.crowd).sum()) for truth in truths),
        "boxes_by_class": {
            name: sum(int((~truth.crowd & (truth.category == k)).sum()) for truth in truths)
            for k, name in enumerate(truths[0].categories)
        },
        "folds": len(truths),
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
        "systems": rows,
        "warnings": [],
    }


def image_differences(
    first: CocoEvaluation, other: CocoEvaluation, *, score_thresholds: tuple[float, float]
) -> list[ImageDifference]:
    """The differences between two systems, for each image in the order of the truth.

    Args:
        first, other: evaluated against the same labels.
        score_thresholds: lowest score that counts, of the first and of the other.

    Raises:
        DataError: they were evaluated against different labels.
    """
    if not same_labels(first.truth, other.truth):
        raise DataError(
            "the systems were evaluated against different labels", fix="evaluate both against the same labels"
        )
    images = len(first.truth.images)
    (hit_a, false_a), (hit_b, false_b) = (_hits(each, t) for each, t in zip((first, other), score_thresholds))
    gained = np.bincount(first.truth.image[hit_b & ~hit_a], minlength=images)
    lost = np.bincount(first.truth.image[hit_a & ~hit_b], minlength=images)
    columns = zip(gained.tolist(), lost.tolist(), false_a.tolist(), false_b.tolist())
    return [ImageDifference(i, more, less, (a, b)) for i, (more, less, a, b) in enumerate(columns)]


def required_images(both: Interval, of_images: Interval, images: int, confidence: float = 0.95) -> int | None:
    """The number of images with which a difference of this size is significant, with a power of 0.8.

    The part of the interval that is due to the choice of images shrinks with the square root of their number; the part
    that is due to the seeds does not.

    Args:
        both: the difference with its interval over images and seeds.
        of_images: the same over images alone.
        images: number of images.
        confidence: of the intervals.

    Returns:
        The number, rounded up to two digits; None if the difference is significant already, or if no number up to 100
        times as many is enough.
    """
    times = _required_image_factor(both, of_images, confidence)
    if times is None or both.verdict() != "cannot tell" or times > _MAX_IMAGE_FACTOR:
        return None
    needed = math.ceil(images * times)
    step = int(10 ** max(0, len(str(needed)) - 2))
    return math.ceil(needed / step) * step


def _required_image_factor(both: Interval, of_images: Interval, confidence: float) -> float | None:
    """The required number of images as a multiple of the present one; inf if none is enough, None if unknown."""
    reach, reach_images = _reach(both), _reach(of_images)
    if both.value is None or reach is None or reach_images is None:
        return None
    normal = NormalDist()
    margin = abs(both.value) / (1 + normal.inv_cdf(_POWER) / normal.inv_cdf((1 + confidence) / 2))
    left = margin**2 - max(0.0, reach**2 - reach_images**2)
    return reach_images**2 / left if left > 0 else math.inf


def _difference(a: BootstrapSamples, b: BootstrapSamples, images: int, confidence: float) -> dict[str, Any]:
    both, alone = (
        paired_difference_intervals(a, b, include_seeds=each, confidence=confidence) for each in (True, False)
    )

    def figures(interval: Interval, of_images: Interval) -> dict[str, Any]:
        needed = required_images(interval, of_images, images, confidence)
        return {
            **asdict(interval),
            "verdict": interval.verdict(),
            "images_only": [of_images.low, of_images.high],
            "required_images": needed,
            "reason": _reason(interval, of_images, needed, confidence),
        }

    return {
        "covers": both.covers,
        **{key: figures(both.overall[key], alone.overall[key]) for key in METRICS},
        "per_class": {
            name: {key: figures(of_class[key], alone.per_class[name][key]) for key in METRICS}
            for name, of_class in both.per_class.items()
        },
    }


def _reason(both: Interval, of_images: Interval, needed: int | None, confidence: float) -> Reason | None:
    """Why there is no verdict; None where there is one."""
    if both.value is None:
        return "nothing to measure"
    if both.low is None:
        return "too few groups"
    if both.verdict() != "cannot tell":
        return None
    if needed is not None:
        return "more images"
    alone = _required_image_factor(of_images, of_images, confidence)
    return "more seeds" if alone is not None and alone <= _MAX_IMAGE_FACTOR else "too small"


def _reach(interval: Interval) -> float | None:
    """The distance from the value to the end of its interval on the side of 0."""
    if interval.value is None or interval.low is None or interval.high is None:
        return None
    return interval.value - interval.low if interval.value > 0 else interval.high - interval.value


def _hits(evaluated: CocoEvaluation, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """bool[G], which labels are hit; int64[images], false alarms of each image."""
    found, matches = evaluated.found, evaluated.matches
    shown = (found.scores[matches.order] >= threshold) & ~matches.ignored[IOU_50]
    label, image = matches.matched_label[IOU_50, shown], found.image[matches.order[shown]]
    hit = np.zeros(len(evaluated.truth.image), dtype=bool)
    hit[label[label >= 0]] = True
    return hit, np.bincount(image[label < 0], minlength=len(evaluated.truth.images))


def _check_same_labels(systems: Mapping[str, Sequence[Sequence[CocoEvaluation]]]) -> None:
    (first, theirs), *others = systems.items()
    for name, folds in others:
        if len(folds) != len(theirs):
            found = f"{first} was evaluated on {len(theirs)} folds and {name} on {len(folds)}"
            raise DataError(found, fix="compare systems of one benchmark")
        for a, b in zip(theirs, folds):
            if a and b and not same_labels(a[0].truth, b[0].truth):
                raise DataError(
                    f"{first} and {name} were evaluated against different labels",
                    fix="evaluate both against the same labels",
                )
