"""Random augmentation of training images with boxes (mosaic, crop, flips, transpose, light), and random windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..structures import area, clip, recognisable
from .dataset import DetectionDataset, Sample, unit_range

DrawSample = Callable[[], Sample]  # another random sample of the same data set


@dataclass(frozen=True, slots=True)
class Augment:
    """Augmentation of a training image; see AugmentConfig for ranges and units.

    ``transpose`` is for square images; ``transpose_labels`` are the ids of ``transpose_classes``, None for all classes.
    Boxes are shifted by minus ``label_offset_xy`` before geometric changes and shifted back afterwards, so that also in
    mirrored images they have the same offset from their objects as the labels.

    All random numbers come from the generator of the call, so that (seed, epoch, image) determines the result in every
    process.
    """

    flip_h: float
    flip_v: float
    crop: float
    crop_min: float
    aspect: float
    brightness: float
    contrast: float
    illumination: float
    mosaic: float
    mosaic_scale: tuple[float, float]
    min_visible: float
    label_offset_xy: tuple[float, float] = (0.0, 0.0)
    transpose: float = 0.0
    transpose_labels: frozenset[int] | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: DrawSample) -> Sample:
        """An augmented copy of the same height and width; ``draw`` returns the other images of a mosaic."""
        right, down = self.label_offset_xy
        sample = self._geometric(_shift_boxes(sample, -right, -down), rng, lambda: _shift_boxes(draw(), -right, -down))
        if right or down:
            sample = _clip_boxes(_shift_boxes(sample, right, down))
        return change_light(sample, self.brightness, self.contrast, self.illumination, rng)

    def _geometric(self, sample: Sample, rng: np.random.Generator, draw: DrawSample) -> Sample:
        """Mosaic or crop, then flips and transpose."""
        if rng.random() < self.mosaic:
            sample = mosaic([sample, draw(), draw(), draw()], self.mosaic_scale, self.min_visible, rng)
        elif rng.random() < self.crop:
            sample = random_crop(sample, self.crop_min, self.aspect, self.min_visible, rng)
        if rng.random() < self.flip_h:
            sample = flip(sample, axis=1)
        if rng.random() < self.flip_v:
            sample = flip(sample, axis=0)
        if self.transpose and rng.random() < self.transpose and self._may_transpose(sample):
            sample = transpose(sample)
        return sample

    def _may_transpose(self, sample: Sample) -> bool:
        if self.transpose_labels is None:
            return True
        return len(sample.labels) > 0 and self.transpose_labels.issuperset(sample.labels.tolist())


def _shift_boxes(sample: Sample, right: float, down: float) -> Sample:
    """Shift all boxes by pixels; the image is unchanged."""
    return replace(sample, boxes_xyxy=sample.boxes_xyxy + np.array([right, down, right, down], np.float32))


def _clip_boxes(sample: Sample) -> Sample:
    """Clip boxes at the borders and drop those outside."""
    height, width = sample.pixels.shape[:2]
    clipped = clip(sample.boxes_xyxy, width, height)
    keep = area(clipped) > 0
    return replace(sample, boxes_xyxy=clipped[keep], labels=sample.labels[keep])


def random_crop(sample: Sample, crop_min: float, aspect: float, min_visible: float, rng: np.random.Generator) -> Sample:
    """Crop a window and resize it to the size of the image.

    Its sides are ``crop_min`` to 1 times those of the image, then stretched and shrunk by up to the share ``aspect``.
    """
    height, width = sample.pixels.shape[:2]
    side = rng.uniform(crop_min, 1)
    stretch = rng.uniform(-aspect, aspect)
    window_w, window_h = min(side * (1 + stretch), 1) * width, min(side * (1 - stretch), 1) * height
    left, top = rng.uniform(0, width - window_w), rng.uniform(0, height - window_h)
    return _resized_crop(sample, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def mosaic(samples: list[Sample], scale: tuple[float, float], min_visible: float, rng: np.random.Generator) -> Sample:
    """Place four images in a 2 x 2 grid, and crop a random window around the centre as the new image."""
    height, width = samples[0].pixels.shape[:2]
    canvas = np.zeros((2 * height, 2 * width, *samples[0].pixels.shape[2:]), np.float32)
    boxes, labels = [], []
    for i, each in enumerate(samples):
        if each.pixels.shape[:2] != (height, width):
            each = _resized_crop(each, (0, 0, each.pixels.shape[1], each.pixels.shape[0]), (width, height), 0)
        x, y = (i % 2) * width, (i // 2) * height
        canvas[y : y + height, x : x + width] = each.pixels
        boxes.append(each.boxes_xyxy + np.array([x, y, x, y], np.float32))
        labels.append(each.labels)
    combined = Sample(canvas, np.concatenate(boxes), np.concatenate(labels))
    side = rng.uniform(*scale)
    window_w, window_h = side * width, side * height
    # the centre of the grid is inside the window, at least 1/8 of an image side from its border
    left = rng.uniform(max(0.0, 1.125 * width - window_w), min(0.875 * width, 2 * width - window_w))
    top = rng.uniform(max(0.0, 1.125 * height - window_h), min(0.875 * height, 2 * height - window_h))
    return _resized_crop(combined, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def resize(sample: Sample, size_wh: tuple[int, int]) -> Sample:
    """Resize a sample to another width and height."""
    height, width = sample.pixels.shape[:2]
    return _resized_crop(sample, (0, 0, width, height), size_wh, 0)


def flip(sample: Sample, *, axis: int) -> Sample:
    """Mirror left-right (axis 1) or top-bottom (axis 0)."""
    extent = sample.pixels.shape[axis]
    low, high = (0, 2) if axis == 1 else (1, 3)
    boxes = sample.boxes_xyxy.copy()
    boxes[:, low], boxes[:, high] = extent - sample.boxes_xyxy[:, high], extent - sample.boxes_xyxy[:, low]
    right, down = sample.motion_xy
    motion_xy = (-right, down) if axis == 1 else (right, -down)
    return Sample(np.flip(sample.pixels, axis), boxes, sample.labels, motion_xy)


def transpose(sample: Sample) -> Sample:
    """Mirror at the diagonal from top left to bottom right, which exchanges x and y."""
    right, down = sample.motion_xy
    boxes = sample.boxes_xyxy[:, [1, 0, 3, 2]]
    return Sample(np.ascontiguousarray(np.swapaxes(sample.pixels, 0, 1)), boxes, sample.labels, (down, right))


def change_light(
    sample: Sample, brightness: float, contrast: float, illumination: float, rng: np.random.Generator
) -> Sample:
    """Scale contrast around the mean, add an offset and a linear light gradient in a random direction; clip to 0..1."""
    pixels = sample.pixels
    gain = 1 + rng.uniform(-contrast, contrast)
    offset = rng.uniform(-brightness, brightness)
    strength, angle = rng.uniform(0, illumination), rng.uniform(0, 2 * np.pi)
    mean = pixels.mean()
    changed = (pixels - mean) * np.float32(gain) + np.float32(mean + offset)
    if strength > 0:
        height, width = pixels.shape[:2]
        x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(strength * np.cos(angle))
        y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(strength * np.sin(angle))
        light = 1 + y[:, None] + x[None, :]
        changed *= light if pixels.ndim == 2 else light[..., None]
    return replace(sample, pixels=np.clip(changed, 0, 1))


def _resized_crop(
    sample: Sample, window_xyxy: tuple[float, float, float, float], size_wh: tuple[int, int], min_visible: float
) -> Sample:
    """Crop a window of a sample and resize it to ``size_wh``.

    Boxes with less than ``min_visible`` of their area inside the window, or sides below 2 pixels, are dropped.
    """
    left, top, right, bottom = window_xyxy
    width, height = size_wh
    zoom_x, zoom_y = width / (right - left), height / (bottom - top)
    # pixel centres: output x + 0.5 corresponds to (x + 0.5) / zoom in the window
    matrix = np.array(
        [[zoom_x, 0, (0.5 - left) * zoom_x - 0.5], [0, zoom_y, (0.5 - top) * zoom_y - 0.5]], dtype=np.float64
    )
    pixels = cv2.warpAffine(
        sample.pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    zoom = np.array([zoom_x, zoom_y, zoom_x, zoom_y], np.float32)
    moved = (sample.boxes_xyxy - np.array([left, top, left, top], np.float32)) * zoom
    clipped = clip(moved, width, height).astype(np.float32)
    sides: NDArray[np.float32] = clipped[:, 2:] - clipped[:, :2]
    keep = (area(clipped) >= min_visible * area(moved)) & (sides >= 2).all(axis=1)
    motion_xy = (sample.motion_xy[0] * zoom_x, sample.motion_xy[1] * zoom_y)
    return Sample(np.asarray(pixels, np.float32), clipped[keep], sample.labels[keep], motion_xy)


_NUM_RANDOM_POSITIONS = 24  # random positions tried per window
_MAX_EDGE_POSITIONS = 400  # positions at the edges of boxes, tried if all random ones cut boxes
# Positions are drawn up to this far beyond the borders, in window sides, and clipped to the image; otherwise defects at
# a border would rarely be uncut.
_BORDER_MARGIN = 0.25

Boxes = NDArray[np.float32]


class RandomWindows:
    """Random training windows of large images; each image is divided into cells, with one window per cell and epoch.

    Args:
        dataset: images of any size; images up to the size of a window are used whole.
        side: of a window in pixels.
        crop: fraction of the windows that are smaller and enlarged to the full size.
        crop_min: minimum side of these, as a fraction of the window side.
    """

    def __init__(self, dataset: DetectionDataset, side: int, *, crop: float = 0.0, crop_min: float = 1.0) -> None:
        self.dataset, self.side, self.crop, self.crop_min = dataset, side, crop, crop_min
        self._cells_wh = -(-dataset.images.sizes_wh // side)
        self._ends = np.cumsum(self._cells_wh.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, index: int, rng: np.random.Generator) -> tuple[int, Sample]:
        """The index of the image and a window of it, for window ``index`` of the epoch.

        Boxes that the window cuts are kept if they are still recognisable. Windows cut only boxes that are larger than
        a window, or so close to each other that no tried position avoids cutting one.
        """
        image = int(np.searchsorted(self._ends, index, side="right"))
        cell = index - (int(self._ends[image - 1]) if image else 0)
        columns, rows = self._cells_wh[image].tolist()
        size_wh = self.dataset.images.sizes_wh[image]
        full_wh = np.minimum(size_wh, self.side)
        zoom = rng.uniform(self.crop_min, 1) if rng.random() < self.crop else 1.0
        window_wh = np.maximum(1, np.rint(full_wh * zoom)).astype(np.int64)
        boxes, labels = self.dataset.boxes_of(image)
        cell_xy, last_xy = np.array([cell % columns, cell // columns]), size_wh - window_wh
        margin = np.where(last_xy > 0, _BORDER_MARGIN * window_wh, 0)
        range_xy = last_xy + 2 * margin
        low = (range_xy * cell_xy / (columns, rows) - margin).astype(np.int64)
        high = (range_xy * (cell_xy + 1) / (columns, rows) - margin).astype(np.int64)
        x, y = choose_window(boxes, window_wh, low, high, last_xy, rng).tolist()
        width, height = window_wh.tolist()
        pixels = unit_range(self.dataset.pixels(image)[y : y + height, x : x + width], self.dataset.max_value)
        moved = boxes - np.array([x, y, x, y], np.float32)
        clipped = clip(moved, width, height).astype(np.float32)
        keep = recognisable(clipped, moved)
        sample = Sample(pixels, clipped[keep], labels[keep])
        return image, sample if zoom == 1 else resize(sample, (int(full_wh[0]), int(full_wh[1])))


def choose_window(
    boxes_xyxy: Boxes,
    window_wh: NDArray[np.int64],
    low_xy: NDArray[np.int64],
    high_xy: NDArray[np.int64],
    last_xy: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Top left corner of a window: the first tried position that cuts the fewest boxes.

    Random positions are tried first; if all of them cut boxes, positions at the edges of boxes are tried.

    Args:
        boxes_xyxy: float32[N, 4], pixels of the image.
        window_wh: width and height of the window.
        low_xy, high_xy: first and last random position; positions outside the image are clipped to its border.
        last_xy: position of a window at the right and bottom border.
        rng: random generator.
    """
    positions = np.clip(rng.integers(low_xy, high_xy + 1, (_NUM_RANDOM_POSITIONS, 2)), 0, last_xy)
    num_cut = count_cut_boxes(boxes_xyxy, positions, window_wh)
    if num_cut.min(initial=1) > 0 and len(boxes_xyxy):
        x1, y1, x2, y2 = boxes_xyxy.T
        width, height = window_wh.tolist()
        # windows that start or end at the edge of a box, with the box inside or outside
        left = [np.floor(x1), np.ceil(x2) - width, np.ceil(x2), np.floor(x1) - width]
        top = [np.floor(y1), np.ceil(y2) - height, np.ceil(y2), np.floor(y1) - height]
        axes = []
        for axis, starts in enumerate((left, top)):
            values = np.unique(np.concatenate([*starts, positions[:, axis]]))
            first, last = max(low_xy[axis], 0), min(high_xy[axis], last_xy[axis])
            axes.append(values[(values >= first) & (values <= last)].astype(np.int64))
        columns, rows = axes
        chosen = rng.permutation(len(columns) * len(rows))[:_MAX_EDGE_POSITIONS]
        positions = np.stack([columns[chosen % len(columns)], rows[chosen // len(columns)]], axis=1)
        num_cut = count_cut_boxes(boxes_xyxy, positions, window_wh)
    return np.asarray(positions[int(num_cut.argmin())])


def count_cut_boxes(
    boxes_xyxy: Boxes, positions_xy: NDArray[np.int64], window_wh: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of boxes that a window at each position cuts: int64[positions]."""
    low, high = positions_xy[:, None, :], (positions_xy + window_wh)[:, None, :]
    first, last = boxes_xyxy[None, :, :2], boxes_xyxy[None, :, 2:]
    overlaps = ((first < high) & (last > low)).all(axis=-1)
    inside = ((first >= low) & (last <= high)).all(axis=-1)
    return np.asarray((overlaps & ~inside).sum(axis=1))
