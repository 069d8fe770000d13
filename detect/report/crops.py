"""The part of a picture around some boxes, as a small picture that lives inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from ..drawing import to_8bit
from ..images import Pixels

_WHOLE_PX = 320  # a picture no longer than this is shown whole
_LONGEST_SIDE_PX, _JPEG_QUALITY = 640, 85

Corners = tuple[float, float, float, float]


class Crop(NamedTuple):
    """A picture's data URI, the part of the image that it shows, in its pixels, and whether 16 bits were stretched."""

    uri: str
    x: int
    y: int
    width: int
    height: int
    stretched: bool = False


def crop_around(pixels: Pixels, boxes_xyxy: Sequence[Corners]) -> Crop:
    """What holds the boxes and as much again around them, at least 48 pixels; of a small picture all.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; 16 bits are stretched to be seen.
        boxes_xyxy: at least one, in pixels; they may reach beyond the picture.
    """
    height, width = pixels.shape[:2]
    spans = [(0, width), (0, height)]
    if max(height, width) > _WHOLE_PX:
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        margin = np.maximum((high - low) / 2, 48)
        spans = [_span(*each) for each in zip(low - margin, high + margin, (width, height))]
    (x1, x2), (y1, y2) = spans
    picture = Pillow.fromarray(to_8bit(np.ascontiguousarray(pixels[y1:y2, x1:x2])))
    picture.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX), Pillow.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return Crop(uri, x1, y1, x2 - x1, y2 - y1, stretched=pixels.dtype != np.uint8)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """Whole pixels of the picture; at least one, for boxes that lie outside."""
    start = min(max(int(low), 0), size - 1)
    return start, max(min(int(np.ceil(high)), size), start + 1)
