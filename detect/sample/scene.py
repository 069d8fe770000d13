"""One image with its boxes: a surface, look-alikes, defects where there is room for them, and the camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..records import Box
from .defects import DEFECTS, spatter
from .fields import Field, SizeHw
from .habits import Window, plan
from .lookalikes import lookalikes
from .marks import lay
from .surface import SURFACES, Surface

CATEGORIES = tuple(DEFECTS)
_SMALLEST_SIDE_PX = 64


def make_image(
    category: str, rng: np.random.Generator, *, size_hw: SizeHw = (200, 200)
) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """Draw one image of hot-rolled steel with defects of ``category``, and now and then one of a second category.

    Args:
        category: one of ``CATEGORIES``.
        rng: the only source of chance; the same state gives the same image on any machine.
        size_hw: height and width in pixels, each at least 64; larger images hold more defects of the same size.

    Returns:
        uint8[height, width] gray, and the boxes. A box is the smallest that holds all pixels where its defect changes
        the light by more than the steel's own grain does: measured on the drawn defect, not taken from its plan.

    Raises:
        DataError: unknown category, or an image too small to hold a defect.
    """
    if category not in DEFECTS:
        raise DataError(f'no defect is called "{category}"', fix="choose from " + ", ".join(CATEGORIES))
    if min(size_hw) < _SMALLEST_SIDE_PX:
        raise DataError(f"{size_hw[1]} x {size_hw[0]} pixels are too few", fix=f"ask for {_SMALLEST_SIDE_PX} or more")
    surface = SURFACES[category](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel = 1 + surface.relief + lookalikes(rng, size_hw, noise)
    marks = np.ones(size_hw)
    boxes: list[Box] = []
    for label, window in plan(category, rng, size_hw):
        boxes += _put(draw(label, category, rng, window), label, window, surface, marks)
    gray = surface.light * (steel * np.minimum(marks, 1) + np.maximum(marks - 1, 0))
    gray += rng.uniform(0.6, 1.4) * rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def draw(label: str, category: str, rng: np.random.Generator, window: Window) -> Field:
    """A defect as it looks on the steel of ``category``, float64 of the window's size."""
    render = spatter if (label, category) == ("inclusion", "patches") else DEFECTS[label]
    return render(rng, (window[2] - window[0], window[3] - window[1]))


def _put(mark: Field, label: str, window: Window, surface: Surface, marks: Field) -> list[Box]:
    """Lay a drawn defect into ``marks`` (1 = sound steel) and measure its box; none if nothing is inside."""
    box = lay(mark, label, window, surface, marks).box()
    return [box] if box else []
