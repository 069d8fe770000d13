"""How far a count can be trusted: exact bounds of a share (3 of 200 missed) and of a rate (12 alarms on 200 images).

A bound holds with the confidence given, each end for itself; both ends of 0.95 make an interval of 0.90. Counts need
not be whole, so that counts of things that come in bunches can be divided by their design effect first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, gammainc, gammaincinv


def share_bounds(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the share behind ``count`` of ``of`` independent cases (Clopper and Pearson 1934).

    Args:
        count: 0 to ``of``.
        of: how many cases, above 0.
        confidence: of each bound, 0 to 1.
    """
    low = 0.0 if count <= 0 else float(betaincinv(count, of - count + 1, 1 - confidence))
    high = 1.0 if count >= of else float(betaincinv(count + 1, of - count, confidence))
    return low, high


def rate_bounds(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the rate behind ``count`` independent events on ``of`` images (Garwood 1936)."""
    low = 0.0 if count <= 0 else float(gammaincinv(count, 1 - confidence))
    return low / of, float(gammaincinv(count + 1, confidence)) / of


def share_kept(count: float, of: float, limit: float, confidence: float) -> bool:
    """Whether the upper bound of a share is at most ``limit``; quicker than the bound itself."""
    return count < of and bool(betainc(count + 1, of - count, limit) >= confidence)


def rate_kept(count: float, of: float, limit: float, confidence: float) -> bool:
    """Whether the upper bound of a rate is at most ``limit``."""
    return bool(gammainc(count + 1, limit * of) >= confidence)


def cases_for_share(limit: float, confidence: float, rate: float = 0.0) -> int | None:
    """How many cases, ``rate`` of them counted, bring the upper bound of the share to ``limit``.

    With none counted that is about 3 / limit at a confidence of 0.95. None: the rate is no lower than the limit.
    """
    return _fewest(lambda of: share_kept(rate * of, of, limit, confidence)) if rate < limit else None


def images_for_rate(limit: float, confidence: float, rate: float = 0.0) -> int | None:
    """How many images with ``rate`` events each bring the upper bound of the rate to ``limit``; None as above."""
    return _fewest(lambda of: rate_kept(rate * of, of, limit, confidence)) if rate < limit else None


def share(count: int, of: int, confidence: float, design_effect: float = 1.0) -> dict[str, Any]:
    """{"count", "of", "rate", "low", "high"}; the last three are None where there is nothing to count."""
    if not of:
        return {"count": count, "of": of, "rate": None, "low": None, "high": None}
    low, high = share_bounds(count / design_effect, of / design_effect, confidence)
    return {"count": count, "of": of, "rate": count / of, "low": low, "high": high}


def rate(count: int, of: int, confidence: float, design_effect: float = 1.0) -> dict[str, Any]:
    """The same for events on ``of`` images."""
    if not of:
        return {"count": count, "of": of, "rate": None, "low": None, "high": None}
    low, high = rate_bounds(count / design_effect, of / design_effect, confidence)
    return {"count": count, "of": of, "rate": count / of, "low": low, "high": high}


def share_design_effect(counted: NDArray[np.int64], cases: NDArray[np.int64]) -> float:
    """By how much the variance of a share exceeds that of independent cases, at least 1 (Korn and Graubard 1998).

    Args:
        counted, cases: int[units], of each image or group.
    """
    seen = cases > 0
    counted, cases = counted[seen], cases[seen]
    mean = counted.sum() / max(cases.sum(), 1)
    return _design_effect(counted - mean * cases, float(counted.sum() * (1 - mean)))


def rate_design_effect(counted: NDArray[np.int64], images: NDArray[np.int64]) -> float:
    """By how much the variance of a rate exceeds that of independent events, at least 1; int[units] as above."""
    seen = images > 0
    counted, images = counted[seen], images[seen]
    mean = counted.sum() / max(images.sum(), 1)
    return _design_effect(counted - mean * images, float(counted.sum()))


def _design_effect(residuals: NDArray[np.float64], independent: float) -> float:
    units = len(residuals)
    if units < 2 or independent <= 0:
        return 1.0
    return max(1.0, float(residuals @ residuals) * units / (units - 1) / independent)


def _fewest(enough: Callable[[int], bool]) -> int | None:
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
