"""Synthetic versions of NEU-DET's six defects with their boxes, and defect-like marks that aren't defects.

A renderer takes a random generator and the window's height and width, and returns float64[height, width]: the change
of brightness relative to the local light. -0.4 is 40 % darker, +1.5 is 150 % brighter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structures import Box
from .steel import Field, SizeHw, Surface, axes, blur, dots, drift, fade, line_drift, saturate, smoothstep

Window = tuple[int, int, int, int]  # top, left, bottom, right in pixels; may be partly outside the image
_NEU_AREA_PX = 200 * 200  # the counts below are for an image of this area
_LARGEST_PX = 260  # maximum height and width of a defect


@dataclass(frozen=True, slots=True)
class DefectStatistics:
    """Frequency and size of the defects of one category.

    Attributes:
        counts: relative probabilities of 1, 2, 3 ... defects per image.
        height_px, width_px: median and logarithmic standard deviation of a log-normal distribution.
        gap_px: minimum distance between defects in pixels; negative values allow this much overlap.
        min_hw: minimum height and width in pixels.
        overhang: share of a side that may be outside the image.
    """

    counts: tuple[float, ...]
    height_px: tuple[float, float]
    width_px: tuple[float, float]
    gap_px: int
    min_hw: tuple[int, int]
    overhang: float


_STATISTICS = {
    "crazing": DefectStatistics((0.12, 0.48, 0.28, 0.12), (84, 0.33), (130, 0.38), 8, (44, 52), 0.2),
    "inclusion": DefectStatistics((0.19, 0.24, 0.24, 0.16, 0.1, 0.07), (90, 0.65), (36, 0.4), 1, (28, 14), 0.2),
    "patches": DefectStatistics((0.18, 0.26, 0.28, 0.16, 0.12), (112, 0.5), (80, 0.4), -6, (26, 24), 0.35),
    "pitted_surface": DefectStatistics((0.45, 0.4, 0.15), (240, 0.35), (170, 0.4), 10, (50, 36), 0.15),
    "rolled-in_scale": DefectStatistics((0.22, 0.52, 0.2, 0.06), (82, 0.45), (80, 0.4), 10, (30, 36), 0.15),
    "scratches": DefectStatistics((0.4, 0.32, 0.18, 0.1), (210, 0.75), (27, 0.35), 2, (36, 16), 0.3),
}
_SECOND_CATEGORY = {
    "scratches": ("inclusion", 0.15),
    "patches": ("inclusion", 0.12),
    "pitted_surface": ("patches", 0.12),
}


def plan(category: str, rng: np.random.Generator, size_hw: SizeHw, *, density: float = 1.0) -> list[tuple[str, Window]]:
    """Labels and windows of the defects of an image: at least one of ``category``, sometimes one of a second category.

    ``density`` is the number of defects per area relative to the images of NEU-DET, which all contain defects.
    """
    counts = _STATISTICS[category].counts
    tiles = max(1, round(density * size_hw[0] * size_hw[1] / _NEU_AREA_PX))
    odds = np.array(counts) / sum(counts)
    count = int(rng.choice(len(counts), size=tiles, p=odds).sum()) + tiles
    second, probability = _SECOND_CATEGORY.get(category, ("", 0.0))
    second_count = int((rng.random(tiles) < probability).sum())
    planned: list[tuple[str, Window]] = []
    for i in range(count + second_count):
        label = category if i < count else second
        height, width = _side_lengths(label, count / tiles, i >= count, rng)
        window = _free_window(_STATISTICS[label], height, width, rng, size_hw, [window for _, window in planned])
        if window is not None:
            planned.append((label, window))
    return planned


def _side_lengths(
    label: str, defects_per_tile: float, is_second: bool, rng: np.random.Generator
) -> tuple[float, float]:
    statistics = _STATISTICS[label]
    height = statistics.height_px[0] * np.exp(statistics.height_px[1] * rng.standard_normal())
    width = statistics.width_px[0] * np.exp(statistics.width_px[1] * rng.standard_normal())
    if is_second:
        height, width = 0.55 * height, 0.8 * width
    if label == "pitted_surface":  # fields are next to each other along the strip
        width /= defects_per_tile**0.8
    if label == "inclusion":  # elongated along the strip
        width = min(width, 0.6 * height)
    if label == "scratches" and rng.random() < 0.09:  # across the strip
        height, width = width, height
    return height, width


def _free_window(
    statistics: DefectStatistics,
    height: float,
    width: float,
    rng: np.random.Generator,
    size_hw: SizeHw,
    taken: list[Window],
) -> Window | None:
    """A free window at a random position, 3 % smaller after each failed attempt; None after 30 attempts."""
    min_h, min_w = statistics.min_hw if height >= width or min(statistics.min_hw) > 20 else statistics.min_hw[::-1]
    for attempt in range(30):
        shrunk = 0.97**attempt
        h = int(np.clip(shrunk * height, min_h, _LARGEST_PX))
        w = int(np.clip(shrunk * width, min_w, _LARGEST_PX))
        top, left = _start(rng, size_hw[0], h, statistics.overhang), _start(rng, size_hw[1], w, statistics.overhang)
        gap = statistics.gap_px
        if all(top + h + gap <= t or b + gap <= top or left + w + gap <= x or r + gap <= left for t, x, b, r in taken):
            return top, left, top + h, left + w
    return None


def _start(rng: np.random.Generator, size: int, side: int, overhang: float) -> int:
    out = int(overhang * side) if side < 0.9 * size else side // 10
    low, high = sorted((-out, size - side + out))
    return int(rng.integers(low, high + 1))


_MIN_VISIBLE_GRAY = 4.0  # minimum visible change of brightness, also on smooth steel
_CLEAR = 3.5  # minimum peak change of a defect, as a multiple of the smallest visible change


@dataclass(frozen=True, slots=True, eq=False)
class PlacedDefect:
    """One defect at its position on the steel.

    Attributes:
        label: category.
        top, left: position of ``mask`` on the steel, in pixels.
        mask: bool[height, width], pixels where the defect changes the brightness by more than the steel's grain.
    """

    label: str
    top: int
    left: int
    mask: NDArray[np.bool_]

    def box(self, window: Window | None = None) -> Box | None:
        """Bounding box of the mask, or of its part in a window relative to the window; None without pixels."""
        top, left, bottom, right = window or (0, 0, self.top + self.mask.shape[0], self.left + self.mask.shape[1])
        y, x = max(self.top, top), max(self.left, left)
        mask = self.mask[y - self.top : max(bottom - self.top, 0), x - self.left : max(right - self.left, 0)]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            return None
        x1, x2 = x - left + columns[0], x - left + columns[-1] + 1
        y1, y2 = y - top + rows[0], y - top + rows[-1] + 1
        return Box(self.label, (float(x1), float(y1), float(x2), float(y2)))


def place_defect(mark: Field, label: str, window: Window, surface: Surface, marks: Field) -> PlacedDefect:
    """Multiply a drawn defect into ``marks`` (1 = sound steel), with more contrast where it would be too faint."""
    top, left = window[:2]
    y, x = max(top, 0), max(left, 0)
    mark = mark[y - top : marks.shape[0] - top, x - left : marks.shape[1] - left]
    area = (slice(y, y + mark.shape[0]), slice(x, x + mark.shape[1]))
    change = np.abs(mark) * surface.light[area]
    visible = max(_MIN_VISIBLE_GRAY, surface.noise_gray)
    gain = max(1.0, _CLEAR * visible / max(float(change.max()), 1e-6))
    mark, mask = np.maximum(gain * mark, -0.95), gain * change > visible
    marks[area] = np.where(mark < 0, marks[area] * (1 + mark), marks[area] + mark)
    return PlacedDefect(label, y, x, mask)


def crazing(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Fine jagged cracks, mostly across the strip, with small broken-out spots."""
    height, width = size_hw
    cracks = max(8, round(height * width / rng.uniform(190, 330)))
    length, stride = 44, 4
    base = rng.normal(0, 0.25, (cracks, 1)) + np.where(rng.random((cracks, 1)) < 0.12, 1.4, 0.0)
    heading = base + np.repeat(rng.normal(0, 0.75, (cracks, length // stride)), stride, axis=1)
    ys = rng.uniform(2, height - 2, (cracks, 1)) + np.cumsum(0.75 * np.sin(heading), axis=1)
    xs = rng.uniform(-10, width - 4, (cracks, 1)) + np.cumsum(0.75 * np.cos(heading), axis=1)
    uneven = np.repeat(rng.gamma(1.6, 0.55, (cracks, length // stride)), stride, axis=1)
    strength = rng.gamma(2, 0.4, (cracks, 1)) * uneven * (np.arange(length) < rng.integers(8, length, (cracks, 1)))
    inside = (xs > 2) & (xs < width - 2) & (ys > 2) & (ys < height - 2)
    return -rng.uniform(0.4, 0.62) * saturate(1.5 * blur(dots(size_hw, ys, xs, strength * inside), 0.75, 0.75))


def inclusion(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A dark streak along the strip: one irregular lens shape, or sometimes a group of drops in a small window."""
    height = size_hw[0]
    if rng.random() < 0.35 and height < 110:
        return _drops(rng, size_hw)
    y, x = axes(size_hw)
    x = x - 0.2 * line_drift(rng, height, 40)[:, None]
    ragged = 0.3 * drift(rng, size_hw, (34, 5)) + 0.1 * drift(rng, size_hw, (9, 3))
    shape = 0.62 - np.abs(y) ** rng.uniform(1.5, 4) - np.abs(x) ** 1.4 + ragged
    depth = rng.uniform(0.14, 0.42) * (1 + 0.25 * drift(rng, size_hw, (24, 5)))
    return (
        -np.clip(depth, 0.08, 0.6)
        * smoothstep(shape * fade(size_hw, 5) - 0.2, rng.uniform(0.5, 1.0))
        * fade(size_hw, 4)
    )


def patches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A large dark patch with an irregular, soft edge."""
    y, x = axes(size_hw)
    power = rng.uniform(1.5, 3)
    cell = 0.35 * min(size_hw) + 4
    uneven = 0.22 * drift(rng, size_hw, (1.4 * cell, cell)) + 0.06 * drift(rng, size_hw, (8, 7))
    shape = 0.68 - (np.abs(y) ** power + np.abs(x) ** power) ** (1 / power) + uneven
    depth = rng.uniform(0.52, 0.82) * (1 + 0.1 * drift(rng, size_hw, (16, 12)))
    if rng.random() < 0.25:  # a brighter centre
        depth = depth * (1 - rng.uniform(0.2, 0.4) * smoothstep(shape - 0.45, 0.3))
    soft = rng.uniform(6, 13) / (0.5 * min(size_hw))
    return -np.clip(depth, 0, 0.92) * smoothstep(shape * fade(size_hw, 6), soft) * fade(size_hw, 6)


def pitted_surface(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A field of small pits, slightly elongated along the strip, some of them in clusters."""
    area = size_hw[0] * size_hw[1]
    count = max(20, round(area / np.exp(rng.uniform(np.log(14), np.log(100)))))
    ys, xs = rng.uniform(4, size_hw[0] - 4, count), rng.uniform(4, size_hw[1] - 4, count)
    size = rng.uniform(0.65, 1.2)
    field = blur(dots(size_hw, ys, xs, rng.gamma(1.5, 4.0, count) * size**2), 1.25 * size, size)
    if rng.random() < 0.4:  # clusters
        clusters = rng.integers(4, max(6, area // 700))
        ys = rng.uniform(9, size_hw[0] - 9, (clusters, 1)) + np.clip(rng.normal(0, 2.2, (clusters, 10)), -5, 5)
        xs = rng.uniform(7, size_hw[1] - 7, (clusters, 1)) + np.clip(rng.normal(0, 1.6, (clusters, 10)), -4, 4)
        field += blur(dots(size_hw, ys, xs, rng.gamma(1.5, 3.0, (clusters, 1)) * np.ones((clusters, 10))), 1.3, 1.1)
    return -rng.uniform(0.2, 0.45) * saturate(0.8 * field)


def rolled_in_scale(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Groups of a few small flat flecks, elongated across the strip."""
    groups = max(4, round(size_hw[0] * size_hw[1] / rng.uniform(200, 420)))
    flecks, grains = 4, 14
    y = rng.uniform(6, size_hw[0] - 6, (groups, 1)) + np.clip(rng.normal(0, 2.4, (groups, flecks)), -5, 5)
    x = rng.uniform(9, size_hw[1] - 9, (groups, 1)) + np.clip(rng.normal(0, 2.6, (groups, flecks)), -6, 6)
    along = rng.normal(0, rng.uniform(1.0, 2.8, (groups, flecks, 1)), (groups, flecks, grains))
    ys = y[..., None] + rng.normal(0, 0.6, along.shape) - 0.2 * along
    weights = np.broadcast_to(rng.gamma(2, 0.24, (groups, 1, 1)), along.shape)
    return -rng.uniform(0.45, 0.62) * saturate(1.5 * blur(dots(size_hw, ys, x[..., None] + along, weights), 0.75, 1.0))


def scratches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Bright parallel grooves along the longer side of the window with a soft halo; some are interrupted."""
    height, width = size_hw
    if width > height:
        return np.asarray(scratches(rng, (width, height)).T)
    x = np.arange(width)[None, :] - 0.5 * (width - 1)
    slant = rng.uniform(-1, 1) * max(0.0, 0.5 * width - 8) * np.linspace(-1, 1, height)
    middle = slant + 0.4 * line_drift(rng, height, 40)
    spread = max(0.5, min(0.22 * width - 2, 7.0))
    total = np.zeros(size_hw)
    for _ in range(int(rng.integers(1, 3 if width < 18 else 6))):
        centre = (middle + rng.uniform(-spread, spread))[:, None]
        along = 0.8 + 0.35 * line_drift(rng, height, 30) + 0.22 * line_drift(rng, height, 5)
        total += np.clip(along, 0.12, None)[:, None] * np.exp(-0.5 * ((x - centre) / rng.uniform(0.6, 1.5)) ** 2)
    if rng.random() < 0.25:
        total *= smoothstep(line_drift(rng, height, 16) + 0.5, 0.6)[:, None]
    halo = np.exp(-0.5 * ((x - middle[:, None]) / (0.7 * spread + 2.2)) ** 2)
    ends = np.minimum(np.arange(height), np.arange(height)[::-1]) / (rng.uniform(0.02, 0.25) * height)
    mark = rng.uniform(0.45, 1.9) * (total + 0.16 * halo) * np.minimum(ends, 1)[:, None] * fade(size_hw, 3)
    return np.asarray(mark, np.float64)


def spatter(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """An inclusion on steel with strong grain: a cluster of black specks."""
    count = max(14, round(size_hw[0] * size_hw[1] / 30))
    spread = 0.2 * np.array(size_hw)[:, None]
    ys, xs = 0.5 * np.array(size_hw)[:, None] + np.clip(rng.standard_normal((2, count)), -2.2, 2.2) * spread
    return -0.85 * saturate(1.2 * blur(dots(size_hw, ys, xs, rng.gamma(2, 3.0, count)), 1.1, 1.1))


DEFECTS: dict[str, Callable[[np.random.Generator, SizeHw], Field]] = {
    "crazing": crazing,
    "inclusion": inclusion,
    "patches": patches,
    "pitted_surface": pitted_surface,
    "rolled-in_scale": rolled_in_scale,
    "scratches": scratches,
}


def _drops(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    count = int(rng.integers(2, 6))
    y = np.clip(rng.normal(0.5, 0.22, (count, 1)), 0.15, 0.85) * size_hw[0]
    x = np.clip(rng.normal(0.5, 0.22, (count, 1)), 0.2, 0.8) * size_hw[1]
    ys = y + rng.normal(0, rng.uniform(2, 0.11 * size_hw[0] + 2, (count, 1)), (count, 60))
    xs = x + rng.normal(0, 0.7, (count, 60))
    return -rng.uniform(0.25, 0.6) * saturate(0.7 * blur(dots(size_hw, ys, xs, np.ones((count, 60))), 1.6, 0.9))


_PROBABILITY = 0.3  # per kind and image
_GRAINED = 0.05  # relative noise above which short dark strokes are grain; on smooth steel they are inclusions


def lookalikes(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Sum of random defect-like marks, float64[height, width] relative to the local light, all fainter than defects.

    Args:
        rng: random generator.
        size_hw: height and width in pixels.
        noise: standard deviation of the grain relative to the light; scales the faint scratches.
    """
    total = np.zeros(size_hw)
    for draw in LOOKALIKES.values() if noise < _GRAINED else (*LOOKALIKES.values(), _strokes):
        if rng.random() < _PROBABILITY:
            total += draw(rng, size_hw, noise)
    return total


def _water_mark(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """The thin rim of a dried drop."""
    y, x = _around(rng, size_hw)
    radius = rng.uniform(15, 45)
    distance = np.sqrt(y * y + x * x) - radius * (1 + 0.15 * drift(rng, size_hw, (40, 40)))
    return rng.uniform(-0.05, 0.05) * np.exp(-0.5 * (distance / 2.5) ** 2) + 0.02 * smoothstep(-distance, 8)


def _rolling_lines(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Faint lines along the whole strip."""
    return np.broadcast_to(rng.uniform(0.01, 0.025) * line_drift(rng, size_hw[1], rng.uniform(2, 5)), size_hw)


def _light_spot(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A lamp's reflection, without a sharp edge."""
    y, x = _around(rng, size_hw)
    return rng.uniform(0.08, 0.25) * np.exp(-0.5 * ((y / rng.uniform(14, 40)) ** 2 + (x / rng.uniform(14, 40)) ** 2))


def _oil_shadow(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A broad, dark, soft shadow."""
    y, x = _around(rng, size_hw)
    return -rng.uniform(0.06, 0.18) * np.exp(-0.5 * ((y / rng.uniform(20, 60)) ** 2 + (x / rng.uniform(12, 30)) ** 2))


def _specks(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Single dust particles, dark or bright."""
    count = int(rng.integers(1, 7))
    ys, xs = rng.uniform(0, size_hw[0], count), rng.uniform(0, size_hw[1], count)
    weights = rng.choice((-1.0, 1.0), count) * rng.uniform(1.0, 2.6, count)
    return np.clip(blur(dots(size_hw, ys, xs, weights), 0.8, 0.8), -0.6, 0.6)


def _faint_scratch(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A groove fainter than the grain, too faint to be labelled."""
    _, x = _around(rng, size_hw)
    centre = 0.8 * line_drift(rng, size_hw[0], 60)[:, None]
    return (
        0.6 * noise * np.exp(-0.5 * ((x - centre) / 1.0) ** 2) * np.clip(line_drift(rng, size_hw[0], 50), 0, 1)[:, None]
    )


def _strokes(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A few short, dark, slanted nicks, far apart."""
    count = int(rng.integers(1, 5))
    along = np.linspace(-1, 1, 16) * rng.uniform(2, 6, (count, 1))
    angle = rng.normal(-1.0, 0.4)
    ys = rng.uniform(0, size_hw[0], (count, 1)) + along * np.sin(angle)
    xs = rng.uniform(0, size_hw[1], (count, 1)) + along * np.cos(angle)
    return np.clip(-1.2 * blur(dots(size_hw, ys, xs, np.full(ys.shape, rng.uniform(0.4, 1.2))), 1.0, 0.9), -0.55, 0)


LOOKALIKES: dict[str, Callable[[np.random.Generator, SizeHw, float], Field]] = {
    "water_mark": _water_mark,
    "rolling_lines": _rolling_lines,
    "light_spot": _light_spot,
    "oil_shadow": _oil_shadow,
    "specks": _specks,
    "faint_scratch": _faint_scratch,
}


def _around(rng: np.random.Generator, size_hw: SizeHw) -> tuple[Field, Field]:
    """Vertical and horizontal distances in pixels from a random point."""
    y, x = rng.uniform(0, size_hw[0]), rng.uniform(0, size_hw[1])
    down, across = np.arange(size_hw[0], dtype=np.float64), np.arange(size_hw[1], dtype=np.float64)
    return down[:, None] - y, across[None, :] - x
