"""The six defects of NEU-DET, each drawn alone in a window: what it takes from the light, or adds to it.

A renderer gets a random generator and the window's height and width, and returns float64[height, width] in parts of
the local light: -0.4 swallows 40 % of it, +1.5 reflects as much again and half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .fields import Field, SizeHw, blur, dots, drift, line_drift, saturate, step


def crazing(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A field of fine jagged cracks, most of them lying across the strip."""
    height, width = size_hw
    cracks = max(6, round(height * width / rng.uniform(300, 550)))
    length = 56
    heading = rng.normal(0, 0.3, (cracks, 1)) + np.cumsum(rng.normal(0, 0.28, (cracks, length)), axis=1)
    heading = np.where(rng.random((cracks, 1)) < 0.12, heading + 1.4, heading)
    xs = rng.uniform(-8, width - 6, (cracks, 1)) + np.cumsum(0.8 * np.cos(heading), axis=1)
    ys = rng.uniform(1, height - 1, (cracks, 1)) + np.cumsum(0.8 * np.sin(heading), axis=1)
    ends = rng.integers(14, length + 1, (cracks, 1))
    strength = rng.gamma(2.5, 0.4, (cracks, 1)) * rng.uniform(0.4, 1.4, (cracks, length))
    strength = np.where(np.arange(length) < ends, strength, 0)
    return -rng.uniform(0.38, 0.6) * saturate(1.5 * blur(dots(size_hw, ys, xs, strength), 0.7, 0.7))


def inclusion(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A dark streak along the strip: one ragged lens, or a group of drops when the window is small."""
    height = size_hw[0]
    if rng.random() < 0.35 and height < 110:
        return _drops(rng, size_hw)
    y, x = _axes(size_hw)
    x = x - 0.25 * line_drift(rng, height, 40)[:, None]
    ragged = 0.35 * drift(rng, size_hw, (28, 5)) + 0.12 * drift(rng, size_hw, (8, 3))
    shape = 0.75 - np.abs(y) ** rng.uniform(2, 5) - np.abs(x) ** 1.6 + ragged
    depth = rng.uniform(0.16, 0.5) * (1 + 0.2 * drift(rng, size_hw, (20, 6)))
    return -depth * step(shape * _fade(size_hw), rng.uniform(0.3, 0.8)) * _fade(size_hw)


def patches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A large dark blotch with an uneven rim."""
    y, x = _axes(size_hw)
    power = rng.uniform(2, 4)
    cell = 0.35 * min(size_hw) + 4
    uneven = 0.2 * drift(rng, size_hw, (cell, cell)) + 0.07 * drift(rng, size_hw, (7, 6))
    shape = 0.85 - (np.abs(y) ** power + np.abs(x) ** power) ** (1 / power) + uneven
    depth = rng.uniform(0.5, 0.78) * (1 + 0.08 * drift(rng, size_hw, (14, 12)))
    if rng.random() < 0.25:  # a lighter heart
        depth = depth * (1 - rng.uniform(0.2, 0.4) * step(shape - 0.45, 0.3))
    return -depth * step(shape * _fade(size_hw), 0.2) * _fade(size_hw)


def pitted_surface(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """A field of small pits, a little longer along the strip, some of them grown together."""
    area = size_hw[0] * size_hw[1]
    count = max(12, round(area / rng.uniform(45, 160)))
    ys, xs = rng.uniform(1, size_hw[0] - 1, count), rng.uniform(1, size_hw[1] - 1, count)
    size = rng.uniform(0.8, 1.6)
    depth = dots(size_hw, ys, xs, rng.gamma(3, 3.0, count) * size**2)
    field = blur(depth, 1.25 * size, size)
    if rng.random() < 0.25:  # a few of them deep and wide
        few = max(4, count // 40)
        ys, xs = rng.uniform(4, size_hw[0] - 4, few), rng.uniform(3, size_hw[1] - 3, few)
        field += blur(dots(size_hw, ys, xs, rng.gamma(4, 30.0, few)), 3.2, 2.4)
    return -rng.uniform(0.16, 0.4) * saturate(0.9 * field)


def rolled_in_scale(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Groups of small flat flecks, lying across the strip."""
    groups = max(2, round(size_hw[0] * size_hw[1] / rng.uniform(420, 900)))
    per_group = 4
    y = rng.uniform(2, size_hw[0] - 2, (groups, 1)) + rng.normal(0, 4, (groups, per_group))
    x = rng.uniform(4, size_hw[1] - 4, (groups, 1)) + rng.normal(0, 7, (groups, per_group))
    along = rng.normal(0, rng.uniform(1.2, 3.6, (groups, per_group, 1)), (groups, per_group, 18))
    xs = x[..., None] + along
    ys = y[..., None] + rng.normal(0, 0.8, along.shape) - 0.25 * along
    weights = np.broadcast_to(rng.gamma(3, 0.14, (groups, per_group, 1)), along.shape)
    return -rng.uniform(0.42, 0.62) * saturate(1.3 * blur(dots(size_hw, ys, xs, weights), 0.8, 1.0))


def scratches(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Bright grooves along the longer side of the window, with a soft halo; one to five of them side by side."""
    height, width = size_hw
    if width > height:
        return np.asarray(scratches(rng, (width, height)).T)
    x = np.arange(width)[None, :] - 0.5 * (width - 1)
    slant = rng.uniform(-1, 1) * max(0.0, 0.5 * width - 7) * np.linspace(-1, 1, height)
    wander = 0.5 * line_drift(rng, height, 45)
    grooves = rng.integers(1, 4) if width < 18 else rng.integers(1, 6)
    spread = max(0.5, min(0.25 * width - 2, 6.0))
    total = np.zeros(size_hw)
    for _ in range(int(grooves)):
        centre = (slant + wander + rng.uniform(-spread, spread))[:, None]
        core = rng.uniform(0.6, 1.6)
        along = np.clip(0.8 + 0.45 * line_drift(rng, height, 14) + 0.2 * rng.standard_normal(height), 0.15, None)
        total += along[:, None] * np.exp(-0.5 * ((x - centre) / core) ** 2)
    halo = np.exp(-0.5 * ((x - (slant + wander)[:, None]) / (0.8 * spread + 1.6)) ** 2)
    return rng.uniform(0.5, 1.9) * (total + 0.14 * halo) * _fade(size_hw)


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


def _axes(size_hw: SizeHw) -> tuple[Field, Field]:
    """Coordinates from -1 to 1 down and across the window."""
    return np.linspace(-1, 1, size_hw[0])[:, None], np.linspace(-1, 1, size_hw[1])[None, :]


def _fade(size_hw: SizeHw) -> Field:
    """1 inside, 0 at the window's border within 3 pixels, so that no shape ends in a straight cut."""
    y = np.minimum(np.arange(size_hw[0]), np.arange(size_hw[0])[::-1])[:, None]
    x = np.minimum(np.arange(size_hw[1]), np.arange(size_hw[1])[::-1])[None, :]
    return np.minimum(np.minimum(y, x) / 3.0, 1.0)
