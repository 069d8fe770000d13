"""A sheet that shows what each corruption does to a picture: a row a kind, severity 0 to 5 from left to right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..corruptions import CORRUPTIONS, SEVERITIES, checked_names, corrupt
from ..drawing import contact_sheet, to_8bit
from ..images import Pixels, to_rgb

Picture = NDArray[np.uint8]  # [height, width, 3] RGB

_TITLE_PX, _FONT_PX = 20, 13


def corruption_sheet(pixels: Pixels, names: Iterable[str] = tuple(CORRUPTIONS), *, seed: int = 0) -> Picture:
    """A picture under each corruption and severity, with the value of the parameter above it.

    Args:
        pixels: uint8 or uint16, gray or RGB, as ``detect.corruptions.corrupt`` takes them.
        names: of corruptions.
        seed: same seed, same sheet.

    Raises:
        DataError: an unknown name, or no picture.
    """
    cells = []
    for name in checked_names(names):
        kind = CORRUPTIONS[name]
        titles = [name, *(f"{level:g} {kind.unit}" for level in kind.levels)]
        for severity, title in enumerate(titles):
            cells.append(_titled(corrupt(pixels, name, severity, seed=seed), title))
    return contact_sheet(cells, SEVERITIES + 1)


def _titled(pixels: Pixels, title: str) -> Picture:
    picture = to_rgb(to_8bit(pixels))
    strip = Pillow.new("RGB", (picture.shape[1], _TITLE_PX), (255, 255, 255))
    ImageDraw.Draw(strip).text((1, 2), title, fill=(19, 26, 36), font=ImageFont.load_default(_FONT_PX))
    return np.concatenate([np.asarray(strip), picture])
