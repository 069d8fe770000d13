"""Large images in tiles: where they lie, which images need them, and how detections of overlapping tiles are merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import as_channels, check_bit_depth
from ..errors import ConfigError, DataError
from ..images import Pixels, read_image, read_size
from ..models.nms import nms_per_class
from ..structures import Detections, connected_components, iou


@dataclass(frozen=True, slots=True)
class StripFiles:
    """The files of a strip, as a line camera writes them: each begins below the one before.

    Attributes:
        paths: in order from the top.
        tops: row of the strip that each file begins with.
        width, height: of the strip in pixels.
    """

    paths: tuple[Path, ...]
    tops: tuple[int, ...]
    width: int
    height: int

    @classmethod
    def of(cls, paths: Sequence[Path]) -> StripFiles:
        """Read the files' headers.

        Raises:
            DataError: no file, one that is no image, or one of another width.
        """
        if not paths:
            raise DataError("a strip without files", fix="name its files in order, or a folder of them")
        sizes = [read_size(path) for path in paths]
        width, tops = sizes[0][0], [0]
        for path, (other, height) in zip(paths, sizes):
            if other != width:
                found = f"the file is {other} pixels wide, the strip's first one {width}"
                raise DataError(found, where=path, fix="give files of one strip, which follow one another downwards")
            tops.append(tops[-1] + height)
        return cls(tuple(paths), tuple(tops[:-1]), width, tops[-1])

    def blocks(self, channels: int, max_value: int | None) -> Iterator[Pixels]:
        """The pixels of one file after the other, in the detector's channels; only one is read at a time.

        Raises:
            DataError: a damaged file, gray values beyond ``max_value``, or a file of another depth than the first.
        """
        depth = None
        for path, top, bottom in zip(self.paths, self.tops, (*self.tops[1:], self.height)):
            pixels = as_channels(check_bit_depth(read_image(path), max_value, path), channels)
            if pixels.shape[:2] != (bottom - top, self.width):
                raise DataError("the file has changed while the strip was read", where=path, fix="start again")
            depth = depth or pixels.dtype
            if pixels.dtype != depth:
                found = f"the file holds {8 * pixels.itemsize} bits a pixel, the strip's first one {8 * depth.itemsize}"
                raise DataError(found, where=path, fix="give files of one camera")
            yield pixels


_BORDER_PX = 4.0  # pixels: a box that ends so near a tile's inner border may go on beyond it
_MERGE_IOU = 0.5  # IoU, where two tiles overlap, from which on what they see there is one object
_MIN_SCORE_RATIO = 0.5  # share of a detection's score that another has at least which is joined with it
_MIN_SEAM_OVERLAP = 0.2  # of two boxes that a seam cuts, share of the shorter edge along it that they have in common

Boxes = NDArray[np.float64]  # [N, 4], xyxy, pixels of the image
Tile = tuple[int, int, int, int]  # xyxy, pixels of the image


def merge_tiles(
    tiles: Sequence[Tile],
    found: Sequence[Detections],
    size_wh: tuple[int, int],
    categories: tuple[str, ...],
    *,
    nms_iou: float = 0.5,
) -> Detections:
    """Detections of the image, best score first, from those of its tiles.

    Two detections of one category from two tiles are one object if what lies of them where the tiles overlap agrees
    (IoU of 0.5), best pairs first and each with one of the other tile at most. What is left of those that reach the
    seam from both sides is one object if a fifth of the shorter edge along the seam is common to both: so does a
    diagonal scratch, whose boxes hardly agree there. A detection with less than half of the other's score isn't joined,
    so doubtful boxes don't spoil sure ones; it goes where the other explains it. Of an object that some tile sees whole
    (no edge within 4 pixels of the tile's inner borders), the best such box counts; others only add what it can't
    explain. One that every tile cuts gets the box around all parts and the best score among them.

    Args:
        tiles: row by row from the top.
        found: a tile each, in pixels of the image.
        size_wh: of the image in pixels.
        categories: names.
        nms_iou: IoU above which the lesser of two boxes of one category goes in the end, as within a tile.
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(each.boxes_xyxy.astype(np.float64) for each in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in found)])
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in found)])
    ends = np.cumsum([0, *map(len, found)])
    areas = np.array(tiles, np.float64).reshape(-1, 4)
    seen_in = np.repeat(areas, np.diff(ends), axis=0)
    cut = _touches_inner_border(boxes, seen_in, size_wh)
    same_object: list[tuple[int, int]] = []
    repeats: list[tuple[int, int]] = []
    for a, b in _overlapping_tiles(tiles):
        mine, theirs = (np.arange(ends[k], ends[k + 1]) for k in (a, b))
        for i, j, joined in _matching_pairs(boxes, scores, labels, mine, theirs, areas[a], areas[b]):
            if joined:
                same_object.append((i, j))
            else:
                repeats.append((i, j) if scores[i] < scores[j] else (j, i))
    members_of: dict[int, list[int]] = defaultdict(list)
    for i, component in enumerate(connected_components(len(boxes), same_object)):
        members_of[component].append(i)
    parts = list(members_of.values())
    whole_boxes, best = [], []
    for members in parts:
        order = sorted(members, key=lambda i: (bool(cut[i]), -scores[i]))
        best.append(order[0])
        whole_boxes.append(_merged_box(boxes[order], seen_in[order], any_whole=not cut[order[0]]))
    every = np.array(whole_boxes, np.float64).reshape(-1, 4)
    left = _without_repeats(every, parts, repeats, boxes, seen_in)
    outlines, trusted = every[left].astype(np.float32), np.array(best, np.int64)[left]
    kept = nms_per_class(outlines, scores[trusted], labels[trusted], nms_iou)
    chosen = trusted[kept]
    return Detections(outlines[kept], scores[chosen], labels[chosen], categories)


def _touches_inner_border(boxes: Boxes, seen_in: Boxes, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Which boxes reach an inner border of their tile: bool[N]."""
    size = np.asarray(size_wh)
    low = (boxes[:, :2] <= seen_in[:, :2] + _BORDER_PX) & (seen_in[:, :2] > 0)
    high = (boxes[:, 2:] >= seen_in[:, 2:] - _BORDER_PX) & (seen_in[:, 2:] < size)
    return np.asarray((low | high).any(axis=1))


def _overlapping_tiles(tiles: Sequence[Tile]) -> Iterator[tuple[int, int]]:
    """Pairs of tiles that overlap."""
    for a, (left, _, right, bottom) in enumerate(tiles):
        for b in range(a + 1, len(tiles)):
            if tiles[b][1] >= bottom:
                break
            if tiles[b][0] < right and tiles[b][2] > left:
                yield a, b


def _matching_pairs(
    boxes: Boxes,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    mine: NDArray[np.int64],
    theirs: NDArray[np.int64],
    tile_a: NDArray[np.float64],
    tile_b: NDArray[np.float64],
) -> Iterator[tuple[int, int, bool]]:
    """Detections of two tiles that are of one object, True, or that agree though one is much less sure, False."""
    low, high = np.maximum(tile_a[:2], tile_b[:2]), np.minimum(tile_a[2:], tile_b[2:])
    mine, theirs = (k[(boxes[k, :2] < high).all(axis=1) & (boxes[k, 2:] > low).all(axis=1)] for k in (mine, theirs))
    if not len(mine) or not len(theirs):
        return
    band = np.tile(low, 2), np.tile(high, 2)
    alike = labels[mine][:, None] == labels[theirs][None, :]
    as_sure = np.minimum.outer(scores[mine], scores[theirs]) >= _MIN_SCORE_RATIO * np.maximum.outer(
        scores[mine], scores[theirs]
    )
    agreement = np.where(alike, iou(np.clip(boxes[mine], *band), np.clip(boxes[theirs], *band)), 0)
    for i, j in np.argwhere((agreement >= _MERGE_IOU) & ~as_sure).tolist():
        yield int(mine[i]), int(theirs[j]), False
    alike &= as_sure
    for i, j in _greedy_matches(np.where(as_sure, agreement, 0), _MERGE_IOU):
        alike[i, :] = alike[:, j] = False
        yield int(mine[i]), int(theirs[j]), True
    for axis in (0, 1):
        if tile_a[1 - axis] == tile_b[1 - axis]:  # side by side along this axis
            meeting = _seam_overlap(boxes[mine], boxes[theirs], tile_a, tile_b, axis)
            for i, j in _greedy_matches(np.where(alike, meeting, 0), _MIN_SEAM_OVERLAP):
                yield int(mine[i]), int(theirs[j]), True


def _greedy_matches(agreement: NDArray[np.float64], min_agreement: float) -> Iterator[tuple[int, int]]:
    """Row and column of the largest value, then of the largest in other rows and columns, and so on."""
    left = agreement.copy()
    while True:
        i, j = np.unravel_index(int(left.argmax()), left.shape)
        if left[i, j] < min_agreement:
            return
        left[i, :] = left[:, j] = 0
        yield int(i), int(j)


def _seam_overlap(
    boxes_a: Boxes, boxes_b: Boxes, tile_a: NDArray[np.float64], tile_b: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """Of boxes that go on into the other tile on both sides, what they share along the seam: [A, B], 0 to 1."""
    if tile_a[axis] > tile_b[axis]:
        return np.asarray(_seam_overlap(boxes_b, boxes_a, tile_b, tile_a, axis).T)
    goes_on = boxes_a[:, axis + 2] >= tile_a[axis + 2] - _BORDER_PX
    comes_in = boxes_b[:, axis] <= tile_b[axis] + _BORDER_PX
    low, high = 1 - axis, 3 - axis
    first_a, last_a, first_b, last_b = boxes_a[:, low], boxes_a[:, high], boxes_b[:, low], boxes_b[:, high]
    shared = np.minimum.outer(last_a, last_b) - np.maximum.outer(first_a, first_b)
    share = np.clip(shared, 0, None) / np.maximum(np.minimum.outer(last_a - first_a, last_b - first_b), 1e-6)
    return np.asarray(np.where(np.logical_and.outer(goes_on, comes_in), share, 0))


def _merged_box(boxes: Boxes, seen_in: Boxes, *, any_whole: bool) -> Boxes:
    """The box of an object from those of its tiles, the one to trust most first."""
    box = boxes[0]
    for each, tile in zip(boxes[1:], seen_in[1:]):
        if any_whole and _covers(box, each, tile):
            continue
        box = np.concatenate([np.minimum(box[:2], each[:2]), np.maximum(box[2:], each[2:])])
    return np.asarray(box)


def _covers(box: NDArray[np.float64], seen: NDArray[np.float64], tile: NDArray[np.float64]) -> bool:
    """Whether what a tile shows of a box is what was seen there."""
    in_view = np.clip(box, np.tile(tile[:2], 2), np.tile(tile[2:], 2))
    return bool(iou(in_view[None], seen[None])[0, 0] >= _MERGE_IOU)


def _without_repeats(
    outlines: Boxes, parts: list[list[int]], repeats: list[tuple[int, int]], boxes: Boxes, seen_in: Boxes
) -> NDArray[np.int64]:
    """Objects without those that are a much surer one seen again: a single detection each, in its shadow."""
    part_of = {i: number for number, members in enumerate(parts) for i in members}
    gone = {
        part_of[lesser]
        for lesser, better in repeats
        if len(parts[part_of[lesser]]) == 1 and _covers(outlines[part_of[better]], boxes[lesser], seen_in[lesser])
    }
    return np.array([number for number in range(len(parts)) if number not in gone], np.int64)


MIN_OVERLAP = 16  # pixels: what a border cuts has to be seen beyond it, too
_MIN_SIDE = 2 * MIN_OVERLAP
_OVERLAP_DIVISOR = 4  # it is this part of a tile, unless told
_AUTO_TILE_FACTOR = 2  # times the side that was trained on: from there on an image is seen in tiles without being told
_MAX_TILES_PER_BATCH, _MAX_BATCH_PIXELS = 16, 16 * 640 * 640  # tiles that the network sees together

DetectFn = Callable[[Sequence[Pixels]], Sequence[Detections]]  # pictures -> detections of each, in its own pixels


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
        if self.side < _MIN_SIDE:
            found = f"a tile of {self.side} pixels is asked for"
            raise ConfigError(found, where="tile", fix=f"give at least {_MIN_SIDE}")
        if not MIN_OVERLAP <= self.overlap <= self.side // 2:
            found = f"tiles of {self.side} pixels that overlap by {self.overlap} are asked for"
            raise ConfigError(found, where="overlap", fix=f"give {MIN_OVERLAP} to half of a tile")

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
    side = _default_side(trained) if tile is None else tile
    if not side:
        return None
    tiling = _make_tiling(side, overlap)
    return tiling if max(width, height) > side * (_AUTO_TILE_FACTOR if tile is None else 1) else None


def strip_tiling(*, trained: int | None, tile: int | None = None, overlap: int | None = None) -> Tiling:
    """The tiles that strips are seen in, whatever their size.

    Args:
        trained, tile, overlap: as for ``tiling_for``.

    Raises:
        ConfigError: as there, or no word on the side of a tile.
    """
    side = tile or _default_side(trained)
    if side is None or tile == 0:
        unknown = ", and the checkpoint doesn't tell what size it was trained on" if tile is None else ""
        raise ConfigError(f"a strip is seen in tiles{unknown}", where="tile", fix="give their side in pixels")
    return _make_tiling(side, overlap)


def _default_side(trained: int | None) -> int | None:
    """What was trained on, if it makes a tile."""
    return None if trained is None else max(trained, _MIN_SIDE)


def _make_tiling(side: int, overlap: int | None) -> Tiling:
    return Tiling(side, max(MIN_OVERLAP, side // _OVERLAP_DIVISOR) if overlap is None else overlap)


def detect_tiled(
    detect: DetectFn,
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
        detect: the detector.
        blocks: the image's rows from top to bottom, [rows, width] or [rows, width, 3], however many at a time.
        size_wh: width and height of the image in pixels.
        tiling: the tiles.
        categories: the detector's category names.
        nms_iou: IoU above which the lesser of two boxes of one category goes, as within a tile.
    """
    width, height = size_wh
    columns = tiling.starts(width)
    side_wh = min(tiling.side, width), min(tiling.side, height)
    batch_size = min(_MAX_TILES_PER_BATCH, max(1, _MAX_BATCH_PIXELS // (side_wh[0] * side_wh[1])))
    tiles, found = [], []
    for top, rows in tile_rows(blocks, height, tiling):
        for first in range(0, len(columns), batch_size):
            some = columns[first : first + batch_size]
            for left, seen in zip(some, detect([np.ascontiguousarray(rows[:, x : x + tiling.side]) for x in some])):
                tiles.append((left, top, left + side_wh[0], top + side_wh[1]))
                found.append(offset_detections(seen, left, top))
    return merge_tiles(tiles, found, size_wh, categories, nms_iou=nms_iou)


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


def offset_detections(found: Detections, right: float, down: float) -> Detections:
    """Detections in the pixels of a larger image that begins so far to the left and above."""
    by = np.array([right, down, right, down], np.float32)
    return Detections(found.boxes_xyxy + by, found.scores, found.labels, found.categories)
