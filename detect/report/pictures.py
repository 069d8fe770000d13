"""Image files -> small pictures that live inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from ..images import Pixels, read_image

_LONGEST_SIDE = 640
_JPEG_QUALITY = 82  # grain of steel still shows; a 200 x 200 image takes some 10 kB


class Picture(NamedTuple):
    """A picture inside the page: its data URI, and the width and height of the file it was made from, in pixels."""

    uri: str
    width: int
    height: int


def embed(path: Path) -> Picture:
    """A JPEG of at most 640 pixels a side, gray where the file is gray; 16 bits are stretched over what they use.

    Raises:
        DataError: the file is missing or is no image.
    """
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    picture = Pillow.fromarray(_eight_bit(pixels))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Pillow.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return Picture("data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii"), width, height)


def _eight_bit(pixels: Pixels) -> Pixels:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    return np.asarray(np.rint((pixels - low) * (255 / max(high - low, 1))), dtype=np.uint8)
