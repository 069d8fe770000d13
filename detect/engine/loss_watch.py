"""Which losses can be learned from: those that are numbers, and not absurdly large beside the ones before."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median

_REMEMBERED = 100  # steps
_ENOUGH = 10  # of them, before a median says anything
_ORDINARY = 1.0  # a guess costs as much: where losses are tiny, one that is wrong for once is still no explosion


class LossWatch:
    """Holds each step's loss against the median of the steps before it.

    The median doesn't move when a single loss explodes, and follows the slow fall of a training. The gradient's norm
    is no such measure: it is clipped, and differs tenfold between steps that are all right.

    Args:
        absurd: a loss of so many medians is a fault, with a median under 1 counted as 1; None: only what is no
            finite number.
        before: losses of the steps before, where a training goes on.
    """

    def __init__(self, absurd: float | None, before: Iterable[float] = ()) -> None:
        self.absurd = absurd
        self._recent: deque[float] = deque(before, maxlen=_REMEMBERED)

    def fault(self, losses: Mapping[str, float]) -> str | None:
        """What is wrong with a step's losses, in words; None if nothing is."""
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if broken:
            return f"{', '.join(broken)} is no finite number"
        total = sum(losses.values())
        if self.absurd is None or len(self._recent) < _ENOUGH:
            return None
        usual = max(median(self._recent), _ORDINARY)
        if total <= self.absurd * usual:
            return None
        largest = max(losses, key=lambda name: losses[name])
        return f"the loss is {total:.4g}, {total / usual:.0f} times what is usual (most of it {largest})"

    def learned(self, losses: Mapping[str, float]) -> None:
        """Remember a step that was taken."""
        self._recent.append(sum(losses.values()))

    def state(self) -> list[float]:
        """The losses remembered, for a training that goes on."""
        return list(self._recent)
