"""Pictures for the eye: 16 bits stretched to 8, and many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import Pixels, to_rgb

Picture = NDArray[np.uint8]  # [height, width, 3] RGB

_GRAYS = 2**16
_PART = 2**20  # pixels looked at together


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
    flat = pixels.reshape(-1)
    parts = [slice(start, start + _PART) for start in range(0, flat.size, _PART)]  # a large image needs no copy of it
    counts = sum(np.bincount(flat[part], minlength=_GRAYS) for part in parts)
    low, high = _quantiles(np.asarray(counts), (0.001, 0.999))
    stretched = (np.arange(_GRAYS) - low) * (255 / max(high - low, 1))
    table = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
    picture = np.empty(flat.size, np.uint8)
    for part in parts:
        picture[part] = table[flat[part]]
    return picture.reshape(pixels.shape)


def _quantiles(counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Of gray values told by how often each occurs; between two values, in proportion, as np.quantile has it."""
    below = np.cumsum(counts)
    places = [share * (int(below[-1]) - 1) for share in shares]
    ends = [[int(np.searchsorted(below, at, side="right")) for at in (floor(p), ceil(p))] for p in places]
    return [low + (high - low) * (place - floor(place)) for place, (low, high) in zip(places, ends)]
