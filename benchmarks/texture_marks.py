"""The twenty kinds of mark that make_textures.py draws: what each does to the texture below it."""

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

SIDE = 200  # pixels, of every picture
SIZE_HW = (SIDE, SIDE)

Drawn = tuple[Field, NDArray[np.bool_]] | None  # gray levels, and where the mark is seen; None: it can't be, here
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a mark is drawn into.

    Attributes:
        rng: where chance comes from.
        picture, ground: gray levels with the marks so far, and without any, float64[200, 200].
        light, relief: of the ground: gray levels without its grain, and the grain in parts of them.
        contrast: the grain's standard deviation in parts of the light.
        depth: largest change of the light by the mark, in parts of it.
        size_hw: height and width of the mark's window, which may lie partly outside.
        here, shown: the part inside, as slices of the picture and of the window.
    """

    rng: np.random.Generator
    picture: Field
    ground: Field
    light: Field
    relief: Field
    contrast: float
    depth: float
    size_hw: SizeHw
    here: Window
    shown: Window

    def outline(self) -> Field:
        """A random one, as far as it is shown."""
        return outline(self.rng, self.size_hw)[self.shown]

    def filled(self, shape: Field, other: Field) -> Drawn:
        """Other gray levels within an outline."""
        return self.picture[self.here] * (1 - shape) + shape * other, shape > 0.5

    def lit(self, change: Field, seen: NDArray[np.bool_]) -> Drawn:
        """The picture with its light changed by parts of itself."""
        return self.picture[self.here] * (1 + change), seen


def shade(scene: Scene, *, sign: int, as_streak: bool = False) -> Drawn:
    """Darker or brighter within an outline or a streak."""
    shape = scene.outline()  # for a streak in vain, but without it the chance that follows would be another
    if as_streak:
        shape = streak(scene.rng, scene.size_hw)[scene.shown]
    change = sign * scene.depth * shape
    return scene.lit(np.clip(change, -0.95, 3), np.abs(change) > 0.35 * scene.depth)


def other_grain(scene: Scene) -> Drawn:
    """Another texture of about the same contrast."""
    shape = scene.outline()
    other = scene.contrast * scene.rng.uniform(0.8, 1.6) * texture(scene.rng, SIZE_HW)[scene.here]
    return scene.filled(shape, scene.light[scene.here] * (1 + other))


def smooth(scene: Scene) -> Drawn:
    """The finest grain taken away."""
    shape, sigma = scene.outline(), scene.rng.uniform(2, 5)
    if scene.contrast < 0.03:
        return None
    return scene.filled(shape, cv2.GaussianBlur(scene.picture, (0, 0), sigma)[scene.here])


def contrast(scene: Scene) -> Drawn:
    """The same grain, stronger."""
    if scene.contrast < 0.015:
        return None
    shape = scene.outline()
    stronger = scene.relief[scene.here] * scene.rng.uniform(2, 3.5)
    return scene.filled(shape, scene.light[scene.here] * (1 + stronger))


def turned(scene: Scene) -> Drawn:
    """The same grain, turned by a quarter."""
    if scene.contrast < 0.03:
        return None
    shape = scene.outline()
    return scene.filled(shape, np.roll(np.rot90(scene.ground), scene.rng.integers(SIDE))[scene.here])


def rim(scene: Scene) -> Drawn:
    """A border with nothing inside."""
    shape = scene.outline()
    border = 4 * shape * (1 - shape)
    return scene.lit(scene.rng.choice([-1, 1]) * scene.depth * border, border > 0.4)


def field(
    scene: Scene, draw_field: Callable[[np.random.Generator, SizeHw], Field], *, bright: float, cut: bool = True
) -> Drawn:
    """Small marks all over the window or, half of the time, within an outline; bright ones with these odds."""
    marks = draw_field(scene.rng, scene.size_hw)
    if scene.rng.random() < 0.5 and cut:
        marks = marks * outline(scene.rng, scene.size_hw)
    marks = marks[scene.shown]
    is_bright = bright == 1 or (bright > 0 and scene.rng.random() < bright)
    strength = min(1.4 * scene.depth, 2) if is_bright else -min(1.4 * scene.depth, 0.9)
    return scene.lit(strength * marks, marks > 0.35)


MARKS: dict[str, Callable[[Scene], Drawn]] = {
    "dark": partial(shade, sign=-1),
    "bright": partial(shade, sign=1),
    "grain": other_grain,
    "smooth": smooth,
    "contrast": contrast,
    "dots_dark": partial(field, draw_field=partial(dotted, clots=False), bright=0),
    "dots_bright": partial(field, draw_field=partial(dotted, clots=False), bright=1),
    "dashes_h_dark": partial(field, draw_field=partial(dashed, heading=0.0), bright=0),
    "dashes_v_dark": partial(field, draw_field=partial(dashed, heading=np.pi / 2), bright=0),
    "dashes_bright": partial(field, draw_field=partial(dashed, heading=None), bright=1),
    "cracks_dark": partial(field, draw_field=cracked, bright=0),
    "cracks_bright": partial(field, draw_field=cracked, bright=1),
    "flecks": partial(field, draw_field=partial(dashed, heading=None, frayed=True), bright=0.3),
    "hatch": partial(field, draw_field=hatched, bright=0.3),
    "rim": rim,
    "clots": partial(field, draw_field=partial(dotted, clots=True), bright=0.3),
    "curve_dark": partial(field, draw_field=curved, bright=0, cut=False),
    "curve_bright": partial(field, draw_field=curved, bright=1, cut=False),
    "streak": partial(shade, sign=-1, as_streak=True),
    "turned": turned,
}
KINDS = tuple(MARKS)
