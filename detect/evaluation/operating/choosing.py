"""The score threshold of one category: the cheapest of those that keep its limits, chosen by counting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..curves import NO_DETECTIONS_THRESHOLD
from .bounds import rate_kept, share_kept
from .costs import ClassCosts
from .tally import Tally


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and what it keeps.

    Attributes:
        threshold: lowest score that counts.
        keeps_missed: whether, with the confidence asked for, no more than the limit is missed; None without a limit.
        keeps_false_alarms: likewise for false alarms.
        words: what else there is to say about the choice, "" for nothing.
    """

    threshold: float
    keeps_missed: bool | None
    keeps_false_alarms: bool | None
    words: str


def choose(tally: Tally, costs: ClassCosts, confidence: float) -> Choice:
    """Choose on the images of a tally.

    A limit is kept where its upper bound is within it. From the safe end of the scores, thresholds are tried until
    the first that fails; so the bound holds although the threshold was chosen on the same images (an order
    statistic's tolerance limit, Wilks 1941). Where no threshold keeps it, the limit is taken for the rate counted, and
    if that fails too, the threshold comes as near as it can. Among those left, the cheapest is taken, of equally cheap
    ones that with the fewest misses.
    """
    thresholds = tally.thresholds()
    allowed = np.ones(len(thresholds), dtype=bool)
    keeps_missed = keeps_false = None
    if costs.false_alarm_limit is not None:
        keeps_false, allowed = _keeping_false_alarms(tally, thresholds, costs.false_alarm_limit, confidence)
    if not len(tally.defect_scores):
        lowest = float(thresholds[allowed][0]) if costs.false_alarm_limit is not None else 0.0
        words = f"no defect on the images to choose on, so {NO_DETECTIONS_THRESHOLD:g} is no choice but a default"
        unkept = None if costs.missed_limit is None else False
        return Choice(max(NO_DETECTIONS_THRESHOLD, lowest), unkept, keeps_false, words)
    never, words = int(np.isinf(tally.defect_scores).sum()), ""
    if never == len(tally.defect_scores) or (costs.missed_limit or 1) < never / len(tally.defect_scores):
        words = f"{never} of the {len(tally.defect_scores)} defects to choose on are found at no score"
    if costs.missed_limit is not None:
        keeps_missed, kept = _keeping_missed(tally, thresholds, costs.missed_limit, confidence)
        if not (allowed & kept).any():
            words = "no threshold keeps both limits, so that on missed defects goes first"
            keeps_false, allowed = False, np.arange(len(kept)) == np.flatnonzero(kept)[-1]
        allowed &= kept
    missed, false = tally.missed(thresholds), tally.false_alarms(thresholds)
    cost = np.where(allowed, costs.missed_price * missed + costs.false_alarm_price * false, np.inf)
    return Choice(float(thresholds[np.argmin(cost)]), keeps_missed, keeps_false, words)


def _keeping_missed(
    tally: Tally, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    """Whether any threshold keeps the limit with confidence, and which are allowed, at least one."""

    def kept(threshold: float) -> bool:
        missed, defects, effect = tally.miss_counts(threshold)
        return share_kept(missed / effect, defects / effect, limit, confidence)

    missed = tally.missed(thresholds)
    allowed = _run_of(missed, thresholds, kept)
    if allowed.any():
        return True, allowed
    least = max(limit * len(tally.defect_scores), missed[0])
    return False, missed <= least


def _keeping_false_alarms(
    tally: Tally, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    def kept(threshold: float) -> bool:
        false, images, effect = tally.false_counts(threshold)
        return rate_kept(false / effect, images / effect, limit, confidence)

    false = tally.false_alarms(thresholds)
    allowed = _run_of(false[::-1], thresholds[::-1], kept)[::-1]
    if allowed.any():
        return True, allowed
    least = max(limit * int(tally.images.sum()), false[-1])
    return False, false <= least


def _run_of(
    counts: NDArray[np.int64], thresholds: NDArray[np.float64], kept: Callable[[float], bool]
) -> NDArray[np.bool_]:
    """bool[thresholds]: those from the first on, the safest, until one fails; ``counts`` rise."""
    allowed = np.zeros(len(thresholds), dtype=bool)
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(counts)]):
        if not kept(float(thresholds[start])):
            break
        allowed[start:stop] = True
    return allowed
