"""Boxes on an image: enlarged where it is small, outlined with smooth lines, labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ..errors import DataError
from ..images import Pixels, to_rgb
from ..records import Box, Detection, Detections, Xyxy
from .colours import Rgb, class_colours
from .labels import Rect, write_labels
from .sheet import Picture, to_8bit

_CASING: Rgb = (0, 0, 0)
_WORTHWHILE_PX = 720  # an image whose longer side is less is enlarged to at least this


@dataclass(frozen=True, slots=True)
class Mark:
    """One box to draw.

    Attributes:
        xyxy: corners in pixels of the image as given, 0-based; what lies outside is cut off.
        text: the label beside it, none where empty.
        colour: RGB, 0 to 255.
        dashed: outline in dashes, to tell the truth from what was found, say.
    """

    xyxy: Xyxy
    text: str
    colour: Rgb
    dashed: bool = False


def draw_detections(
    pixels: Pixels,
    detections: Detections | Sequence[Detection],
    *,
    scale: int | None = None,
    categories: Sequence[str] | None = None,
) -> Picture:
    """Draw what was found, with class and score.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; 16 bits are stretched by ``to_8bit``.
        detections: boxes in pixels of ``pixels``.
        scale: enlarge by this whole number; by default enough for the labels to be read on a small image.
        categories: all class names, which keeps colours apart from picture to picture; ``Detections`` know theirs.

    Returns:
        uint8[scale * height, scale * width, 3] RGB; ``pixels`` is left as it was.

    Raises:
        DataError: pixels of another kind, or a box with a corner that is not a finite number.
    """
    if categories is None and isinstance(detections, Detections):
        categories = detections.categories
    found = sorted(detections, key=lambda d: d.score, reverse=True)
    colours = class_colours(categories or (d.label for d in found))
    marks = [Mark(d.xyxy, f"{d.label} {d.score:.2f}", colours[d.label]) for d in found]
    return draw_marks(pixels, marks, scale=scale)


def draw_boxes(
    pixels: Pixels, boxes: Sequence[Box], *, scale: int | None = None, categories: Sequence[str] | None = None
) -> Picture:
    """Draw labelled boxes with their class; crowd boxes, which the judge ignores, in dashes. Otherwise as above."""
    colours = class_colours(categories or (box.label for box in boxes))
    return draw_marks(pixels, [Mark(b.xyxy, b.label, colours[b.label], dashed=b.crowd) for b in boxes], scale=scale)


def draw_marks(pixels: Pixels, marks: Sequence[Mark], *, scale: int | None = None) -> Picture:
    """Draw any boxes, the most important first: it lies on top and its label chooses its place first."""
    rgb = to_rgb(to_8bit(pixels))
    scale = default_scale((rgb.shape[0], rgb.shape[1])) if scale is None else scale
    if scale < 1:
        raise DataError(f"an image can't be drawn at scale {scale}", fix="give a whole number from 1")
    canvas = _enlarge(rgb, scale)
    font_px = min(max(14, round(sqrt(canvas.shape[0] * canvas.shape[1]) / 50)), 40)
    line_px = max(2.0, font_px / 7)
    rects = [_inside(mark.xyxy, scale, canvas.shape[1], canvas.shape[0], line_px) for mark in marks]
    floats = canvas.astype(np.float32)
    for mark, rect in zip(reversed(marks), reversed(rects)):
        _outline(floats, rect, line_px, mark)
    picture = Pillow.fromarray(np.rint(floats).astype(np.uint8))
    write_labels(picture, [(mark.text, mark.colour, rect) for mark, rect in zip(marks, rects)], font_px)
    return np.array(picture)


def default_scale(size_hw: tuple[int, int]) -> int:
    """The whole number that brings the longer side to 720 pixels or just above, 1 for larger images."""
    return ceil(_WORTHWHILE_PX / max(size_hw))


def _enlarge(rgb: Picture, scale: int) -> Picture:
    if scale == 1:
        return rgb
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.array(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.BICUBIC))


def _inside(xyxy: Xyxy, scale: int, width: int, height: int, line_px: float) -> Rect:
    """The outline's outer rectangle: just around the box, moved in where it would leave the picture."""
    if not all(isfinite(v) for v in xyxy):
        raise DataError(f"a box has the corners {xyxy}", fix="check what made it")
    x1, x2 = _span(xyxy[0] * scale, xyxy[2] * scale, width, line_px)
    y1, y2 = _span(xyxy[1] * scale, xyxy[3] * scale, height, line_px)
    return x1, y1, x2, y2


def _span(low: float, high: float, size: int, line_px: float) -> tuple[float, float]:
    room = min(2 * line_px + 1, size)
    start = min(max(low - line_px, 0), size - room)
    return start, min(max(high + line_px, start + room), size)


def _outline(canvas: NDArray[np.float32], rect: Rect, line_px: float, mark: Mark) -> None:
    """Blend an anti-aliased frame, with a dark casing that keeps it apart from bright steel, into ``canvas``."""
    x1, y1, x2, y2 = rect
    casing = 0.5 * line_px
    left, top = max(int(x1 - casing), 0), max(int(y1 - casing), 0)
    window = canvas[top : ceil(y2 + casing), left : ceil(x2 + casing)]
    local = (x1 - left, y1 - top, x2 - left, y2 - top)
    frame = _frame(window.shape[:2], local, 0, line_px)
    shadow = 0.6 * (_frame(window.shape[:2], local, casing, line_px + casing) - frame)
    if mark.dashed:
        along = np.add.outer(np.arange(len(window)), np.arange(window.shape[1]))
        frame *= along % (6 * line_px) < 3.5 * line_px
    for colour, alpha in ((_CASING, shadow), (mark.colour, frame)):
        window += alpha[..., None] * (np.array(colour, np.float32) - window)


def _frame(size_hw: tuple[int, ...], rect: Rect, outwards: float, inwards: float) -> NDArray[np.float32]:
    """Share of every pixel covered by the ring between the rectangle grown by one and shrunk by the other."""
    return _covered(size_hw, rect, -outwards) - _covered(size_hw, rect, inwards)


def _covered(size_hw: tuple[int, ...], rect: Rect, inset: float) -> NDArray[np.float32]:
    x1, y1, x2, y2 = rect[0] + inset, rect[1] + inset, rect[2] - inset, rect[3] - inset
    ys, xs = np.arange(size_hw[0], dtype=np.float32), np.arange(size_hw[1], dtype=np.float32)
    rows = np.clip(np.minimum(ys + 1, y2) - np.maximum(ys, y1), 0, 1)
    columns = np.clip(np.minimum(xs + 1, x2) - np.maximum(xs, x1), 0, 1)
    return np.outer(rows, columns).astype(np.float32)
