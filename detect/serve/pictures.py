"""Images for a browser, which shows neither TIFF nor 16 bits as they are meant."""

from __future__ import annotations

import io

from PIL import Image as Pillow

from ..drawing import to_8bit
from ..images import Pixels

_LONGEST_SIDE = 2048  # pixels


def as_png(pixels: Pixels) -> bytes:
    """An 8-bit PNG: 16 bits stretched as in drawn pictures, the longer side at most 2048 pixels."""
    picture = Pillow.fromarray(to_8bit(pixels))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
