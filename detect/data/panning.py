"""A still image as a moving strip: a window of the image's size slides over it and its mirror images.

Beyond each border the image goes on as its own reflection, so that scale and grain stay those of the image and the
strip has no end. A smaller window enlarged to the image's size was the alternative: it hardly has room to move in an
image of 200 pixels, and shows every defect coarser than the detector will meet it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..boxes import recognisable
from ..sample import motions, travel
from .dataset import Sample

_AT_BORDER_PX = 4.0  # a box that ends so near a border is cut by it (annotators stop short), and goes on beyond


def pan(sample: Sample, length: int, rng: np.random.Generator) -> list[Sample]:
    """A clip of ``length`` frames of the image's size, moving as filmed strips do (``sample.travel``).

    Windows lie on whole pixels, so every pixel is one of the image's. Boxes are reflected with it; one that ends at a
    border is one object with its reflection. They are cut at the window, and left out where that leaves too little
    (``boxes.recognisable``).
    """
    height = sample.pixels.shape[0]
    origins = travel(rng, length, height)
    # the clip's middle lies on the image, give or take a quarter of its height
    origins[:, 1] += round(rng.uniform(-0.25, 0.25) * height) - origins[-1, 1] // 2
    return [
        _seen(sample, (int(x), int(y)), (float(right), float(down)))
        for (x, y), (right, down) in zip(origins, motions(origins))
    ]


def _seen(sample: Sample, origin_xy: tuple[int, int], motion_xy: tuple[float, float]) -> Sample:
    height, width = sample.pixels.shape[:2]
    x, y = origin_xy
    pixels = sample.pixels[_reflected(y, height)][:, _reflected(x, width)]
    whole: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    for (x1, y1, x2, y2), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist()):
        boxes = [
            (left, top, right, bottom)
            for top, bottom in _reflections(y1, y2, height, y)
            for left, right in _reflections(x1, x2, width, x)
        ]
        whole += boxes
        labels += [label] * len(boxes)
    boxes_xyxy = np.array(whole, np.float32).reshape(-1, 4)
    cut = np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    keep = recognisable(cut, boxes_xyxy)
    return Sample(pixels, cut[keep], np.array(labels, np.int64)[keep], motion_xy)


def _reflected(start: int, size: int) -> NDArray[np.int64]:
    """The image's rows that ``size`` rows from ``start`` on show: 0 1 2 2 1 0 0 1 2 ..."""
    rows = np.arange(start, start + size) % (2 * size)
    return np.asarray(np.where(rows < size, rows, 2 * size - 1 - rows), np.int64)


def _reflections(low: float, high: float, size: int, start: int) -> list[tuple[float, float]]:
    """An interval's images in a window of ``size`` from ``start`` on, relative to it, each whole."""
    starts, ends = low <= _AT_BORDER_PX, high >= size - _AT_BORDER_PX
    if starts and ends:
        return [(0.0, float(size))]
    if starts:
        images = [(-high, high)]
    elif ends:
        images = [(low, 2 * size - low)]
    else:
        images = [(low, high), (-high, -low)]
    turns = range(start // (2 * size) - 1, start // (2 * size) + 3)
    moved = [(a + 2 * size * k - start, b + 2 * size * k - start) for k in turns for a, b in images]
    return [(a, b) for a, b in moved if b > 0 and a < size]
