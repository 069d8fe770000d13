"""Large images in tiles: where they lie, which images are seen in them, and rows of them out of pixels that come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..images import Pixels
from ..records import Detections
from .seams import merged

LEAST_OVERLAP = 16  # pixels: what a border cuts has to be seen beyond it, too
_LEAST_SIDE = 2 * LEAST_OVERLAP
_USUAL_OVERLAP = 4  # it is this part of a tile, unless told
_MUCH_LARGER = 2  # times the side that was trained on: from there on an image is seen in tiles without being told
_MOST_AT_ONCE, _MOST_PIXELS = 16, 16 * 640 * 640  # tiles that the network sees together

Look = Callable[[Sequence[Pixels]], Sequence[Detections]]  # pictures -> detections of each, in its own pixels


@dataclass(frozen=True, slots=True)
class Tiling:
    """Square tiles that overlap; the grid begins at the image's top left corner and ends at its borders.

    Attributes:
        side: of a tile in pixels, at least 32.
        overlap: of neighbours in pixels, 16 to half of a tile. What is no larger is seen whole by one tile at least.

    Raises:
        ConfigError: outside of these limits.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.side < _LEAST_SIDE:
            found = f"a tile of {self.side} pixels is asked for"
            raise ConfigError(found, where="tile", fix=f"give at least {_LEAST_SIDE}")
        if not LEAST_OVERLAP <= self.overlap <= self.side // 2:
            found = f"tiles of {self.side} pixels that overlap by {self.overlap} are asked for"
            raise ConfigError(found, where="overlap", fix=f"give {LEAST_OVERLAP} to half of a tile")

    def starts(self, length: int) -> list[int]:
        """First pixels of the tiles along a side of ``length`` pixels; the last tile ends where the image does."""
        last = max(0, length - self.side)
        return [*range(0, last, self.side - self.overlap), last]

    def in_words(self, width: int, height: int) -> str:
        """ "4 x 55 tiles of 400 px that overlap by 100"."""
        columns, rows = len(self.starts(width)), len(self.starts(height))
        return f"{columns} x {rows} tiles of {self.side} px that overlap by {self.overlap}"


def tiling_for(
    width: int, height: int, *, trained: int | None, tile: int | None = None, overlap: int | None = None
) -> Tiling | None:
    """The tiles that an image is seen in; None where it is seen whole.

    Args:
        width, height: of the image in pixels.
        trained: side in pixels of what the detector was trained on; None: nobody knows.
        tile: side that is asked for, of images larger than it; 0: none, whatever the size; None: the trained side, 32
            at least, for images more than twice as wide or as high.
        overlap: in pixels; None: a quarter of a tile.

    Raises:
        ConfigError: a tile too small, or an overlap that doesn't fit it.
    """
    side = _side(trained) if tile is None else tile
    if not side:
        return None
    tiling = _usual(side, overlap)
    return tiling if max(width, height) > side * (_MUCH_LARGER if tile is None else 1) else None


def strip_tiling(*, trained: int | None, tile: int | None = None, overlap: int | None = None) -> Tiling:
    """The tiles that strips are seen in, whatever their size.

    Args:
        trained, tile, overlap: as for ``tiling_for``.

    Raises:
        ConfigError: as there, or no word on the side of a tile.
    """
    side = tile or _side(trained)
    if side is None or tile == 0:
        unknown = ", and the checkpoint doesn't tell what size it was trained on" if tile is None else ""
        raise ConfigError(f"a strip is seen in tiles{unknown}", where="tile", fix="give their side in pixels")
    return _usual(side, overlap)


def _side(trained: int | None) -> int | None:
    """What was trained on, if it makes a tile."""
    return None if trained is None else max(trained, _LEAST_SIDE)


def _usual(side: int, overlap: int | None) -> Tiling:
    return Tiling(side, max(LEAST_OVERLAP, side // _USUAL_OVERLAP) if overlap is None else overlap)


def detect_tiled(
    look: Look,
    blocks: Iterable[Pixels],
    size_wh: tuple[int, int],
    tiling: Tiling,
    categories: tuple[str, ...],
    *,
    nms_iou: float = 0.5,
) -> Detections:
    """Detections of an image or strip that is seen in tiles, best score first, each object once.

    Only the rows of the tiles that are looked at are held, and the block that they come from.

    Args:
        look: the detector.
        blocks: the image's rows from top to bottom, [rows, width] or [rows, width, 3], however many at a time.
        size_wh: width and height of the image in pixels.
        tiling: the tiles.
        categories: the detector's category names.
        nms_iou: IoU above which the lesser of two boxes of one category goes, as within a tile.
    """
    width, height = size_wh
    columns = tiling.starts(width)
    side_wh = min(tiling.side, width), min(tiling.side, height)
    most = min(_MOST_AT_ONCE, max(1, _MOST_PIXELS // (side_wh[0] * side_wh[1])))
    tiles, found = [], []
    for top, rows in tile_rows(blocks, height, tiling):
        for first in range(0, len(columns), most):
            some = columns[first : first + most]
            for left, seen in zip(some, look([np.ascontiguousarray(rows[:, x : x + tiling.side]) for x in some])):
                tiles.append((left, top, left + side_wh[0], top + side_wh[1]))
                found.append(moved(seen, left, top))
    return merged(tiles, found, size_wh, categories, nms_iou=nms_iou)


def tile_rows(blocks: Iterable[Pixels], height: int, tiling: Tiling) -> Iterator[tuple[int, Pixels]]:
    """Top and pixels, [side, width] or less, of each row of tiles; blocks are read when needed and let go early.

    Args:
        blocks: ``height`` rows in all.
        height: of the image in pixels.
        tiling: the tiles.
    """
    source, above, below = iter(blocks), 0, 0
    held: list[Pixels] = []  # rows ``above`` to ``below``
    for top in tiling.starts(height):
        bottom = min(top + tiling.side, height)
        while held and above + len(held[0]) <= top:
            above += len(held.pop(0))
        while below < bottom:
            block = next(source)
            held.append(block)
            below += len(block)
        yield top, _rows(held, top - above, bottom - above)


def _rows(held: Sequence[Pixels], first: int, stop: int) -> Pixels:
    if len(held) == 1:
        return held[0][first:stop]
    parts, start = [], 0
    for block in held:
        parts.append(block[max(0, first - start) : max(0, stop - start)])
        start += len(block)
    return np.concatenate(parts)


def moved(found: Detections, right: float, down: float) -> Detections:
    """Detections in the pixels of a larger image that begins so far to the left and above."""
    by = np.array([right, down, right, down], np.float32)
    return Detections(found.boxes_xyxy + by, found.scores, found.labels, found.categories)
