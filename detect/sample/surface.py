"""Sound hot-rolled steel under a factory's light: grain, rolling direction, exposure, vignetting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .fields import Field, SizeHw, drift, grain, line_drift


@dataclass(frozen=True, slots=True)
class Surface:
    """A piece of steel before any mark is put on it.

    Attributes:
        light: gray level that a plain surface would have here, float64[height, width].
        relief: the steel's own grain, relative to ``light``, zero mean, same shape.
        noise_gray: standard deviation of the grain in gray levels, about what a mark must exceed to be seen.
    """

    light: Field
    relief: Field
    noise_gray: float


def crazing(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Mottled grain with a weave of columns, brushed at a slant; one side is often in the shade."""
    level = np.clip(rng.normal(148, 24), 85, 190)
    slant = rng.uniform(-35, -5)
    relief = rng.uniform(0.8, 1.1) * grain(
        rng, size_hw, (0.075, 0.5, 0.4, 0), (0.05, 1.6, 0.45, 90), (0.055, 1.7, 1.2, slant), (0.03, 5, 0.8, slant)
    )
    relief += 0.04 * line_drift(rng, size_hw[1], 14) + 0.015 * line_drift(rng, size_hw[0], 9)[:, None]
    light = level * _shade(rng, size_hw, across=rng.gamma(1.2, 0.12), down=0.05, waves=0.05)
    return Surface(light, relief, 0.1 * level)


def inclusion(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Smooth dark steel with faint vertical streaks."""
    bright = rng.random() < 0.06
    level = rng.uniform(170, 240) if bright else np.clip(rng.normal(101, 19), 60, 150)
    fine, streaks, clouds = rng.uniform(0.010, 0.022), rng.uniform(0.006, 0.02), rng.uniform(0.008, 0.02)
    relief = grain(rng, size_hw, (fine, 0.9, 0.6, 70), (streaks, 9, 1.2, 90), (clouds, 8, 5, 90))
    light = level * _shade(rng, size_hw, across=rng.gamma(2, 0.06), down=rng.gamma(1.5, 0.04), waves=0.035)
    return Surface(light, relief, 0.025 * level)


def patches(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Bright, mottled, strongly grained, often over-exposed."""
    level = np.clip(rng.normal(170, 50), 70, 265)
    relief = rng.uniform(0.85, 1.15) * grain(
        rng, size_hw, (0.07, 0.5, 0.4, 0), (0.055, 1.8, 0.45, 90), (0.05, 2, 1, -30), (0.06, 6, 4.5, 90)
    )
    relief += 0.03 * line_drift(rng, size_hw[1], 10)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.07), down=0.05, waves=0.07)
    return Surface(light, relief, 0.1 * level)


def pitted(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Smooth and bright, with strong fall-off of the light along the strip."""
    level = np.clip(rng.normal(188, 45), 80, 250)
    relief = grain(rng, size_hw, (rng.uniform(0.008, 0.02), 0.8, 0.6, 90), (rng.uniform(0.004, 0.015), 8, 1, 90))
    relief += rng.uniform(0.0, 0.015) * line_drift(rng, size_hw[1], 6)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.2, 0.06), down=rng.gamma(1.3, 0.12), waves=0.04)
    return Surface(np.minimum(light, 262), relief, 0.02 * level)


def rolled(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Mid gray, grain lying across the strip, with slanted brushing and clouds."""
    level = np.clip(rng.normal(134, 16), 88, 168)
    slant = rng.uniform(-35, -10)
    relief = rng.uniform(0.85, 1.2) * grain(
        rng,
        size_hw,
        (0.055, 0.55, 0.35, -4),
        (0.035, 3, 1.0, slant / 2),
        (0.02, 10, 1.5, slant),
        (0.032, 9, 4.5, slant),
    )
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.06), down=0.04, waves=0.06)
    return Surface(light, relief, 0.06 * level)


def scratched(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Dark and smooth, with fine lines across the strip and now and then a shade along it."""
    level = np.clip(rng.normal(86, 23), 48, 150)
    fine, lines = rng.uniform(0.012, 0.028), rng.uniform(0.002, 0.025)
    relief = grain(rng, size_hw, (fine, 0.9, 0.6, rng.uniform(-10, 10)), (lines, 12, 0.8, 0), (0.015, 12, 3, 90))
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.1), down=rng.gamma(1.5, 0.05), waves=0.06)
    return Surface(light, relief, 0.03 * level)


SURFACES: dict[str, Callable[[np.random.Generator, SizeHw], Surface]] = {
    "crazing": crazing,
    "inclusion": inclusion,
    "patches": patches,
    "pitted_surface": pitted,
    "rolled-in_scale": rolled,
    "scratches": scratched,
}


def _shade(rng: np.random.Generator, size_hw: SizeHw, *, across: float, down: float, waves: float) -> Field:
    """Relative light, about 1: a slope in both directions, a lens's vignetting and slow waves."""
    y = np.linspace(-1, 1, size_hw[0])[:, None]
    x = np.linspace(-1, 1, size_hw[1])[None, :]
    slope = across * rng.choice((-1, 1)) * x + down * rng.choice((-1, 1)) * y
    bend = 0.5 * across * (x - rng.uniform(-0.7, 0.7)) ** 2
    vignette = rng.uniform(0, 0.06) * (x * x + y * y)
    light = 1 + slope - bend - vignette + waves * drift(rng, size_hw, (110, 60))
    return np.asarray(np.maximum(light, 0.25))
