"""The six defects of NEU-DET, each drawn alone in a window: what it takes from the light, or adds to it.

A renderer gets a random generator and the window's height and width, and returns float64[height, width] in parts of
the local light: -0.4 swallows 40 % of it, +1.5 reflects as much again and half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .fields import Field, SizeHw, axes, blur, dots, drift, fade, line_drift, saturate, step


def crazing(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A field of fine jagged cracks, most of them lying across the strip, with crumbs broken out beside them."""
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
    """A dark streak along the strip: one ragged lens, or a group of drops when the window is small."""
    height = size_hw[0]
    if rng.random() < 0.35 and height < 110:
        return _drops(rng, size_hw)
    y, x = axes(size_hw)
    x = x - 0.2 * line_drift(rng, height, 40)[:, None]
    ragged = 0.3 * drift(rng, size_hw, (34, 5)) + 0.1 * drift(rng, size_hw, (9, 3))
    shape = 0.62 - np.abs(y) ** rng.uniform(1.5, 4) - np.abs(x) ** 1.4 + ragged
    depth = rng.uniform(0.14, 0.42) * (1 + 0.25 * drift(rng, size_hw, (24, 5)))
    return -np.clip(depth, 0.08, 0.6) * step(shape * fade(size_hw, 5) - 0.2, rng.uniform(0.5, 1.0)) * fade(size_hw, 4)


def patches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A large dark blotch with an uneven, soft rim."""
    y, x = axes(size_hw)
    power = rng.uniform(1.5, 3)
    cell = 0.35 * min(size_hw) + 4
    uneven = 0.22 * drift(rng, size_hw, (1.4 * cell, cell)) + 0.06 * drift(rng, size_hw, (8, 7))
    shape = 0.68 - (np.abs(y) ** power + np.abs(x) ** power) ** (1 / power) + uneven
    depth = rng.uniform(0.52, 0.82) * (1 + 0.1 * drift(rng, size_hw, (16, 12)))
    if rng.random() < 0.25:  # a lighter heart
        depth = depth * (1 - rng.uniform(0.2, 0.4) * step(shape - 0.45, 0.3))
    soft = rng.uniform(6, 13) / (0.5 * min(size_hw))
    return -np.clip(depth, 0, 0.92) * step(shape * fade(size_hw, 6), soft) * fade(size_hw, 6)


def pitted_surface(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A field of small pits, a little longer along the strip, some of them clotted together."""
    area = size_hw[0] * size_hw[1]
    count = max(20, round(area / np.exp(rng.uniform(np.log(14), np.log(100)))))
    ys, xs = rng.uniform(4, size_hw[0] - 4, count), rng.uniform(4, size_hw[1] - 4, count)
    size = rng.uniform(0.65, 1.2)
    field = blur(dots(size_hw, ys, xs, rng.gamma(1.5, 4.0, count) * size**2), 1.25 * size, size)
    if rng.random() < 0.4:  # clots
        clots = rng.integers(4, max(6, area // 700))
        ys = rng.uniform(9, size_hw[0] - 9, (clots, 1)) + np.clip(rng.normal(0, 2.2, (clots, 10)), -5, 5)
        xs = rng.uniform(7, size_hw[1] - 7, (clots, 1)) + np.clip(rng.normal(0, 1.6, (clots, 10)), -4, 4)
        field += blur(dots(size_hw, ys, xs, rng.gamma(1.5, 3.0, (clots, 1)) * np.ones((clots, 10))), 1.3, 1.1)
    return -rng.uniform(0.2, 0.45) * saturate(0.8 * field)


def rolled_in_scale(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Smudges of a few small flat flecks each, lying across the strip."""
    smudges = max(4, round(size_hw[0] * size_hw[1] / rng.uniform(200, 420)))
    flecks, grains = 4, 14
    y = rng.uniform(6, size_hw[0] - 6, (smudges, 1)) + np.clip(rng.normal(0, 2.4, (smudges, flecks)), -5, 5)
    x = rng.uniform(9, size_hw[1] - 9, (smudges, 1)) + np.clip(rng.normal(0, 2.6, (smudges, flecks)), -6, 6)
    along = rng.normal(0, rng.uniform(1.0, 2.8, (smudges, flecks, 1)), (smudges, flecks, grains))
    ys = y[..., None] + rng.normal(0, 0.6, along.shape) - 0.2 * along
    weights = np.broadcast_to(rng.gamma(2, 0.24, (smudges, 1, 1)), along.shape)
    return -rng.uniform(0.45, 0.62) * saturate(1.5 * blur(dots(size_hw, ys, x[..., None] + along, weights), 0.75, 1.0))


def scratches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Bright grooves along the longer side of the window, side by side in a soft halo; some are broken."""
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
        total *= step(line_drift(rng, height, 16) + 0.5, 0.6)[:, None]
    halo = np.exp(-0.5 * ((x - middle[:, None]) / (0.7 * spread + 2.2)) ** 2)
    ends = np.minimum(np.arange(height), np.arange(height)[::-1]) / (rng.uniform(0.02, 0.25) * height)
    mark = rng.uniform(0.45, 1.9) * (total + 0.16 * halo) * np.minimum(ends, 1)[:, None] * fade(size_hw, 3)
    return np.asarray(mark, np.float64)


def spatter(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Inclusions as they look on grained steel: a cluster of black crumbs."""
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
