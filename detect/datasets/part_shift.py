"""Parts and data sets that differ by more than chance: in their classes, the size of boxes, the light."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structures import Image
from .duplicates import Fingerprint

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is compared.

    Attributes:
        key: name in audit.json.
        name: for the head of a table.
        sentence: for messages, with ``{}`` for the value.
        shown: mean -> the value as text, with its unit.
    """

    key: str
    name: str
    sentence: str
    shown: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _pixels(log_area: float) -> str:
    return f"{np.exp(log_area / 2):,.0f} px"


def _ratio(log_ratio: float) -> str:
    return f"{np.exp(log_ratio):.2f}"


def _gray(value: float) -> str:
    return f"{255 * value:.0f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


SHARE = Measure("share", "images that have it", "{} of the images have it", _percent)
EMPTY = Measure("empty", "images without objects", "{} of the images have no object", _percent)
COUNT = Measure("count", "boxes per image that has any", "{} boxes per image that has any", _plain)
SIZE = Measure("size", "size of the boxes, a side", "boxes as large as a square of {}", _pixels)
SHAPE = Measure("shape", "width over height", "width {} times the height", _ratio)
BRIGHTNESS = Measure("brightness", "mean gray level, of 255", "a mean gray level of {} of 255", _gray)
CONTRAST = Measure("contrast", "spread of the gray levels", "gray levels that spread by {}", _gray)
IMAGE_SIZE = Measure("image size", "size of the images, a side", "images as large as a square of {}", _pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A measure over the images that it can be taken of.

    Attributes:
        measure: which.
        category: of the boxes meant; None for all images, whatever they hold.
        images: int64[N], positions.
        values, weights: float64[N]; a mean is the sum of the values over that of the weights.
    """

    measure: Measure
    category: str | None
    images: NDArray[np.int64]
    values: Values
    weights: Values


def columns(images: Sequence[Image], prints: Sequence[Fingerprint], categories: Sequence[str]) -> Iterator[Column]:
    """All measures, those of whole images first, then class by class; crowd boxes are left out."""
    every, one = np.arange(len(images)), np.ones(len(images))
    bright, contrast = (np.array([getattr(p, k) for p in prints], float) for k in ("brightness", "contrast"))
    areas = np.log([image.width * image.height for image in images]) if images else np.zeros(0)
    empty = np.array([not image.boxes for image in images], float)
    for measure, values in (EMPTY, empty), (BRIGHTNESS, bright), (CONTRAST, contrast), (IMAGE_SIZE, areas):
        yield Column(measure, None, every, values, one)
    boxes = _by_class(images, categories)
    for name in categories:
        rows = boxes[name]  # image, log area, log width over height
        having: NDArray[np.int64] = np.unique(rows[:, 0]).astype(np.int64)
        here = np.zeros(len(images))
        here[having] = 1
        yield Column(SHARE, name, every, here, one)
        place = np.searchsorted(having, rows[:, 0])
        number: Values = np.bincount(place, minlength=len(having)).astype(np.float64)
        single = np.ones(len(having))
        yield Column(COUNT, name, having, number, single)
        for measure, column in (SIZE, 1), (SHAPE, 2):
            sums: Values = np.bincount(place, rows[:, column], minlength=len(having)).astype(np.float64)
            yield Column(measure, name, having, sums, number)
        if len(categories) > 1:  # with one class, this is what the columns over all images say
            yield Column(BRIGHTNESS, name, having, bright[having], single)
            yield Column(CONTRAST, name, having, contrast[having], single)


def _by_class(images: Sequence[Image], categories: Sequence[str]) -> dict[str, Values]:
    """For each category float64[boxes, 3]: position of the image, log of the area, log of width over height."""
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in categories}
    for i, image in enumerate(images):
        for box in image.boxes:
            width, height = box.xyxy[2] - box.xyxy[0], box.xyxy[3] - box.xyxy[1]
            if not box.crowd and width > 0 and height > 0 and box.label in rows:
                rows[box.label].append((i, np.log(width * height), np.log(width / height)))
    return {name: np.array(each, float).reshape(-1, 3) for name, each in rows.items()}


_ENOUGH = 20  # permutations that reach the difference; with so many the p-value is precise enough
_CELLS = 4_000_000  # random numbers drawn at once


def permutation_p(
    values: Values, weights: Values, first: NDArray[np.bool_], *, rng: np.random.Generator, max_permutations: int
) -> float:
    """The p-value of the difference between two weighted means, under random assignment of units (permutation test).

    A unit is what is independent of the others: an image with all its boxes, or all frames of a strip. The mean of a
    group is the sum of its units' values over the sum of their weights, so that with the number of boxes as weights
    it is the mean over boxes, while boxes of one unit stay together. Both directions count.

    Drawing ends early if the difference is not significant (sequential Monte Carlo; Besag & Clifford 1991).

    Args:
        values: [units], such as the sum over an image's boxes.
        weights: [units], above 0.
        first: [units], those of the first group; the others are the second.
        rng: of the permutations.
        max_permutations: permutations at most; no p-value is below 1 / (max_permutations + 1).

    Returns:
        0 to 1; 1 where a group is empty.
    """
    units, chosen = len(first), int(first.sum())
    if not 0 < chosen < units:
        return 1.0
    if chosen > units - chosen:
        first, chosen = ~first, units - chosen
    total, heavy = values.sum(), weights.sum()

    def difference(sums: Values, sizes: Values) -> Values:
        return np.asarray(np.abs(sums / sizes - (total - sums) / (heavy - sizes)))

    seen = float(difference(values[first].sum(), weights[first].sum())) * (1 - 1e-9)  # equal ones count as reached
    at_once, drawn, reached = 200, 0, 0
    while drawn < max_permutations:
        count = max(1, min(at_once, max_permutations - drawn, _CELLS // units))
        picked = np.argpartition(rng.random((count, units)), chosen - 1, axis=1)[:, :chosen]
        hits = difference(values[picked].sum(axis=1), weights[picked].sum(axis=1)) >= seen
        if reached + hits.sum() >= _ENOUGH:
            last = int(np.flatnonzero(hits)[_ENOUGH - reached - 1])
            return _ENOUGH / (drawn + last + 1)
        drawn, reached, at_once = drawn + count, reached + int(hits.sum()), 2 * at_once
    return (reached + 1) / (drawn + 1)


def fisher_exact_p(having: tuple[int, int], units: tuple[int, int]) -> float:
    """The p-value of the difference between two shares, over all ways to deal out the units (Fisher's exact test).

    Args:
        having: units of each group that have what is counted.
        units: of each group.
    """
    from scipy.stats import fisher_exact

    table = [[having[0], units[0] - having[0]], [having[1], units[1] - having[1]]]
    return min(1.0, float(fisher_exact(table)[1]))


def sign_test_p(successes: int, trials: int) -> float:
    """The p-value of so many successes or more where each has an even chance (a sign test); 1 without a trial."""
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, alternative="greater").pvalue) if trials else 1.0


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): below 0.05, chance alone rarely gives a single one of them."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    result, largest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(order) - rank)))
        result[i] = largest
    return result


SIGNIFICANT = 0.05
REST = "the rest"
_MAX_PAIRED_PARTS = 4  # parts; if there are more, each is compared with all others together
_MIN_PERMUTATIONS, _PERMUTATIONS_PER_TEST = 9_999, 200  # so that the smallest p-value survives the correction


@dataclass(frozen=True, slots=True)
class Shift:
    """One comparison of two parts.

    Attributes:
        measure: what is compared.
        category: of the boxes, None for all images.
        parts: names of the two.
        means: of each, as ``Measure.shown`` takes them.
        images: that each mean is over.
        p: its p-value, 0 to 1.
        corrected_p: corrected for all comparisons of the audit.
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
        """Whether the corrected p-value is below 0.05."""
        return self.corrected_p < SIGNIFICANT

    @property
    def values(self) -> tuple[str, str]:
        """Both means as text, with their units."""
        return self.measure.shown(self.means[0]), self.measure.shown(self.means[1])

    def sentence(self) -> str:
        """What differs, by how much, and how sure that is."""
        (one, other), (low, high) = self.parts, self.values
        about, p = self.category or "all images", p_value_text(self.corrected_p)
        return f"{about}: {self.measure.sentence.format(low)} in {one}, {high} in {other} ({p})"

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
    """Every comparison of two parts, the smallest p-value first.

    Up to four parts are compared with each other; if there are more, each with all others together. Permutations move
    images, not boxes, as boxes of one image are not independent; and strips, not their frames.

    Args:
        images, prints: the same images.
        categories: classes to compare.
        parts: positions in ``images``; one that is in two parts counts in both.
        units: images with the same number go together (frames of a strip); None: each is one.
        seed: of the permutations.
    """
    rng = np.random.default_rng(seed)
    table = list(columns(images, prints, categories))
    pairs = [(*names, *sides) for names, sides in _pairs(parts, len(images))]
    cases = [(column, *pair) for pair in pairs for column in table if _is_comparable(column, *pair[2:])]
    max_permutations = max(_MIN_PERMUTATIONS, _PERMUTATIONS_PER_TEST * len(cases))
    unit = np.arange(len(images)) if units is None else np.asarray(units, np.int64)
    found = [
        _compare(column, (one, other), first, second, unit, rng, max_permutations)
        for column, one, other, first, second in cases
    ]
    fixed = holm_correction([shift.p for shift in found])
    done = [replace(shift, corrected_p=value) for shift, value in zip(found, fixed)]
    return sorted(done, key=lambda shift: shift.p)


def p_value_text(p: float) -> str:
    """A corrected p-value, rounded for messages."""
    return "p below 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _pairs(
    parts: Mapping[str, Sequence[int]], count: int
) -> list[tuple[tuple[str, str], tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    masks = {name: np.zeros(count, bool) for name in parts}
    for name, positions in parts.items():
        masks[name][list(positions)] = True
    if len(masks) <= _MAX_PAIRED_PARTS:
        return [((one, other), (masks[one], masks[other])) for one, other in combinations(masks, 2)]
    every = np.logical_or.reduce(list(masks.values()))
    return [((name, REST), (mask, every & ~mask)) for name, mask in masks.items()]


def _is_comparable(column: Column, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
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
    max_permutations: int,
) -> Shift:
    a, b = first[column.images], second[column.images]
    means = tuple(float(column.values[side].sum() / column.weights[side].sum()) for side in (a, b))
    values, weights = (np.concatenate([each[a], each[b]]) for each in (column.values, column.weights))
    whose = np.concatenate([unit[column.images[a]] * 2, unit[column.images[b]] * 2 + 1])
    inside, place = np.unique(whose, return_inverse=True)
    numbers = (int(a.sum()), int(b.sum()))
    if len(inside) == len(whose) and column.measure.key in ("share", "empty"):
        p = fisher_exact_p((round(column.values[a].sum()), round(column.values[b].sum())), numbers)
    else:
        sums, sizes = (_summed(place, each, len(inside)) for each in (values, weights))
        p = permutation_p(sums, sizes, inside % 2 == 0, rng=rng, max_permutations=max_permutations)
    return Shift(column.measure, column.category, names, (means[0], means[1]), numbers, p)


def _summed(place: NDArray[np.int64], each: NDArray[np.float64], units: int) -> NDArray[np.float64]:
    return np.bincount(place, each, minlength=units).astype(np.float64)
