"""Random changes of a training image and its boxes: mosaic, crop, flips, rotation, light; windows of large ones."""

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
    """The chain that a training image runs through; see AugmentConfig for ranges and units.

    ``transpose`` is for square images; ``transpose_labels`` are the ids of ``transpose_classes``, None for any.
    Boxes are moved back by ``label_offset_xy`` before the image is changed and forth again afterwards, so that those of
    a mirrored image lie as far from what they mark, and on the same side, as the labels do.

    Every random number comes from the generator given to the call, so a (seed, epoch, image) triple always
    gives the same picture, whichever process makes it.
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
        """One augmented copy of the same height and width."""
        right, down = self.label_offset_xy
        sample = self._geometric(_shift_boxes(sample, -right, -down), rng, lambda: _shift_boxes(draw(), -right, -down))
        if right or down:
            sample = _clip_boxes(_shift_boxes(sample, right, down))
        return change_light(sample, self.brightness, self.contrast, self.illumination, rng)

    def _geometric(self, sample: Sample, rng: np.random.Generator, draw: DrawSample) -> Sample:
        """The image with its parts in other places, in their own light."""
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
    """The same pixels with all boxes moved, in pixels."""
    return replace(sample, boxes_xyxy=sample.boxes_xyxy + np.array([right, down, right, down], np.float32))


def _clip_boxes(sample: Sample) -> Sample:
    """Boxes cut off at the borders; what lies outside is dropped."""
    height, width = sample.pixels.shape[:2]
    cut = clip(sample.boxes_xyxy, width, height)
    keep = area(cut) > 0
    return replace(sample, boxes_xyxy=cut[keep], labels=sample.labels[keep])


def random_crop(sample: Sample, crop_min: float, aspect: float, min_visible: float, rng: np.random.Generator) -> Sample:
    """Cut a window with sides of ``crop_min`` to 1 of the image's and enlarge it to the full size."""
    height, width = sample.pixels.shape[:2]
    side = rng.uniform(crop_min, 1)
    stretch = rng.uniform(-aspect, aspect)
    window_w, window_h = min(side * (1 + stretch), 1) * width, min(side * (1 - stretch), 1) * height
    left, top = rng.uniform(0, width - window_w), rng.uniform(0, height - window_h)
    return _resized_crop(sample, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def mosaic(samples: list[Sample], scale: tuple[float, float], min_visible: float, rng: np.random.Generator) -> Sample:
    """Four images in a 2 x 2 square, of which a random window around the middle becomes the new image."""
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
    whole = Sample(canvas, np.concatenate(boxes), np.concatenate(labels))
    side = rng.uniform(*scale)
    window_w, window_h = side * width, side * height
    # the middle stays inside the window, at least an eighth of an image from its border
    left = rng.uniform(max(0.0, 1.125 * width - window_w), min(0.875 * width, 2 * width - window_w))
    top = rng.uniform(max(0.0, 1.125 * height - window_h), min(0.875 * height, 2 * height - window_h))
    return _resized_crop(whole, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def resize(sample: Sample, size_wh: tuple[int, int]) -> Sample:
    """The whole sample with another width and height."""
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
    """Mirror on the diagonal from top left to bottom right: x and y, width and height change places."""
    right, down = sample.motion_xy
    boxes = sample.boxes_xyxy[:, [1, 0, 3, 2]]
    return Sample(np.ascontiguousarray(np.swapaxes(sample.pixels, 0, 1)), boxes, sample.labels, (down, right))


def change_light(
    sample: Sample, brightness: float, contrast: float, illumination: float, rng: np.random.Generator
) -> Sample:
    """Contrast about the mean, an offset, and a linear light gradient in a random direction; clipped to 0..1."""
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
    """The part of a sample inside a window, resampled to ``size_wh``; boxes mostly outside are dropped."""
    left, top, right, bottom = window_xyxy
    width, height = size_wh
    zoom_x, zoom_y = width / (right - left), height / (bottom - top)
    # pixel centres: output x + 0.5 lies at (x + 0.5) / zoom in the window
    matrix = np.array(
        [[zoom_x, 0, (0.5 - left) * zoom_x - 0.5], [0, zoom_y, (0.5 - top) * zoom_y - 0.5]], dtype=np.float64
    )
    pixels = cv2.warpAffine(
        sample.pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    zoom = np.array([zoom_x, zoom_y, zoom_x, zoom_y], np.float32)
    moved = (sample.boxes_xyxy - np.array([left, top, left, top], np.float32)) * zoom
    cut = clip(moved, width, height).astype(np.float32)
    sides: NDArray[np.float32] = cut[:, 2:] - cut[:, :2]
    keep = (area(cut) >= min_visible * area(moved)) & (sides >= 2).all(axis=1)
    motion_xy = (sample.motion_xy[0] * zoom_x, sample.motion_xy[1] * zoom_y)
    return Sample(np.asarray(pixels, np.float32), cut[keep], sample.labels[keep], motion_xy)


_RANDOM_PLACES, _MAX_PLACES = (
    24,
    400,
)  # places tried for each window; the latter, next to boxes, if the former all cut some
# Places are drawn so far beyond the borders, in windows, and moved in: else a defect at a border is hardly ever whole.
_BORDER_MARGIN = 0.25

Boxes = NDArray[np.float32]


class RandomWindows:
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
        beyond = np.where(last_xy > 0, _BORDER_MARGIN * window_wh, 0)
        low, high = (((last_xy + 2 * beyond) * (place + k) / (columns, rows) - beyond).astype(np.int64) for k in (0, 1))
        x, y = choose_window(boxes, window_wh, low, high, last_xy, rng).tolist()
        width, height = window_wh.tolist()
        pixels = unit_range(self.dataset.pixels(image)[y : y + height, x : x + width], self.dataset.max_value)
        moved = boxes - np.array([x, y, x, y], np.float32)
        cut = clip(moved, width, height).astype(np.float32)
        keep = recognisable(cut, moved)
        sample = Sample(pixels, cut[keep], labels[keep])
        return image, sample if zoom == 1 else resize(sample, (int(full_wh[0]), int(full_wh[1])))


def choose_window(
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
    tried = np.clip(rng.integers(low_xy, high_xy + 1, (_RANDOM_PLACES, 2)), 0, last_xy)
    cut = count_cut_boxes(boxes_xyxy, tried, window_wh)
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
        chosen = rng.permutation(len(columns) * len(lines))[:_MAX_PLACES]
        tried = np.stack([columns[chosen % len(columns)], lines[chosen // len(columns)]], axis=1)
        cut = count_cut_boxes(boxes_xyxy, tried, window_wh)
    return np.asarray(tried[int(cut.argmin())])


def count_cut_boxes(boxes_xyxy: Boxes, places_xy: NDArray[np.int64], window_wh: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many boxes a window at each of the places cuts: int64[places]."""
    low, high = places_xy[:, None, :], (places_xy + window_wh)[:, None, :]
    first, last = boxes_xyxy[None, :, :2], boxes_xyxy[None, :, 2:]
    touched = ((first < high) & (last > low)).all(axis=-1)
    whole = ((first >= low) & (last <= high)).all(axis=-1)
    return np.asarray((touched & ~whole).sum(axis=1))
