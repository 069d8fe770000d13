"""Whether two groups of images differ by more than chance: permutation tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_ENOUGH = 20  # permutations that reach the difference; with so many the p-value is known well enough
_CELLS = 4_000_000  # random numbers drawn at once


def permutation_p(
    values: Values, weights: Values, first: NDArray[np.bool_], *, rng: np.random.Generator, most: int
) -> float:
    """The p-value of the difference between two weighted means, when whole units are dealt out anew.

    A unit is what is independent of the others: an image with all its boxes, or all frames of a strip. The mean of a
    group is the sum of its units' values over the sum of their weights, so that with the number of boxes as weights
    it is the mean over boxes, while boxes of one unit stay together. Both directions count.

    Drawing ends early where the difference is nothing special (sequential Monte Carlo; Besag & Clifford 1991).

    Args:
        values: [units], such as the sum over an image's boxes.
        weights: [units], above 0.
        first: [units], those of the first group; the others are the second.
        rng: of the permutations.
        most: permutations at most; no p-value is below 1 / (most + 1).

    Returns:
        0 to 1; 1 where a group is empty.
    """
    units, chosen = len(first), int(first.sum())
    if not 0 < chosen < units:
        return 1.0
    if chosen > units - chosen:
        first, chosen = ~first, units - chosen
    total, heavy = values.sum(), weights.sum()

    def apart(sums: Values, sizes: Values) -> Values:
        return np.asarray(np.abs(sums / sizes - (total - sums) / (heavy - sizes)))

    seen = float(apart(values[first].sum(), weights[first].sum())) * (1 - 1e-9)  # equal ones count as reached
    at_once, drawn, reached = 200, 0, 0
    while drawn < most:
        count = max(1, min(at_once, most - drawn, _CELLS // units))
        picked = np.argpartition(rng.random((count, units)), chosen - 1, axis=1)[:, :chosen]
        hits = apart(values[picked].sum(axis=1), weights[picked].sum(axis=1)) >= seen
        if reached + hits.sum() >= _ENOUGH:
            last = int(np.flatnonzero(hits)[_ENOUGH - reached - 1])
            return _ENOUGH / (drawn + last + 1)
        drawn, reached, at_once = drawn + count, reached + int(hits.sum()), 2 * at_once
    return (reached + 1) / (drawn + 1)


def exact_share_p(having: tuple[int, int], units: tuple[int, int]) -> float:
    """The p-value of the difference between two shares, over all ways to deal out the units (Fisher's exact test).

    Args:
        having: units of each group that have what is counted.
        units: of each group.
    """
    from scipy.stats import fisher_exact

    table = [[having[0], units[0] - having[0]], [having[1], units[1] - having[1]]]
    return min(1.0, float(fisher_exact(table)[1]))


def more_than_half_p(successes: int, trials: int) -> float:
    """The p-value of so many successes or more where each has an even chance (a sign test); 1 without a trial."""
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, alternative="greater").pvalue) if trials else 1.0


def corrected(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): below 0.05, chance alone rarely gives a single one of them."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    result, largest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(order) - rank)))
        result[i] = largest
    return result
