"""One image with its boxes: a surface, look-alikes, defects put where there is room, and the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..records import Box
from .defects import DEFECTS, spatter
from .fields import Field, SizeHw
from .lookalikes import lookalikes
from .surface import SURFACES, Surface

CATEGORIES = tuple(DEFECTS)
_NEU_AREA_PX = 200 * 200  # the counts below are for an image of this area
_SMALLEST_SIDE_PX = 64
_LEAST_GRAY = 4.0  # a mark fainter than this is seen by nobody, however smooth the steel


@dataclass(frozen=True, slots=True)
class _Habit:
    """How a defect comes: how many, how large (median and spread of a log-normal, pixels), how near each other."""

    counts: tuple[float, ...]  # odds of 1, 2, 3 ... of them
    height_px: tuple[float, float]
    width_px: tuple[float, float]
    gap_px: int  # free space around it
    overhang: float  # share of its side that may lie outside


_HABITS = {
    "crazing": _Habit((0.25, 0.5, 0.25), (78, 0.35), (125, 0.4), 9, 0.25),
    "inclusion": _Habit((0.19, 0.24, 0.24, 0.16, 0.1, 0.07), (68, 0.6), (26, 0.4), 2, 0.25),
    "patches": _Habit((0.18, 0.28, 0.28, 0.16, 0.1), (84, 0.5), (62, 0.4), 1, 0.35),
    "pitted_surface": _Habit((0.55, 0.35, 0.1), (190, 0.4), (125, 0.6), 12, 0.3),
    "rolled-in_scale": _Habit((0.22, 0.52, 0.2, 0.06), (72, 0.5), (72, 0.4), 10, 0.15),
    "scratches": _Habit((0.4, 0.32, 0.18, 0.1), (150, 0.8), (18, 0.4), 2, 0.3),
}
_SECOND = {"scratches": ("inclusion", 0.15), "patches": ("inclusion", 0.12), "pitted_surface": ("patches", 0.12)}


def make_image(
    category: str, rng: np.random.Generator, *, size_hw: SizeHw = (200, 200)
) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """Draw one image of hot-rolled steel with defects of ``category``, and now and then one of a second category.

    Args:
        category: one of ``CATEGORIES``.
        rng: the only source of chance; the same state gives the same image on any machine.
        size_hw: height and width in pixels, each at least 64; larger images hold more defects of the same size.

    Returns:
        uint8[height, width] gray, and the boxes. A box holds exactly the pixels where its defect changes the image
        by more than the steel's own grain does; it is measured on the drawn defect, not taken from its plan.

    Raises:
        DataError: unknown category, or an image too small to hold a defect.
    """
    if category not in DEFECTS:
        raise DataError(f'no defect is called "{category}"', fix="choose from " + ", ".join(CATEGORIES))
    if min(size_hw) < _SMALLEST_SIDE_PX:
        raise DataError(f"{size_hw[1]} x {size_hw[0]} pixels are too few", fix=f"ask for {_SMALLEST_SIDE_PX} or more")
    surface = SURFACES[category](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel = 1 + surface.relief + lookalikes(rng, size_hw, noise)
    marks = np.ones(size_hw)
    taken: list[tuple[int, int, int, int]] = []
    boxes: list[Box] = []
    for label in _labels(category, rng, size_hw):
        box = _add_defect(label, category, rng, surface, marks, taken)
        if box is not None:
            boxes.append(box)
    gray = surface.light * (steel * np.minimum(marks, 1) + np.maximum(marks - 1, 0))
    gray += rng.uniform(0.6, 1.4) * rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def _labels(category: str, rng: np.random.Generator, size_hw: SizeHw) -> list[str]:
    counts = _HABITS[category].counts
    tiles = max(1, round(size_hw[0] * size_hw[1] / _NEU_AREA_PX))
    odds = np.array(counts) / sum(counts)
    labels = [category] * int(rng.choice(len(counts), size=tiles, p=odds).sum() + tiles)
    other, chance = _SECOND.get(category, ("", 0.0))
    return labels + [other] * int((rng.random(tiles) < chance).sum())


def _add_defect(
    label: str,
    ground: str,
    rng: np.random.Generator,
    surface: Surface,
    marks: Field,
    taken: list[tuple[int, int, int, int]],
) -> Box | None:
    """Draw one defect into ``marks``, note its window in ``taken``; None where there is no room or nothing to see."""
    size_hw = surface.light.shape
    habit = _HABITS[label]
    draw = spatter if (label, ground) == ("inclusion", "patches") else DEFECTS[label]
    for _ in range(25):
        window = _window(label, habit, rng, (size_hw[0], size_hw[1]), small=label != ground)
        top, left, bottom, right = window
        gap = habit.gap_px
        if all(bottom + gap <= t or b + gap <= top or right + gap <= x or r + gap <= left for t, x, b, r in taken):
            break
    else:
        return None
    mark = draw(rng, (bottom - top, right - left))
    y, x = max(top, 0), max(left, 0)
    mark = mark[y - top : size_hw[0] - top, x - left : size_hw[1] - left]
    here = (slice(y, y + mark.shape[0]), slice(x, x + mark.shape[1]))
    seen = np.abs(mark) * surface.light[here] > max(_LEAST_GRAY, surface.noise_gray)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if len(rows) < 6 or len(columns) < 4:
        return None
    taken.append(window)
    marks[here] = np.where(mark < 0, marks[here] * (1 + mark), marks[here] + mark)
    corners = (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
    return Box(label, (float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3])))


def _window(
    label: str, habit: _Habit, rng: np.random.Generator, size_hw: SizeHw, *, small: bool
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a place to draw in; it may lie partly outside the image."""
    height = habit.height_px[0] * np.exp(habit.height_px[1] * rng.standard_normal())
    width = habit.width_px[0] * np.exp(habit.width_px[1] * rng.standard_normal())
    if small:
        height, width = 0.55 * height, 0.8 * width
    if label == "scratches" and rng.random() < 0.12:
        height, width = width, height
    h, w = int(np.clip(height, 22, 230)), int(np.clip(width, 12, 230))
    out_y, out_x = int(habit.overhang * h), int(habit.overhang * w)
    top = int(rng.integers(-out_y, max(size_hw[0] - h + out_y, -out_y) + 1))
    left = int(rng.integers(-out_x, max(size_hw[1] - w + out_x, -out_x) + 1))
    return top, left, top + h, left + w
