"""What leaves the line wrongly: defective images that nobody stops, and clean ones that are stopped; plates too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Evaluated
from .bounds import share, share_design_effect
from .parts import units_of
from .tally import found_scores

_NO_CLEAN = "no overkill rate, as there is no {} without a label"
_NO_DEFECTIVE = "no escape rate, as there is no {} with a defect"


def escapes(
    evaluated: Evaluated,
    thresholds: NDArray[np.float64],
    *,
    images: NDArray[np.bool_] | None = None,
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Escape and overkill rates of images and, where groups are given, of groups (plates, coils, strips).

    An image or group is defective if it has a label to find, clean if it has no label at all; one with crowd regions
    alone is neither. A detection shows if its score is at least its category's threshold; it needn't lie on a defect
    to stop the plate.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], of each category.
        images: bool[images], which to look at; all by default.
        groups: a number an image; those that share one are one plate.
        confidence: of each bound.

    Returns:
        {"images", "groups"}, the latter None without groups; each with ``count``, ``defective``, ``clean`` and the
        rates ``escape`` (defective, and nothing shows), ``incomplete`` (defective, and not every defect is found by a
        shown detection of its category at an IoU of 0.5) and ``overkill`` (clean, and something shows): {"count",
        "of", "rate", "low", "high"}, the last three None where there is nothing to count, which ``notes`` explain.
    """
    count = len(evaluated.truth.images)
    part = np.ones(count, dtype=bool) if images is None else images
    alone = np.arange(count)
    together = None if groups is None else units_of(count, groups)
    bunches = alone if together is None else together
    return {
        "images": _of_units("image", evaluated, thresholds, part, alone, bunches, confidence),
        "groups": None
        if together is None
        else _of_units("group", evaluated, thresholds, part, together, together, confidence),
    }


def _of_units(
    unit: str,
    evaluated: Evaluated,
    thresholds: NDArray[np.float64],
    images: NDArray[np.bool_],
    units: NDArray[np.int64],
    bunches: NDArray[np.int64],
    confidence: float,
) -> dict[str, Any]:
    """Figures of units of images; ``bunches`` are what the units are drawn with."""
    truth, found, rows = evaluated.truth, evaluated.found, evaluated.matches.order
    count = int(units.max(initial=-1)) + 1
    shown = rows[(found.scores[rows] >= thresholds[found.category[rows]]) & images[found.image[rows]]]
    labelled = images[truth.image]
    to_find = labelled & ~truth.crowd
    missed = to_find & (found_scores(evaluated) < thresholds[truth.category])

    there = _units_with(units[images], count)
    defective = _units_with(units[truth.image[to_find]], count)
    clean = there & ~_units_with(units[truth.image[labelled]], count)
    showing = _units_with(units[found.image[shown]], count)
    incomplete = _units_with(units[truth.image[missed]], count)
    bunch_of = np.zeros(count, dtype=np.int64)
    bunch_of[units] = bunches

    def rate_of(counted: NDArray[np.bool_], of: NDArray[np.bool_]) -> dict[str, Any]:
        by_bunch = [np.bincount(bunch_of[each], minlength=int(bunches.max(initial=-1)) + 1) for each in (counted, of)]
        return share(int(counted.sum()), int(of.sum()), confidence, share_design_effect(*by_bunch))

    return {
        "count": int(there.sum()),
        "defective": int(defective.sum()),
        "clean": int(clean.sum()),
        "escape": rate_of(defective & ~showing, defective),
        "incomplete": rate_of(defective & incomplete, defective),
        "overkill": rate_of(clean & showing, clean),
        "notes": [
            note.format(unit)
            for note, units_there in ((_NO_DEFECTIVE, defective), (_NO_CLEAN, clean))
            if not units_there.any()
        ],
    }


def _units_with(units: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(units, minlength=count) > 0
