"""Sound hot-rolled steel under a factory's light: grain, rolling direction, exposure, vignetting, sensor noise."""

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
    """Coarse grain with a weave of columns, brushed at a slant; one side is often in the shade."""
    level = np.clip(rng.normal(150, 25), 85, 195)
    fine = grain(rng, size_hw, 0.5, 0.45, -25)
    brushed = grain(rng, size_hw, rng.uniform(3, 8), 0.7, rng.uniform(-35, -10))
    relief = rng.uniform(0.075, 0.115) * fine + rng.uniform(0.02, 0.05) * brushed
    relief += 0.04 * line_drift(rng, size_hw[1], 12) + 0.025 * line_drift(rng, size_hw[0], 9)[:, None]
    light = level * _shade(rng, size_hw, across=rng.gamma(1.2, 0.12), down=0.05, waves=0.05)
    return Surface(light, relief, 0.1 * level)


def inclusion(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Smooth dark steel with faint vertical streaks."""
    bright = rng.random() < 0.06
    level = rng.uniform(170, 240) if bright else np.clip(rng.normal(98, 19), 60, 150)
    relief = rng.uniform(0.012, 0.024) * grain(rng, size_hw, 0.9, 0.6, 70)
    relief += rng.uniform(0.005, 0.02) * grain(rng, size_hw, 9, 1.2, 90)
    light = level * _shade(rng, size_hw, across=rng.gamma(2, 0.06), down=rng.gamma(1.5, 0.04), waves=0.035)
    return Surface(light, relief, 0.025 * level)


def patches(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Bright, strongly grained, often over-exposed."""
    level = np.clip(rng.normal(178, 48), 80, 270)
    relief = rng.uniform(0.09, 0.13) * grain(rng, size_hw, 0.6, 0.45, -30)
    relief += rng.uniform(0.05, 0.1) * drift(rng, size_hw, (18, 13)) + 0.04 * line_drift(rng, size_hw[1], 10)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.07), down=0.05, waves=0.06)
    return Surface(light, relief, 0.1 * level)


def pitted(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Smooth and bright, with strong fall-off of the light along the strip."""
    level = np.clip(rng.normal(190, 48), 85, 265)
    relief = rng.uniform(0.008, 0.02) * grain(rng, size_hw, 0.8, 0.6, 90)
    relief += rng.uniform(0.0, 0.02) * line_drift(rng, size_hw[1], 5)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.2, 0.06), down=rng.gamma(1.3, 0.12), waves=0.04)
    return Surface(light, relief, 0.02 * level)


def rolled(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Mid gray, grain lying across the strip, with slanted brushing and clouds."""
    level = np.clip(rng.normal(132, 16), 85, 165)
    relief = rng.uniform(0.045, 0.06) * grain(rng, size_hw, 0.8, 0.45, -6)
    relief += rng.uniform(0.015, 0.03) * grain(rng, size_hw, 9, 1.2, rng.uniform(-35, -15))
    relief += rng.uniform(0.015, 0.035) * grain(rng, size_hw, 9, 3.5, rng.uniform(-35, -5))
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.05), down=0.03, waves=0.035)
    return Surface(light, relief, 0.065 * level)


def scratched(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Dark and smooth, with fine lines across the strip."""
    level = np.clip(rng.normal(84, 22), 48, 150)
    relief = rng.uniform(0.012, 0.03) * grain(rng, size_hw, 1.0, 0.6, rng.uniform(-10, 10))
    relief += rng.uniform(0.0, 0.03) * grain(rng, size_hw, 12, 0.8, 0)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.08), down=rng.gamma(1.5, 0.05), waves=0.04)
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
