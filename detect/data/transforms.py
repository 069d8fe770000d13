"""Random changes of a training image and its boxes: mosaic, crop, flips, turn, light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..boxes import area, clip
from .dataset import Sample

Draw = Callable[[], Sample]  # another random sample of the same data set


@dataclass(frozen=True, slots=True)
class Augment:
    """The chain that a training image runs through; see AugmentConfig for ranges and units.

    ``turn`` is for square images; ``turn_labels`` are the category ids that ``turn_classes`` names, None for any.
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
    turn: float = 0.0
    turn_labels: frozenset[int] | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        """One augmented copy of the same height and width."""
        right, down = self.label_offset_xy
        sample = self._placed(_offset(sample, -right, -down), rng, lambda: _offset(draw(), -right, -down))
        if right or down:
            sample = _inside(_offset(sample, right, down))
        return change_light(sample, self.brightness, self.contrast, self.illumination, rng)

    def _placed(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        """The image with its parts in other places, in their own light."""
        if rng.random() < self.mosaic:
            sample = mosaic([sample, draw(), draw(), draw()], self.mosaic_scale, self.min_visible, rng)
        elif rng.random() < self.crop:
            sample = random_crop(sample, self.crop_min, self.aspect, self.min_visible, rng)
        if rng.random() < self.flip_h:
            sample = flip(sample, axis=1)
        if rng.random() < self.flip_v:
            sample = flip(sample, axis=0)
        if self.turn and rng.random() < self.turn and self._may_turn(sample):
            sample = transpose(sample)
        return sample

    def _may_turn(self, sample: Sample) -> bool:
        if self.turn_labels is None:
            return True
        return len(sample.labels) > 0 and self.turn_labels.issuperset(sample.labels.tolist())


def _offset(sample: Sample, right: float, down: float) -> Sample:
    """The same pixels with all boxes moved, in pixels."""
    return replace(sample, boxes_xyxy=sample.boxes_xyxy + np.array([right, down, right, down], np.float32))


def _inside(sample: Sample) -> Sample:
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
    return _window(sample, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def mosaic(samples: list[Sample], scale: tuple[float, float], min_visible: float, rng: np.random.Generator) -> Sample:
    """Four images in a 2 x 2 square, of which a random window around the middle becomes the new image."""
    height, width = samples[0].pixels.shape[:2]
    canvas = np.zeros((2 * height, 2 * width, *samples[0].pixels.shape[2:]), np.float32)
    boxes, labels = [], []
    for i, each in enumerate(samples):
        if each.pixels.shape[:2] != (height, width):
            each = _window(each, (0, 0, each.pixels.shape[1], each.pixels.shape[0]), (width, height), 0)
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
    return _window(whole, (left, top, left + window_w, top + window_h), (width, height), min_visible)


def resized(sample: Sample, size_wh: tuple[int, int]) -> Sample:
    """The whole sample with another width and height."""
    height, width = sample.pixels.shape[:2]
    return _window(sample, (0, 0, width, height), size_wh, 0)


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


def _window(
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
