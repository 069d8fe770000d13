"""Parts and data sets that differ by more than chance: in their classes, the size of boxes, the light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Image
from .measures import Column, Measure, columns
from .pixels import Fingerprint
from .significance import corrected, exact_share_p, permutation_p

SIGNIFICANT = 0.05
REST = "the rest"
_MOST_PAIRS_OF = 4  # parts; each of more is held against all others together
_LEAST_DRAWN, _DRAWN_A_TEST = 9_999, 200  # so that the least p-value survives the correction


@dataclass(frozen=True, slots=True)
class Shift:
    """One comparison of two parts.

    Attributes:
        measure: what is compared.
        category: of the boxes, None for all images.
        parts: names of the two.
        means: of each, as ``Measure.shown`` takes them.
        images: that each mean is over.
        p: how often chance alone parts them as far, 0 to 1.
        corrected_p: the same for all comparisons of the audit together.
    """

    measure: Measure
    category: str | None
    parts: tuple[str, str]
    means: tuple[float, float]
    images: tuple[int, int]
    p: float
    corrected_p: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether chance is ruled out, as far as 1 in 20 goes."""
        return self.corrected_p < SIGNIFICANT

    @property
    def values(self) -> tuple[str, str]:
        """Both means as people know them."""
        return self.measure.shown(self.means[0]), self.measure.shown(self.means[1])

    def sentence(self) -> str:
        """What differs, by how much, and how sure that is."""
        (one, other), (low, high) = self.parts, self.values
        about = "all images" if self.category is None else self.category
        return f"{about}: {self.measure.told.format(low)} in {one}, {high} in {other} ({p_words(self.corrected_p)})"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; means are logarithms for size, shape and image size, and shares of white for light."""
        return {
            "measure": self.measure.key,
            "category": self.category,
            "parts": list(self.parts),
            "means": list(self.means),
            "shown": list(self.values),
            "images": list(self.images),
            "p": self.p,
            "corrected_p": self.corrected_p,
        }


def find_shifts(
    images: Sequence[Image],
    prints: Sequence[Fingerprint],
    categories: Sequence[str],
    parts: Mapping[str, Sequence[int]],
    *,
    units: Sequence[int] | None = None,
    seed: int = 0,
) -> list[Shift]:
    """Every comparison of two parts, the surest difference first.

    Up to four parts are compared with each other, each of more with all others together. Images, not boxes, are dealt
    out anew, as boxes of one image have much in common; so are strips, not their frames.

    Args:
        images, prints: the same images.
        categories: classes to look at.
        parts: positions in ``images``; one that is in two parts counts in both.
        units: images with the same number go together (frames of a strip); None: each is one.
        seed: of the permutations.
    """
    rng = np.random.default_rng(seed)
    table = list(columns(images, prints, categories))
    pairs = [(*names, *sides) for names, sides in _pairs(parts, len(images))]
    cases = [(column, *pair) for pair in pairs for column in table if _tells(column, *pair[2:])]
    most = max(_LEAST_DRAWN, _DRAWN_A_TEST * len(cases))
    unit = np.arange(len(images)) if units is None else np.asarray(units, np.int64)
    found = [
        _compare(column, (one, other), first, second, unit, rng, most) for column, one, other, first, second in cases
    ]
    mended = corrected([shift.p for shift in found])
    done = [replace(shift, corrected_p=value) for shift, value in zip(found, mended)]
    return sorted(done, key=lambda shift: shift.p)


def p_words(p: float) -> str:
    """A corrected p-value as a reader needs it."""
    return "p below 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _pairs(
    parts: Mapping[str, Sequence[int]], count: int
) -> list[tuple[tuple[str, str], tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    masks = {name: np.zeros(count, bool) for name in parts}
    for name, positions in parts.items():
        masks[name][list(positions)] = True
    if len(masks) <= _MOST_PAIRS_OF:
        return [((one, other), (masks[one], masks[other])) for one, other in combinations(masks, 2)]
    every = np.logical_or.reduce(list(masks.values()))
    return [((name, REST), (mask, every & ~mask)) for name, mask in masks.items()]


def _tells(column: Column, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
    """Whether both parts have something to compare, and it isn't the same number everywhere."""
    a, b = first[column.images], second[column.images]
    values = column.values[a | b] / column.weights[a | b]
    return bool(a.any() and b.any() and np.ptp(values) > 1e-9)


def _compare(
    column: Column,
    names: tuple[str, str],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    unit: NDArray[np.int64],
    rng: np.random.Generator,
    most: int,
) -> Shift:
    a, b = first[column.images], second[column.images]
    means = tuple(float(column.values[side].sum() / column.weights[side].sum()) for side in (a, b))
    values, weights = (np.concatenate([each[a], each[b]]) for each in (column.values, column.weights))
    whose = np.concatenate([unit[column.images[a]] * 2, unit[column.images[b]] * 2 + 1])
    inside, place = np.unique(whose, return_inverse=True)
    numbers = (int(a.sum()), int(b.sum()))
    if len(inside) == len(whose) and column.measure.key in ("share", "empty"):
        p = exact_share_p((round(column.values[a].sum()), round(column.values[b].sum())), numbers)
    else:
        sums, sizes = (_summed(place, each, len(inside)) for each in (values, weights))
        p = permutation_p(sums, sizes, inside % 2 == 0, rng=rng, most=most)
    return Shift(column.measure, column.category, names, (means[0], means[1]), numbers, p)


def _summed(place: NDArray[np.int64], each: NDArray[np.float64], units: int) -> NDArray[np.float64]:
    return np.bincount(place, each, minlength=units).astype(np.float64)
