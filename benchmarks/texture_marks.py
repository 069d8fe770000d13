"""The twenty kinds of marks of make_textures.py: how each changes the texture."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray

from detect.synthetic.steel import Field, SizeHw
from texture_fields import cracked, curved, dashed, dotted, hatched, outline, streak, texture

SIDE = 200  # pixels, of every image
SIZE_HW = (SIDE, SIDE)

Drawn = tuple[Field, NDArray[np.bool_]] | None  # gray levels, and mask of the visible mark; None: not visible here
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Image and parameters for drawing one mark.

    Attributes:
        rng: random generator.
        image, ground: gray levels with the marks so far, and without marks, float64[200, 200].
        light, relief: gray levels of the ground without grain, and the grain relative to them.
        contrast: standard deviation of the grain relative to the light.
        depth: largest change of the light by the mark, relative to the light.
        size_hw: height and width of the mark's window, which may be partly outside the image.
        inside, part: part of the window inside the image, as slices of the image and of the window.
    """

    rng: np.random.Generator
    image: Field
    ground: Field
    light: Field
    relief: Field
    contrast: float
    depth: float
    size_hw: SizeHw
    inside: Window
    part: Window

    def outline(self) -> Field:
        """The part of a random outline inside the image."""
        return outline(self.rng, self.size_hw)[self.part]

    def filled(self, shape: Field, other: Field) -> Drawn:
        """The image with other gray levels inside an outline."""
        return self.image[self.inside] * (1 - shape) + shape * other, shape > 0.5

    def lit(self, change: Field, mask: NDArray[np.bool_]) -> Drawn:
        """The image with a relative change of its light."""
        return self.image[self.inside] * (1 + change), mask


def shade(scene: Scene, *, sign: int, as_streak: bool = False) -> Drawn:
    """Darker or brighter inside an outline or a streak."""
    shape = scene.outline()  # unused for a streak, but drawn so that the following random numbers don't change
    if as_streak:
        shape = streak(scene.rng, scene.size_hw)[scene.part]
    change = sign * scene.depth * shape
    return scene.lit(np.clip(change, -0.95, 3), np.abs(change) > 0.35 * scene.depth)


def other_grain(scene: Scene) -> Drawn:
    """Another texture with about the same contrast."""
    shape = scene.outline()
    other = scene.contrast * scene.rng.uniform(0.8, 1.6) * texture(scene.rng, SIZE_HW)[scene.inside]
    return scene.filled(shape, scene.light[scene.inside] * (1 + other))


def smooth(scene: Scene) -> Drawn:
    """Smoothed: without the finest grain."""
    shape, sigma = scene.outline(), scene.rng.uniform(2, 5)
    if scene.contrast < 0.03:
        return None
    return scene.filled(shape, cv2.GaussianBlur(scene.image, (0, 0), sigma)[scene.inside])


def contrast(scene: Scene) -> Drawn:
    """The same grain with higher contrast."""
    if scene.contrast < 0.015:
        return None
    shape = scene.outline()
    stronger = scene.relief[scene.inside] * scene.rng.uniform(2, 3.5)
    return scene.filled(shape, scene.light[scene.inside] * (1 + stronger))


def turned(scene: Scene) -> Drawn:
    """The same grain, rotated by 90 degrees."""
    if scene.contrast < 0.03:
        return None
    shape = scene.outline()
    return scene.filled(shape, np.roll(np.rot90(scene.ground), scene.rng.integers(SIDE))[scene.inside])


def rim(scene: Scene) -> Drawn:
    """A border only."""
    shape = scene.outline()
    border = 4 * shape * (1 - shape)
    return scene.lit(scene.rng.choice([-1, 1]) * scene.depth * border, border > 0.4)


def field(
    scene: Scene, draw_field: Callable[[np.random.Generator, SizeHw], Field], *, bright: float, cut: bool = True
) -> Drawn:
    """Small marks in the whole window or, with probability 0.5, in an outline; bright with probability ``bright``."""
    marks = draw_field(scene.rng, scene.size_hw)
    if scene.rng.random() < 0.5 and cut:
        marks = marks * outline(scene.rng, scene.size_hw)
    marks = marks[scene.part]
    is_bright = bright == 1 or (bright > 0 and scene.rng.random() < bright)
    strength = min(1.4 * scene.depth, 2) if is_bright else -min(1.4 * scene.depth, 0.9)
    return scene.lit(strength * marks, marks > 0.35)


MARKS: dict[str, Callable[[Scene], Drawn]] = {
    "dark": partial(shade, sign=-1),
    "bright": partial(shade, sign=1),
    "grain": other_grain,
    "smooth": smooth,
    "contrast": contrast,
    "dots_dark": partial(field, draw_field=partial(dotted, clusters=False), bright=0),
    "dots_bright": partial(field, draw_field=partial(dotted, clusters=False), bright=1),
    "dashes_h_dark": partial(field, draw_field=partial(dashed, heading=0.0), bright=0),
    "dashes_v_dark": partial(field, draw_field=partial(dashed, heading=np.pi / 2), bright=0),
    "dashes_bright": partial(field, draw_field=partial(dashed, heading=None), bright=1),
    "cracks_dark": partial(field, draw_field=cracked, bright=0),
    "cracks_bright": partial(field, draw_field=cracked, bright=1),
    "flecks": partial(field, draw_field=partial(dashed, heading=None, frayed=True), bright=0.3),
    "hatch": partial(field, draw_field=hatched, bright=0.3),
    "rim": rim,
    "clots": partial(field, draw_field=partial(dotted, clusters=True), bright=0.3),
    "curve_dark": partial(field, draw_field=curved, bright=0, cut=False),
    "curve_bright": partial(field, draw_field=curved, bright=1, cut=False),
    "streak": partial(shade, sign=-1, as_streak=True),
    "turned": turned,
}
KINDS = tuple(MARKS)
