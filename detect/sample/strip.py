"""A long strip of steel and the camera above it: what is on the one, and how the other lights and sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..boxes import recognisable
from ..records import Box
from .degrade import degrade, motion_blur, smear_px
from .fields import Field, SizeHw
from .habits import plan
from .lookalikes import lookalikes
from .marks import Mark, lay
from .scene import draw
from .surface import SURFACES, Surface
from .travel import EXPOSURE

_DENSITY = 0.5  # defects an area, of those in a still image: much of a strip is sound
_TILE_PX = 200  # look-alikes are drawn in pieces of this length, which fade into each other
_FADE_PX = 20


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Steel without light.

    Attributes:
        steel: how much light it gives back, relative to a plain surface, float64[length, width].
        marks: its defects.
    """

    steel: Field
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """What stays while the strip moves.

    Attributes:
        light: gray level that a plain surface gives in each pixel, 0 to 255, float64[height, width].
        noise_gray: standard deviation of the sensor's noise in gray levels.
    """

    light: Field
    noise_gray: float


@dataclass(frozen=True, slots=True)
class Shot:
    """How one frame is taken.

    Attributes:
        left, top: the window's corner on the strip, in pixels.
        motion_px: how far the strip moves along its length from frame to frame.
        flicker: the lamps' strength in this moment, about 1.
        condition, severity: see ``degrade``.
    """

    left: int
    top: int
    motion_px: float
    flicker: float = 1.0
    condition: str = "clean"
    severity: float = 0.0


def make_camera(category: str, rng: np.random.Generator, size_hw: SizeHw) -> Camera:
    """A camera with the light in which steel of ``category`` is usually photographed."""
    return Camera(SURFACES[category](rng, size_hw).light, rng.uniform(0.6, 1.4))


def make_strip(category: str, rng: np.random.Generator, size_hw: SizeHw, level_gray: float) -> Strip:
    """A strip with defects of ``category`` and now and then of another.

    Args:
        category: one of ``CATEGORIES``.
        rng: the only source of chance.
        size_hw: length and width in pixels.
        level_gray: mean gray level that it will be lit to, which decides how much of a defect can be seen.
    """
    surface = SURFACES[category](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    lit = Surface(np.full(size_hw, level_gray), surface.relief, noise * level_gray)
    steel = 1 + surface.relief
    for top in range(0, size_hw[0], _TILE_PX):
        tile = steel[top : top + _TILE_PX]
        ends = np.minimum(np.arange(len(tile)), np.arange(len(tile))[::-1])[:, None]
        tile += np.minimum(ends / _FADE_PX, 1) * lookalikes(rng, (tile.shape[0], tile.shape[1]), noise)
    shade = np.ones(size_hw)
    marks = [
        lay(draw(label, category, rng, window), label, window, lit, shade)
        for label, window in plan(category, rng, size_hw, density=_DENSITY)
    ]
    return Strip(steel * np.minimum(shade, 1) + np.maximum(shade - 1, 0), tuple(marks))


def expose(strip: Strip, camera: Camera, shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture that the camera gives, uint8[height, width]; "dropped" is black."""
    height, width = camera.light.shape
    blurred = shot.condition == "blurred"
    smear = smear_px(shot.severity, shot.motion_px) if blurred else EXPOSURE * abs(shot.motion_px)
    # What moves into the picture while the shutter is open comes from beyond its border.
    beyond = int(np.ceil(smear / 2))
    first = max(shot.top - beyond, 0)
    wide = strip.steel[first : shot.top + height + beyond, shot.left : shot.left + width]
    steel = motion_blur(wide, smear, 0)[shot.top - first :][:height]
    gray = shot.flicker * camera.light * steel + camera.noise_gray * rng.standard_normal((height, width))
    pixels = np.clip(gray / 255, 0, 1)
    if not blurred:
        pixels = np.asarray(degrade(pixels, shot.condition, shot.severity, (0, shot.motion_px), rng), np.float64)
    return np.rint(255 * pixels).astype(np.uint8)


def boxes_of(strip: Strip, shot: Shot, size_hw: SizeHw) -> tuple[Box, ...]:
    """What the window holds of each defect in the middle of the exposure, if that is enough to tell it.

    A box is measured on the defect's own pixels inside the window, not cut from its whole box, and left out where it
    isn't ``recognisable``. A frame in bad condition has the boxes of what it ought to show.
    """
    window = (shot.top, shot.left, shot.top + size_hw[0], shot.left + size_hw[1])
    boxes = []
    for mark in strip.marks:
        whole, cut = mark.box(), mark.box(window)
        if whole and cut and recognisable(np.array(cut.xyxy), np.array(whole.xyxy)):
            boxes.append(cut)
    return tuple(boxes)
