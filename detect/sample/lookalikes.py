"""What catches the eye but is no defect: water marks, rolling lines, light spots, oil, dust, faint scratches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .fields import Field, SizeHw, blur, dots, drift, line_drift, step

_ODDS = 0.3  # of each kind, an image
_GRAINED = 0.05  # relative noise from which a short dark stroke is taken for grain; on smooth steel it is an inclusion


def lookalikes(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """The sum of a few of them, float64[height, width] in parts of the local light, all fainter than any defect.

    Args:
        size_hw: height and width in pixels.
        noise: the grain's standard deviation in parts of the light; the faint ones are measured by it.
    """
    total = np.zeros(size_hw)
    for draw in LOOKALIKES.values() if noise < _GRAINED else (*LOOKALIKES.values(), _strokes):
        if rng.random() < _ODDS:
            total += draw(rng, size_hw, noise)
    return total


def _water_mark(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """The thin rim that a dried drop leaves."""
    y, x = _around(rng, size_hw)
    radius = rng.uniform(15, 45)
    distance = np.sqrt(y * y + x * x) - radius * (1 + 0.15 * drift(rng, size_hw, (40, 40)))
    return rng.uniform(-0.05, 0.05) * np.exp(-0.5 * (distance / 2.5) ** 2) + 0.02 * step(-distance, 8)


def _rolling_lines(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Faint lines along the whole strip."""
    return np.broadcast_to(rng.uniform(0.01, 0.025) * line_drift(rng, size_hw[1], rng.uniform(2, 5)), size_hw)


def _light_spot(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A lamp's reflection, without an edge."""
    y, x = _around(rng, size_hw)
    return rng.uniform(0.08, 0.25) * np.exp(-0.5 * ((y / rng.uniform(14, 40)) ** 2 + (x / rng.uniform(14, 40)) ** 2))


def _oil_shadow(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Broad, dark and soft."""
    y, x = _around(rng, size_hw)
    return -rng.uniform(0.06, 0.18) * np.exp(-0.5 * ((y / rng.uniform(20, 60)) ** 2 + (x / rng.uniform(12, 30)) ** 2))


def _specks(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """Single grains of dust, dark or bright."""
    count = int(rng.integers(1, 7))
    ys, xs = rng.uniform(0, size_hw[0], count), rng.uniform(0, size_hw[1], count)
    weights = rng.choice((-1.0, 1.0), count) * rng.uniform(1.0, 2.6, count)
    return np.clip(blur(dots(size_hw, ys, xs, weights), 0.8, 0.8), -0.6, 0.6)


def _faint_scratch(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A groove below the grain, too faint for anyone to label."""
    _, x = _around(rng, size_hw)
    centre = 0.8 * line_drift(rng, size_hw[0], 60)[:, None]
    return (
        0.6 * noise * np.exp(-0.5 * ((x - centre) / 1.0) ** 2) * np.clip(line_drift(rng, size_hw[0], 50), 0, 1)[:, None]
    )


def _strokes(rng: np.random.Generator, size_hw: SizeHw, noise: float) -> Field:
    """A few short slanted nicks, dark and far apart."""
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
    """Distances in pixels down and across from a random point."""
    y, x = rng.uniform(0, size_hw[0]), rng.uniform(0, size_hw[1])
    down, across = np.arange(size_hw[0], dtype=np.float64), np.arange(size_hw[1], dtype=np.float64)
    return down[:, None] - y, across[None, :] - x
