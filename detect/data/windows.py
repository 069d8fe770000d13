"""Large images in parts: each epoch looks at other windows of them, and a window keeps the defects in it whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..boxes import clip, recognisable
from .dataset import DetectionDataset, Sample
from .depth import unit_range
from .transforms import resized

_AT_RANDOM, _MOST_TRIED = 24, 400  # places tried for each window; the latter, next to boxes, if the former all cut some
# Places are drawn so far beyond the borders, in windows, and moved in: else a defect at a border is hardly ever whole.
_BEYOND = 0.25

Boxes = NDArray[np.float32]


class Windows:
    """As many windows of each image as cover it, each at a random place in its own share of the image.

    Args:
        dataset: images of any size; those no larger than a window are whole.
        side: of a window in pixels.
        crop: share of the windows that are smaller and enlarged to the full size.
        crop_min: their smallest side, as a share of the window's.
    """

    def __init__(self, dataset: DetectionDataset, side: int, *, crop: float = 0.0, crop_min: float = 1.0) -> None:
        self.dataset, self.side, self.crop, self.crop_min = dataset, side, crop, crop_min
        self._cells_wh = -(-dataset.images.sizes_wh // side)
        self._ends = np.cumsum(self._cells_wh.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, index: int, rng: np.random.Generator) -> tuple[int, Sample]:
        """The image's position and a window of it.

        A box that the window cuts stays if enough of it is in view to know what it is; that happens only to boxes
        larger than a window, or so close to each other that no place around keeps all of them whole.
        """
        image = int(np.searchsorted(self._ends, index, side="right"))
        cell = index - (int(self._ends[image - 1]) if image else 0)
        columns, rows = self._cells_wh[image].tolist()
        size_wh = self.dataset.images.sizes_wh[image]
        full_wh = np.minimum(size_wh, self.side)
        zoom = rng.uniform(self.crop_min, 1) if rng.random() < self.crop else 1.0
        window_wh = np.maximum(1, np.rint(full_wh * zoom)).astype(np.int64)
        boxes, labels = self.dataset.boxes_of(image)
        place, last_xy = np.array([cell % columns, cell // columns]), size_wh - window_wh
        beyond = np.where(last_xy > 0, _BEYOND * window_wh, 0)
        low, high = (((last_xy + 2 * beyond) * (place + k) / (columns, rows) - beyond).astype(np.int64) for k in (0, 1))
        x, y = find_place(boxes, window_wh, low, high, last_xy, rng).tolist()
        width, height = window_wh.tolist()
        pixels = unit_range(self.dataset.pixels(image)[y : y + height, x : x + width], self.dataset.max_value)
        moved = boxes - np.array([x, y, x, y], np.float32)
        cut = clip(moved, width, height).astype(np.float32)
        keep = recognisable(cut, moved)
        sample = Sample(pixels, cut[keep], labels[keep])
        return image, sample if zoom == 1 else resized(sample, (int(full_wh[0]), int(full_wh[1])))


def find_place(
    boxes_xyxy: Boxes,
    window_wh: NDArray[np.int64],
    low_xy: NDArray[np.int64],
    high_xy: NDArray[np.int64],
    last_xy: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """A window's top left corner, at random among the places that cut no box, or else as few as can be.

    Args:
        boxes_xyxy: float32[N, 4], pixels of the image.
        window_wh: width and height of the window.
        low_xy, high_xy: first and last place drawn; those beyond the image stand for its border.
        last_xy: where a window at the right and lower border begins.
        rng: what the place is drawn with.
    """
    tried = np.clip(rng.integers(low_xy, high_xy + 1, (_AT_RANDOM, 2)), 0, last_xy)
    cut = cuts(boxes_xyxy, tried, window_wh)
    if cut.min(initial=1) > 0 and len(boxes_xyxy):
        x1, y1, x2, y2 = boxes_xyxy.T
        width, height = window_wh.tolist()
        # A window may begin or end at a box's edge, with the box inside or outside of it.
        edges = [np.floor(x1), np.ceil(x2) - width, np.ceil(x2), np.floor(x1) - width]
        rungs = [np.floor(y1), np.ceil(y2) - height, np.ceil(y2), np.floor(y1) - height]
        columns, lines = (
            np.unique(np.concatenate([np.concatenate(each), tried[:, k]])) for k, each in enumerate((edges, rungs))
        )
        columns, lines = (
            each[(each >= max(low_xy[k], 0)) & (each <= min(high_xy[k], last_xy[k]))].astype(np.int64)
            for k, each in enumerate((columns, lines))
        )
        chosen = rng.permutation(len(columns) * len(lines))[:_MOST_TRIED]
        tried = np.stack([columns[chosen % len(columns)], lines[chosen // len(columns)]], axis=1)
        cut = cuts(boxes_xyxy, tried, window_wh)
    return np.asarray(tried[int(cut.argmin())])


def cuts(boxes_xyxy: Boxes, places_xy: NDArray[np.int64], window_wh: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many boxes a window at each of the places cuts: int64[places]."""
    low, high = places_xy[:, None, :], (places_xy + window_wh)[:, None, :]
    first, last = boxes_xyxy[None, :, :2], boxes_xyxy[None, :, 2:]
    touched = ((first < high) & (last > low)).all(axis=-1)
    whole = ((first >= low) & (last <= high)).all(axis=-1)
    return np.asarray((touched & ~whole).sum(axis=1))
