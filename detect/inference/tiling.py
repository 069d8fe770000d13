"""Tiled inference on large images: the tile grid, the choice of images, and merging detections of overlapping tiles."""

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
    """The files of a strip, as a line camera writes them: each file continues below the previous one.

    Attributes:
        paths: in order from the top.
        tops: first row of each file, in pixels of the strip.
        width, height: of the strip, pixels.
    """

    paths: tuple[Path, ...]
    tops: tuple[int, ...]
    width: int
    height: int

    @classmethod
    def of(cls, paths: Sequence[Path]) -> StripFiles:
        """Read the files' headers.

        Raises:
            DataError: there is no file, a file is no image, or the widths differ.
        """
        if not paths:
            raise DataError("the strip has no files", fix="name its files in order, or a folder of them")
        sizes = [read_size(path) for path in paths]
        width, tops = sizes[0][0], [0]
        for path, (other, height) in zip(paths, sizes):
            if other != width:
                message = f"the file is {other} pixels wide, the strip's first one {width}"
                raise DataError(message, where=path, fix="give the files of one strip in order from the top")
            tops.append(tops[-1] + height)
        return cls(tuple(paths), tuple(tops[:-1]), width, tops[-1])

    def blocks(self, channels: int, max_value: int | None) -> Iterator[Pixels]:
        """Yield the pixels of each file, converted to the detector's channels; one file is in memory at a time.

        Raises:
            DataError: a file is damaged, has a gray value above ``max_value``, or differs in bit depth from the first.
        """
        depth = None
        for path, top, bottom in zip(self.paths, self.tops, (*self.tops[1:], self.height)):
            pixels = as_channels(check_bit_depth(read_image(path), max_value, path), channels)
            if pixels.shape[:2] != (bottom - top, self.width):
                raise DataError("the file has changed while the strip was read", where=path, fix="start again")
            depth = depth or pixels.dtype
            if pixels.dtype != depth:
                message = (
                    f"the file holds {8 * pixels.itemsize} bits per pixel, the strip's first one {8 * depth.itemsize}"
                )
                raise DataError(message, where=path, fix="give files of one camera")
            yield pixels


_BORDER_PX = 4.0  # pixels: a box that ends this close to an inner border of its tile may be cut by it
_MERGE_IOU = 0.5  # minimum IoU, inside the overlap of two tiles, of detections of one object
_MIN_SCORE_RATIO = 0.5  # minimum ratio of the lower to the higher score of two detections that are merged
_MIN_BORDER_OVERLAP = 0.2  # minimum overlap along the border of two boxes that it cuts, as share of the shorter edge

Boxes = NDArray[np.float64]  # [N, 4], xyxy, pixels of the image
Tile = tuple[int, int, int, int]  # xyxy, pixels of the image


def merge_tiles(
    tiles: Sequence[Tile],
    detections: Sequence[Detections],
    size_wh: tuple[int, int],
    categories: tuple[str, ...],
    *,
    nms_iou: float = 0.5,
) -> Detections:
    """Merge the detections of overlapping tiles into detections of the image, best score first.

    Two detections of one category from two tiles show one object if their parts inside the overlap of the tiles have
    an IoU of at least 0.5. Pairs are matched greedily by IoU, and a detection matches at most one of another tile.
    Unmatched detections that cross the tiles' borders from both sides show one object if their extents along the
    border overlap by a fifth of the shorter one; this joins a diagonal scratch, whose boxes have a low IoU there. A
    detection with less than half of the other's score is not joined, so that uncertain boxes don't change certain
    ones; it is removed if the other box covers it. If some tile contains the whole object (no edge within 4 pixels of
    the tile's inner borders), the box with the best score among such tiles is used, and other boxes only extend it
    where it doesn't cover them. If every tile cuts the object, the result is the box around all parts with the best
    score among them.

    Args:
        tiles: row by row from the top.
        detections: one entry per tile, in pixels of the image.
        size_wh: width and height of the image, pixels.
        categories: the detector's category names.
        nms_iou: IoU threshold of the final NMS per category, as within a tile.
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(each.boxes_xyxy.astype(np.float64) for each in detections)])
    scores = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in detections)])
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in detections)])
    ends = np.cumsum([0, *map(len, detections)])
    areas = np.array(tiles, np.float64).reshape(-1, 4)
    tile_of_box = np.repeat(areas, np.diff(ends), axis=0)
    cut = _touches_inner_border(boxes, tile_of_box, size_wh)
    same_object: list[tuple[int, int]] = []
    repeats: list[tuple[int, int]] = []
    for a, b in _overlapping_tiles(tiles):
        of_a, of_b = (np.arange(ends[k], ends[k + 1]) for k in (a, b))
        for i, j, is_same in _matching_pairs(boxes, scores, labels, of_a, of_b, areas[a], areas[b]):
            if is_same:
                same_object.append((i, j))
            else:
                repeats.append((i, j) if scores[i] < scores[j] else (j, i))
    members_of: dict[int, list[int]] = defaultdict(list)
    for i, component in enumerate(connected_components(len(boxes), same_object)):
        members_of[component].append(i)
    objects = list(members_of.values())
    merged, best = [], []
    for members in objects:
        order = sorted(members, key=lambda i: (bool(cut[i]), -scores[i]))
        best.append(order[0])
        merged.append(_merged_box(boxes[order], tile_of_box[order], any_complete=not cut[order[0]]))
    object_boxes = np.array(merged, np.float64).reshape(-1, 4)
    remaining = _without_repeats(object_boxes, objects, repeats, boxes, tile_of_box)
    final_boxes, best_member = object_boxes[remaining].astype(np.float32), np.array(best, np.int64)[remaining]
    kept = nms_per_class(final_boxes, scores[best_member], labels[best_member], nms_iou)
    source = best_member[kept]
    return Detections(final_boxes[kept], scores[source], labels[source], categories)


def _touches_inner_border(boxes: Boxes, tile_of_box: Boxes, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """bool[N]: whether each box reaches an inner border of its tile."""
    size = np.asarray(size_wh)
    low = (boxes[:, :2] <= tile_of_box[:, :2] + _BORDER_PX) & (tile_of_box[:, :2] > 0)
    high = (boxes[:, 2:] >= tile_of_box[:, 2:] - _BORDER_PX) & (tile_of_box[:, 2:] < size)
    return np.asarray((low | high).any(axis=1))


def _overlapping_tiles(tiles: Sequence[Tile]) -> Iterator[tuple[int, int]]:
    """Yield the index pairs of tiles that overlap."""
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
    of_a: NDArray[np.int64],
    of_b: NDArray[np.int64],
    tile_a: NDArray[np.float64],
    tile_b: NDArray[np.float64],
) -> Iterator[tuple[int, int, bool]]:
    """Yield pairs of detections of two tiles: True for one object, False for a match with a much lower score."""
    low, high = np.maximum(tile_a[:2], tile_b[:2]), np.minimum(tile_a[2:], tile_b[2:])
    of_a, of_b = (k[(boxes[k, :2] < high).all(axis=1) & (boxes[k, 2:] > low).all(axis=1)] for k in (of_a, of_b))
    if not len(of_a) or not len(of_b):
        return
    overlap = np.tile(low, 2), np.tile(high, 2)
    can_merge = labels[of_a][:, None] == labels[of_b][None, :]
    is_similar_score = np.minimum.outer(scores[of_a], scores[of_b]) >= _MIN_SCORE_RATIO * np.maximum.outer(
        scores[of_a], scores[of_b]
    )
    ious = np.where(can_merge, iou(np.clip(boxes[of_a], *overlap), np.clip(boxes[of_b], *overlap)), 0)
    for i, j in np.argwhere((ious >= _MERGE_IOU) & ~is_similar_score).tolist():
        yield int(of_a[i]), int(of_b[j]), False
    can_merge &= is_similar_score
    for i, j in _greedy_matches(np.where(is_similar_score, ious, 0), _MERGE_IOU):
        can_merge[i, :] = can_merge[:, j] = False
        yield int(of_a[i]), int(of_b[j]), True
    for axis in (0, 1):
        if tile_a[1 - axis] == tile_b[1 - axis]:  # neighbours along this axis
            shares = _border_overlap(boxes[of_a], boxes[of_b], tile_a, tile_b, axis)
            for i, j in _greedy_matches(np.where(can_merge, shares, 0), _MIN_BORDER_OVERLAP):
                yield int(of_a[i]), int(of_b[j]), True


def _greedy_matches(values: NDArray[np.float64], min_value: float) -> Iterator[tuple[int, int]]:
    """Yield row and column of the largest value, remove that row and column, and repeat down to ``min_value``."""
    remaining = values.copy()
    while True:
        i, j = np.unravel_index(int(remaining.argmax()), remaining.shape)
        if remaining[i, j] < min_value:
            return
        remaining[i, :] = remaining[:, j] = 0
        yield int(i), int(j)


def _border_overlap(
    boxes_a: Boxes, boxes_b: Boxes, tile_a: NDArray[np.float64], tile_b: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """Overlap along the tile border of boxes cut by it, as share of the shorter edge: [A, B], 0 to 1; else 0."""
    if tile_a[axis] > tile_b[axis]:
        return np.asarray(_border_overlap(boxes_b, boxes_a, tile_b, tile_a, axis).T)
    cut_a = boxes_a[:, axis + 2] >= tile_a[axis + 2] - _BORDER_PX
    cut_b = boxes_b[:, axis] <= tile_b[axis] + _BORDER_PX
    low, high = 1 - axis, 3 - axis
    first_a, last_a, first_b, last_b = boxes_a[:, low], boxes_a[:, high], boxes_b[:, low], boxes_b[:, high]
    shared = np.minimum.outer(last_a, last_b) - np.maximum.outer(first_a, first_b)
    share = np.clip(shared, 0, None) / np.maximum(np.minimum.outer(last_a - first_a, last_b - first_b), 1e-6)
    return np.asarray(np.where(np.logical_and.outer(cut_a, cut_b), share, 0))


def _merged_box(boxes: Boxes, tile_of_box: Boxes, *, any_complete: bool) -> Boxes:
    """Merge the boxes of one object, the most reliable first."""
    box = boxes[0]
    for each, tile in zip(boxes[1:], tile_of_box[1:]):
        if any_complete and _covers(box, each, tile):
            continue
        box = np.concatenate([np.minimum(box[:2], each[:2]), np.maximum(box[2:], each[2:])])
    return np.asarray(box)


def _covers(box: NDArray[np.float64], other: NDArray[np.float64], tile: NDArray[np.float64]) -> bool:
    """Whether the part of ``box`` inside the tile matches ``other``, a box detected in that tile."""
    inside = np.clip(box, np.tile(tile[:2], 2), np.tile(tile[2:], 2))
    return bool(iou(inside[None], other[None])[0, 0] >= _MERGE_IOU)


def _without_repeats(
    object_boxes: Boxes,
    objects: list[list[int]],
    repeats: list[tuple[int, int]],
    boxes: Boxes,
    tile_of_box: Boxes,
) -> NDArray[np.int64]:
    """Indices of the objects, without single detections that repeat an object with a much higher score."""
    object_of = {i: number for number, members in enumerate(objects) for i in members}
    removed = set()
    for lower, higher in repeats:
        is_single = len(objects[object_of[lower]]) == 1
        if is_single and _covers(object_boxes[object_of[higher]], boxes[lower], tile_of_box[lower]):
            removed.add(object_of[lower])
    return np.array([number for number in range(len(objects)) if number not in removed], np.int64)


MIN_OVERLAP = 16  # pixels, so that an object cut by a tile's border also shows in the next tile
_MIN_SIDE = 2 * MIN_OVERLAP
_OVERLAP_DIVISOR = 4  # the default overlap is the tile side divided by this
_AUTO_TILE_FACTOR = 2  # images larger than this factor times the training side are processed in tiles by default
_MAX_TILES_PER_BATCH, _MAX_BATCH_PIXELS = 16, 16 * 640 * 640  # maximum tiles and pixels per batch

DetectFn = Callable[[Sequence[Pixels]], Sequence[Detections]]  # images -> detections of each, in pixels of the image


@dataclass(frozen=True, slots=True)
class Tiling:
    """Square tiles that overlap; the grid starts at the image's top left corner and ends at its borders.

    Attributes:
        side: of a tile in pixels, at least 32.
        overlap: of neighbouring tiles in pixels, 16 to half of the side. Every object up to this size lies completely
            inside at least one tile.

    Raises:
        ConfigError: a value is out of these ranges.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.side < _MIN_SIDE:
            message = f"the tile side is {self.side} pixels"
            raise ConfigError(message, where="tile", fix=f"give at least {_MIN_SIDE}")
        if not MIN_OVERLAP <= self.overlap <= self.side // 2:
            message = f"the tile side is {self.side} pixels and the overlap is {self.overlap}"
            raise ConfigError(message, where="overlap", fix=f"give {MIN_OVERLAP} to half of the side")

    def starts(self, length: int) -> list[int]:
        """Start pixel of each tile along ``length`` pixels; the last tile ends at the image's border."""
        last = max(0, length - self.side)
        return [*range(0, last, self.side - self.overlap), last]

    def in_words(self, width: int, height: int) -> str:
        """Return text such as "4 x 55 tiles of 400 px that overlap by 100"."""
        columns, rows = len(self.starts(width)), len(self.starts(height))
        return f"{columns} x {rows} tiles of {self.side} px that overlap by {self.overlap}"


def tiling_for(
    width: int, height: int, *, trained: int | None, tile: int | None = None, overlap: int | None = None
) -> Tiling | None:
    """Return the tiling for an image of this size; None if it is processed without tiles.

    Args:
        width, height: of the image, pixels.
        trained: side in pixels of the detector's training images; None: unknown.
        tile: requested tile side in pixels, used for images larger than it; 0: no tiles for any size; None: the
            training side, but at least 32, for images more than twice as wide or as high.
        overlap: in pixels; None: a quarter of the tile side.

    Raises:
        ConfigError: the tile side or the overlap is out of range; see ``Tiling``.
    """
    side = _default_side(trained) if tile is None else tile
    if not side:
        return None
    tiling = _make_tiling(side, overlap)
    return tiling if max(width, height) > side * (_AUTO_TILE_FACTOR if tile is None else 1) else None


def strip_tiling(*, trained: int | None, tile: int | None = None, overlap: int | None = None) -> Tiling:
    """Return the tiling for strips of any size.

    Args:
        trained, tile, overlap: as for ``tiling_for``.

    Raises:
        ConfigError: as ``tiling_for``, or no tile side is known.
    """
    side = tile or _default_side(trained)
    if side is None or tile == 0:
        unknown = ", and the checkpoint doesn't hold the size of the training images" if tile is None else ""
        raise ConfigError(f"a strip needs tiles{unknown}", where="tile", fix="give their side in pixels")
    return _make_tiling(side, overlap)


def _default_side(trained: int | None) -> int | None:
    """The training side, but at least the minimum tile side."""
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
    """Detect on an image or strip in tiles; returns each object once, best score first.

    Only the pixel rows of the current tiles and the block that they come from are in memory.

    Args:
        detect: the detector.
        blocks: the image's rows from top to bottom, [rows, width] or [rows, width, 3], any number per block.
        size_wh: width and height of the image, pixels.
        tiling: the tiles.
        categories: the detector's category names.
        nms_iou: IoU threshold of the NMS per category, as within a tile.
    """
    width, height = size_wh
    columns = tiling.starts(width)
    side_wh = min(tiling.side, width), min(tiling.side, height)
    batch_size = min(_MAX_TILES_PER_BATCH, max(1, _MAX_BATCH_PIXELS // (side_wh[0] * side_wh[1])))
    tiles, detections = [], []
    for top, rows in tile_rows(blocks, height, tiling):
        for first in range(0, len(columns), batch_size):
            lefts = columns[first : first + batch_size]
            batch = [np.ascontiguousarray(rows[:, left : left + tiling.side]) for left in lefts]
            for left, output in zip(lefts, detect(batch)):
                tiles.append((left, top, left + side_wh[0], top + side_wh[1]))
                detections.append(offset_detections(output, left, top))
    return merge_tiles(tiles, detections, size_wh, categories, nms_iou=nms_iou)


def tile_rows(blocks: Iterable[Pixels], height: int, tiling: Tiling) -> Iterator[tuple[int, Pixels]]:
    """Yield top row and pixels, [side, width] or less, of each row of tiles; blocks are read late and freed early.

    Args:
        blocks: ``height`` rows in total.
        height: of the image, pixels.
        tiling: the tiles.
    """
    source, above, below = iter(blocks), 0, 0
    held: list[Pixels] = []  # rows ``above`` to ``below`` of the image
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


def offset_detections(detections: Detections, right: float, down: float) -> Detections:
    """Shift detections by pixels to the right and down."""
    offset_xyxy = np.array([right, down, right, down], np.float32)
    return Detections(detections.boxes_xyxy + offset_xyxy, detections.scores, detections.labels, detections.categories)
