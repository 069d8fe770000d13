"""Sound hot-rolled steel under factory lighting, made of random fields: grain, rolling direction, exposure.

Everything is float64 numpy: results may differ between machines in the last of 16 digits, which doesn't change the
final 8-bit gray levels. Therefore neither OpenCV nor float32 is used here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, radians, sin

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
SizeHw = tuple[int, int]
_SPLINE_STD = 0.48  # standard deviation of a 2-D cubic B-spline surface with unit-variance random knots


def grain(rng: np.random.Generator, size_hw: SizeHw, *components: tuple[float, float, float, float]) -> Field:
    """Zero-mean texture, shaped in the Fourier domain: a sum of white noise components, each with an oriented blur.

    Args:
        rng: random generator.
        size_hw: height and width in pixels.
        components: (strength, along_px, across_px, angle_deg) each: standard deviation, sigmas of the Gaussian blur
            along and across its direction, and the direction in degrees, 0 = right, positive = towards down.
    """
    height, width = size_hw
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    power = np.zeros((height, fx.size))
    for strength, along_px, across_px, angle_deg in components:
        c, s = cos(radians(angle_deg)), sin(radians(angle_deg))
        exponent = (along_px * (c * fx + s * fy)) ** 2 + (across_px * (c * fy - s * fx)) ** 2
        component = np.exp(-4 * np.pi**2 * exponent)
        component[0, 0] = 0
        power += component * (strength**2 / (2 * component.sum()))
    spectrum = np.sqrt(power) * rng.standard_normal((2, *power.shape))
    return np.fft.irfft2(spectrum[0] + 1j * spectrum[1], s=size_hw) * (height * width / 2**0.5)


def drift(rng: np.random.Generator, size_hw: SizeHw, cell_hw: tuple[float, float]) -> Field:
    """Smooth random surface (cubic B-spline) with about unit standard deviation and knots every ``cell_hw`` pixels."""
    rows, columns = _spline(size_hw[0], cell_hw[0]), _spline(size_hw[1], cell_hw[1])
    knots = rng.standard_normal((rows.shape[1], columns.shape[1]))
    return np.asarray(rows @ knots @ columns.T / _SPLINE_STD)


def line_drift(rng: np.random.Generator, length: int, cell_px: float) -> Field:
    """Smooth random curve, as ``drift`` in one dimension, float64[length]."""
    basis = _spline(length, cell_px)
    return np.asarray(basis @ rng.standard_normal(basis.shape[1]) / _SPLINE_STD**0.5)


def dots(size_hw: SizeHw, ys: Field, xs: Field, weights: Field) -> Field:
    """Sum of the point weights per pixel; points outside are ignored."""
    rows, columns = np.floor(ys.ravel()).astype(np.int64), np.floor(xs.ravel()).astype(np.int64)
    inside = (rows >= 0) & (rows < size_hw[0]) & (columns >= 0) & (columns < size_hw[1])
    index = rows[inside] * size_hw[1] + columns[inside]
    total = np.bincount(index, weights.ravel()[inside], minlength=size_hw[0] * size_hw[1])
    return np.asarray(total.reshape(size_hw), dtype=np.float64)


def blur(field: Field, sigma_y_px: float, sigma_x_px: float) -> Field:
    """Separable Gaussian blur with zeros beyond the border."""
    return np.asarray(_blur_rows(_blur_rows(field, sigma_y_px).T, sigma_x_px).T)


def smoothstep(values: Field, softness: float) -> Field:
    """Smoothstep: 0 for negative, 1 for positive values, with a smooth transition of total width ``softness``."""
    t = np.clip(values / softness + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def saturate(field: Field) -> Field:
    """1 - exp(-field): 0 at 0, towards 1 for large values, so that overlapping dots get wider, not darker."""
    return np.asarray(1 - np.exp(-field))


def axes(size_hw: SizeHw) -> tuple[Field, Field]:
    """Vertical and horizontal coordinates from -1 to 1 over the window."""
    down, across = (np.linspace(-1, 1, size, dtype=np.float64) for size in size_hw)
    return down[:, None], across[None, :]


def fade(size_hw: SizeHw, within_px: float) -> Field:
    """1 inside, falling to 0 at the window's border, so that no shape has a straight cut edge."""
    y = np.minimum(np.arange(size_hw[0]), np.arange(size_hw[0])[::-1])[:, None]
    x = np.minimum(np.arange(size_hw[1]), np.arange(size_hw[1])[::-1])[None, :]
    return np.asarray(np.minimum(np.minimum(y, x) / within_px, 1.0))


def _spline(length: int, cell_px: float) -> Field:
    """Uniform cubic B-spline basis, float64[length, cells + 3]; every row sums to 1."""
    cells = max(1, round(length / cell_px))
    position = (np.arange(length) + 0.5) * (cells / length)
    first = np.floor(position).astype(np.int64)
    t = position - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = np.zeros((length, cells + 3))
    for offset, weight in enumerate(weights):
        basis[np.arange(length), first + offset] = weight / 6
    return basis


def _blur_rows(field: Field, sigma_px: float) -> Field:
    reach = ceil(2.5 * sigma_px)
    if reach == 0:
        return field
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps /= taps.sum()
    padded = np.pad(field, ((reach, reach), (0, 0)))
    return np.asarray(sum(tap * padded[i : i + len(field)] for i, tap in enumerate(taps)))


@dataclass(frozen=True, slots=True)
class Surface:
    """Steel surface without marks.

    Attributes:
        light: gray level of a surface without grain, float64[height, width].
        relief: grain of the steel relative to ``light``, zero mean, same shape.
        noise_gray: standard deviation of the grain in gray levels; about the smallest visible change.
    """

    light: Field
    relief: Field
    noise_gray: float


def crazing(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Mottled grain with vertical lines and slanted brush marks; one side is often darker."""
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
    """Bright and mottled with strong grain, often overexposed."""
    level = np.clip(rng.normal(170, 50), 70, 265)
    relief = rng.uniform(0.85, 1.15) * grain(
        rng, size_hw, (0.07, 0.5, 0.4, 0), (0.055, 1.8, 0.45, 90), (0.05, 2, 1, -30), (0.06, 6, 4.5, 90)
    )
    relief += 0.03 * line_drift(rng, size_hw[1], 10)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.5, 0.07), down=0.05, waves=0.07)
    return Surface(light, relief, 0.1 * level)


def pitted(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Smooth and bright, with a strong light gradient along the strip."""
    level = np.clip(rng.normal(188, 45), 80, 250)
    relief = grain(rng, size_hw, (rng.uniform(0.008, 0.02), 0.8, 0.6, 90), (rng.uniform(0.004, 0.015), 8, 1, 90))
    relief += rng.uniform(0.0, 0.015) * line_drift(rng, size_hw[1], 6)
    light = level * _shade(rng, size_hw, across=rng.gamma(1.2, 0.06), down=rng.gamma(1.3, 0.12), waves=0.04)
    return Surface(np.minimum(light, 262), relief, 0.02 * level)


def rolled(rng: np.random.Generator, size_hw: SizeHw) -> Surface:
    """Medium gray, with grain across the strip, slanted brush marks and clouds."""
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
    """Dark and smooth, with fine lines across the strip and soft shading along it."""
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
    """Relative light, about 1: gradients in both directions, lens vignetting and slow waves."""
    y = np.linspace(-1, 1, size_hw[0])[:, None]
    x = np.linspace(-1, 1, size_hw[1])[None, :]
    slope = across * rng.choice((-1, 1)) * x + down * rng.choice((-1, 1)) * y
    bend = 0.5 * across * (x - rng.uniform(-0.7, 0.7)) ** 2
    vignette = rng.uniform(0, 0.06) * (x * x + y * y)
    light = 1 + slope - bend - vignette + waves * drift(rng, size_hw, (110, 60))
    return np.asarray(np.maximum(light, 0.25))
