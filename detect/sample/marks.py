"""A drawn defect on its steel: where it lies, which pixels show it, and the box of those that a window holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Box
from .fields import Field
from .habits import Window
from .surface import Surface

_LEAST_GRAY = 4.0  # a change fainter than this is seen by nobody, however smooth the steel
_CLEAR = 3.5  # a defect's darkest or brightest spot is at least so many times what can be seen


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One defect.

    Attributes:
        label: its category.
        top, left: where ``seen`` lies on the steel, in pixels.
        seen: bool[height, width], the pixels whose light it changes by more than the steel's own grain does.
    """

    label: str
    top: int
    left: int
    seen: NDArray[np.bool_]

    def box(self, window: Window | None = None) -> Box | None:
        """The smallest box that holds all its pixels, or those in a window, relative to that; None without any."""
        top, left, bottom, right = window or (0, 0, self.top + self.seen.shape[0], self.left + self.seen.shape[1])
        y, x = max(self.top, top), max(self.left, left)
        seen = self.seen[y - self.top : max(bottom - self.top, 0), x - self.left : max(right - self.left, 0)]
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if len(rows) == 0:
            return None
        x1, x2 = x - left + columns[0], x - left + columns[-1] + 1
        y1, y2 = y - top + rows[0], y - top + rows[-1] + 1
        return Box(self.label, (float(x1), float(y1), float(x2), float(y2)))


def lay(mark: Field, label: str, window: Window, surface: Surface, marks: Field) -> Mark:
    """Lay a drawn defect into ``marks`` (1 = sound steel), clearer where it would hardly be seen."""
    top, left = window[:2]
    y, x = max(top, 0), max(left, 0)
    mark = mark[y - top : marks.shape[0] - top, x - left : marks.shape[1] - left]
    here = (slice(y, y + mark.shape[0]), slice(x, x + mark.shape[1]))
    change = np.abs(mark) * surface.light[here]
    visible = max(_LEAST_GRAY, surface.noise_gray)
    clearer = max(1.0, _CLEAR * visible / max(float(change.max()), 1e-6))
    mark, seen = np.maximum(clearer * mark, -0.95), clearer * change > visible
    marks[here] = np.where(mark < 0, marks[here] * (1 + mark), marks[here] + mark)
    return Mark(label, y, x, seen)
