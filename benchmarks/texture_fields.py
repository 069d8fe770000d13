"""Drawing functions of make_textures.py: random textures, outlines, fields of dots, dashes, cracks, curves, lines.

All sizes are in pixels, all fields float64[height, width]. Values of outlines and fields are 0 to 1.
"""

from __future__ import annotations

import sys
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from detect.synthetic.steel import Field, SizeHw, axes, blur, dots, drift, fade, grain, line_drift, saturate, smoothstep


def texture(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Grain of one to four random components, some with lines; about zero mean and unit standard deviation."""
    components = []
    for _ in range(rng.integers(1, 5)):
        along = np.exp(rng.uniform(log(0.4), log(12)))
        strength, across = rng.uniform(0.3, 1), along * rng.uniform(0.15, 1)
        components.append((strength, along, across, rng.choice([0, 90, rng.uniform(-90, 90)])))
    relief = grain(rng, size_hw, *components)
    relief /= relief.std() + 1e-9
    if rng.random() < 0.3:
        relief += rng.uniform(0.2, 1) * line_drift(rng, size_hw[1], rng.uniform(2, 20))
    if rng.random() < 0.3:
        relief += rng.uniform(0.2, 1) * line_drift(rng, size_hw[0], rng.uniform(2, 20))[:, None]
    if rng.random() < 0.2:  # bright or dark ridges
        relief = np.abs(relief) - 0.8
    return relief / (relief.std() + 1e-9)


def outline(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """1 inside a random shape, 0 outside, with a soft edge: ellipse, polygon, rectangle or irregular patch."""
    height, width = size_hw
    y, x = axes(size_hw)
    kind = rng.integers(5)
    if kind == 0:
        shape = 1 - np.sqrt(x * x + y * y)
    elif kind == 1:
        power, roughness = rng.uniform(1.5, 5), rng.uniform(0.1, 0.3)
        cell_hw = (max(4, height * rng.uniform(0.15, 0.5)), max(4, width * rng.uniform(0.15, 0.5)))
        shape = (
            0.8 - (np.abs(y) ** power + np.abs(x) ** power) ** (1 / power) + roughness * drift(rng, size_hw, cell_hw)
        )
    elif kind == 2:
        corners = rng.integers(3, 8)
        angle, radius = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(0.5, 1, corners)
        across, down = (radius * np.cos(angle) + 1) / 2 * (width - 1), (radius * np.sin(angle) + 1) / 2 * (height - 1)
        filled = np.zeros(size_hw, np.uint8)
        cv2.fillPoly(filled, [np.stack([across, down], axis=1).astype(np.int32)], 255)
        shape = cv2.GaussianBlur(filled.astype(np.float64), (0, 0), rng.uniform(0.6, 2.5)) / 255 - 0.5
    elif kind == 3:
        shape = np.minimum(1 - np.abs(x), 1 - np.abs(y))
    else:
        shape = 0.6 - np.abs(x) ** rng.uniform(1, 3) - np.abs(y) ** rng.uniform(1, 3)
        shape = shape + 0.35 * drift(rng, size_hw, (max(4, 0.2 * height), max(4, 0.2 * width)))
    softness = rng.uniform(1, 10) / (0.5 * min(size_hw))
    return smoothstep(shape - 0.05, softness) * fade(size_hw, 2)


def streak(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """An irregular lens shape along the height."""
    y, x = axes(size_hw)
    roughness = 0.3 * drift(rng, size_hw, (max(4, 0.15 * size_hw[0]), max(4, 0.2 * size_hw[1])))
    return smoothstep(0.6 - np.abs(y) ** 3 - np.abs(x) ** 1.5 + roughness, 0.4)


def dotted(rng: np.random.Generator, size_hw: SizeHw, *, clusters: bool) -> Field:
    """Round dots, or clusters of twelve dots."""
    height, width = size_hw
    number = max(6, int(height * width / np.exp(rng.uniform(log(15), log(160)))))
    sigma = np.exp(rng.uniform(log(0.6), log(2.2)))
    if clusters:
        number, each = max(2, number // 12), 12
        ys = rng.uniform(3, height - 3, (number, 1)) + rng.normal(0, 2.5, (number, each))
        xs = rng.uniform(3, width - 3, (number, 1)) + rng.normal(0, 2.5, (number, each))
    else:
        ys, xs = rng.uniform(3, height - 3, number), rng.uniform(3, width - 3, number)
    return saturate(blur(dots(size_hw, ys, xs, rng.gamma(1.5, 4.0, ys.shape) * sigma * sigma), sigma, sigma))


def dashed(rng: np.random.Generator, size_hw: SizeHw, *, heading: float | None, frayed: bool = False) -> Field:
    """Short, almost parallel dashes at an angle in radians (0: right; None: random); irregular flecks if ``frayed``."""
    height, width = size_hw
    number = max(4, int(height * width / np.exp(rng.uniform(log(80), log(500)))))
    length = rng.uniform(2, 9)
    heading = rng.uniform(0, np.pi) if heading is None else heading
    along = np.linspace(-1, 1, 20) * length * rng.uniform(0.4, 1.3, (number, 1))
    angle = heading + rng.normal(0, 0.15, (number, 1))
    ys = rng.uniform(3, height - 3, (number, 1)) + along * np.sin(angle)
    xs = rng.uniform(3, width - 3, (number, 1)) + along * np.cos(angle)
    if frayed:
        ys, xs = ys + rng.normal(0, 1.5, ys.shape), xs + rng.normal(0, 1.5, xs.shape)
    sigma = rng.uniform(0.6, 1.4)
    return saturate(rng.uniform(0.5, 1.5) * blur(dots(size_hw, ys, xs, np.ones_like(ys)), sigma, sigma))


def cracked(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Winding cracks, mostly in one direction."""
    height, width = size_hw
    number, steps = max(3, int(height * width / rng.uniform(150, 600))), rng.integers(20, 60)
    heading = rng.uniform(0, np.pi) + rng.normal(0, 0.3, (number, 1))
    heading = heading + np.cumsum(rng.normal(0, 0.25, (number, steps)), axis=1)
    heading = heading + np.pi * (rng.random((number, 1)) < 0.5)
    ys = rng.uniform(2, height - 2, (number, 1)) + np.cumsum(0.8 * np.sin(heading), axis=1)
    xs = rng.uniform(2, width - 2, (number, 1)) + np.cumsum(0.8 * np.cos(heading), axis=1)
    weights = rng.gamma(2, 0.5, (number, 1)) * np.ones((number, steps))
    return saturate(1.5 * blur(dots(size_hw, ys, xs, weights), 0.75, 0.75))


def curved(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """One to four thin Bezier curves, mostly almost straight."""
    points = 400
    t, total = np.linspace(0, 1, points), np.zeros(size_hw)
    shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    for _ in range(rng.integers(1, 5)):
        ends = rng.uniform(0.03, 0.97, (4, 2))
        if rng.random() < 0.6:
            thirds = np.array([[1 / 3], [2 / 3]])
            ends[1:3] = ends[0] + (ends[3] - ends[0]) * thirds + rng.normal(0, 0.06, (2, 2))
            ends = np.clip(ends, 0.03, 0.97)
        points_yx = sum(share[:, None] * end for share, end in zip(shares, ends))
        weights = np.full(points, max(size_hw) / points * rng.uniform(1, 3))
        total += dots(size_hw, points_yx[:, 0] * size_hw[0], points_yx[:, 1] * size_hw[1], weights)
    sigma = rng.uniform(0.7, 1.6)
    return saturate(2 * blur(total, sigma, sigma))


def hatched(rng: np.random.Generator, size_hw: SizeHw) -> Field:
    """Parallel lines."""
    heading, period = rng.uniform(0, np.pi), rng.uniform(3, 12)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = np.sin(2 * np.pi * (x * np.cos(heading) + y * np.sin(heading)) / period)
    return np.clip(waves + rng.uniform(-0.5, 0.5), 0, 1)
