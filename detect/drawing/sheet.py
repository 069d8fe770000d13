"""Pictures for the eye: 16 bits stretched to 8, and many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import Pixels, to_rgb

Picture = NDArray[np.uint8]  # [height, width, 3] RGB


def contact_sheet(pictures: Sequence[Pixels], columns: int, *, gap_px: int = 6) -> Picture:
    """Pictures side by side on white, row by row, each at the top left of a cell as large as the largest picture."""
    if columns < 1 or not pictures:
        raise DataError(f"{len(pictures)} pictures in {columns} columns make no sheet", fix="give at least one of each")
    rgb = [to_rgb(to_8bit(picture)) for picture in pictures]
    columns = min(columns, len(rgb))
    cell_h = max(p.shape[0] for p in rgb) + gap_px
    cell_w = max(p.shape[1] for p in rgb) + gap_px
    sheet = np.full((ceil(len(rgb) / columns) * cell_h + gap_px, columns * cell_w + gap_px, 3), 255, np.uint8)
    for i, picture in enumerate(rgb):
        y, x = gap_px + i // columns * cell_h, gap_px + i % columns * cell_w
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def to_8bit(pixels: Pixels) -> Picture:
    """uint8 as it is; uint16 stretched so that its 0.1 and 99.9 per cent quantiles become 0 and 255."""
    if pixels.ndim not in (2, 3) or pixels.dtype not in (np.uint8, np.uint16) or 0 in pixels.shape:
        raise DataError(f"can't draw on {pixels.dtype}{list(pixels.shape)}", fix="give 8- or 16-bit gray or RGB pixels")
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    low, high = np.quantile(pixels, (0.001, 0.999))
    stretched = (pixels.astype(np.float64) - low) * (255 / max(high - low, 1))
    return np.asarray(np.rint(np.clip(stretched, 0, 255)), dtype=np.uint8)
