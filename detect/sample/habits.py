"""How defects come: how many in an image, how large, how near each other, and where there is room for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fields import SizeHw

Window = tuple[int, int, int, int]  # top, left, bottom, right in pixels; it may lie partly outside the image
_NEU_AREA_PX = 200 * 200  # the counts below are for an image of this area
_LARGEST_PX = 260  # of one defect


@dataclass(frozen=True, slots=True)
class Habit:
    """One category's ways, in pixels.

    Attributes:
        counts: odds of 1, 2, 3 ... defects in an image.
        height_px, width_px: median and logarithmic spread of a log-normal.
        gap_px: free space around it; where negative, neighbours may overlap by as much.
        least_hw: height and width that it needs.
        overhang: share of its side that may lie outside the image.
    """

    counts: tuple[float, ...]
    height_px: tuple[float, float]
    width_px: tuple[float, float]
    gap_px: int
    least_hw: tuple[int, int]
    overhang: float


_HABITS = {
    "crazing": Habit((0.12, 0.48, 0.28, 0.12), (84, 0.33), (130, 0.38), 8, (44, 52), 0.2),
    "inclusion": Habit((0.19, 0.24, 0.24, 0.16, 0.1, 0.07), (90, 0.65), (36, 0.4), 1, (28, 14), 0.2),
    "patches": Habit((0.18, 0.26, 0.28, 0.16, 0.12), (112, 0.5), (80, 0.4), -6, (26, 24), 0.35),
    "pitted_surface": Habit((0.45, 0.4, 0.15), (240, 0.35), (170, 0.4), 10, (50, 36), 0.15),
    "rolled-in_scale": Habit((0.22, 0.52, 0.2, 0.06), (82, 0.45), (80, 0.4), 10, (30, 36), 0.15),
    "scratches": Habit((0.4, 0.32, 0.18, 0.1), (210, 0.75), (27, 0.35), 2, (36, 16), 0.3),
}
_GUESTS = {"scratches": ("inclusion", 0.15), "patches": ("inclusion", 0.12), "pitted_surface": ("patches", 0.12)}


def plan(category: str, rng: np.random.Generator, size_hw: SizeHw, *, density: float = 1.0) -> list[tuple[str, Window]]:
    """Labels and windows of an image's defects: at least one of ``category``, now and then a guest.

    ``density`` is the number of defects an area, relative to NEU-DET's images, which were chosen for having some.
    """
    counts = _HABITS[category].counts
    tiles = max(1, round(density * size_hw[0] * size_hw[1] / _NEU_AREA_PX))
    odds = np.array(counts) / sum(counts)
    many = int(rng.choice(len(counts), size=tiles, p=odds).sum()) + tiles
    guest, chance = _GUESTS.get(category, ("", 0.0))
    guests = int((rng.random(tiles) < chance).sum())
    planned: list[tuple[str, Window]] = []
    for i in range(many + guests):
        label = category if i < many else guest
        height, width = _side_lengths(label, many / tiles, i >= many, rng)
        window = _room(_HABITS[label], height, width, rng, size_hw, [window for _, window in planned])
        if window is not None:
            planned.append((label, window))
    return planned


def _side_lengths(label: str, crowd: float, is_guest: bool, rng: np.random.Generator) -> tuple[float, float]:
    habit = _HABITS[label]
    height = habit.height_px[0] * np.exp(habit.height_px[1] * rng.standard_normal())
    width = habit.width_px[0] * np.exp(habit.width_px[1] * rng.standard_normal())
    if is_guest:
        height, width = 0.55 * height, 0.8 * width
    if label == "pitted_surface":  # its fields lie side by side along the strip
        width /= crowd**0.8
    if label == "inclusion":  # rolled out along the strip
        width = min(width, 0.6 * height)
    if label == "scratches" and rng.random() < 0.09:  # across the strip
        height, width = width, height
    return height, width


def _room(
    habit: Habit, height: float, width: float, rng: np.random.Generator, size_hw: SizeHw, taken: list[Window]
) -> Window | None:
    """A free place, looked for at random with ever smaller windows; None when there is none."""
    least_h, least_w = habit.least_hw if height >= width or min(habit.least_hw) > 20 else habit.least_hw[::-1]
    for attempt in range(30):
        shrunk = 0.97**attempt
        h = int(np.clip(shrunk * height, least_h, _LARGEST_PX))
        w = int(np.clip(shrunk * width, least_w, _LARGEST_PX))
        top, left = _start(rng, size_hw[0], h, habit.overhang), _start(rng, size_hw[1], w, habit.overhang)
        gap = habit.gap_px
        if all(top + h + gap <= t or b + gap <= top or left + w + gap <= x or r + gap <= left for t, x, b, r in taken):
            return top, left, top + h, left + w
    return None


def _start(rng: np.random.Generator, size: int, side: int, overhang: float) -> int:
    out = int(overhang * side) if side < 0.9 * size else side // 10
    low, high = sorted((-out, size - side + out))
    return int(rng.integers(low, high + 1))
