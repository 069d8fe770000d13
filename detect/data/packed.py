"""Images and boxes of a data set in a few arrays, which loader processes share where objects would be copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..records import Dataset, Image


class PackedImages(Sequence[Image]):
    """Paths, sizes and places in strips of many images, without their boxes; a record is made when it is asked for.

    A process that is forked shares memory until it is written to, and merely looking at a Python object writes its
    reference count: the records of a large data set would soon be there once a process.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        names = [os.fsencode(image.path) for image in images]
        self._names = np.frombuffer(b"".join(names), np.uint8)
        self._ends = np.cumsum([0, *map(len, names)])
        self.sizes_wh = np.array([(image.width, image.height) for image in images], np.int32).reshape(-1, 2)
        self._frames = {i: image.frame for i, image in enumerate(images) if image.frame is not None}

    def __len__(self) -> int:
        return len(self.sizes_wh)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        width, height = self.sizes_wh[index].tolist()  # refuses what is out of range
        return Image(self.path(index), width, height, frame=self._frames.get(index % len(self)))

    def path(self, index: int) -> Path:
        """The file of an image."""
        index %= len(self)
        return Path(os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes()))


class PackedBoxes:
    """The boxes of all images one after the other; crowd boxes are left out.

    Attributes:
        xyxy: float32[boxes, 4], pixels.
        labels: int64[boxes], 1-based category ids.
        counts: int64[images], boxes of each.
    """

    def __init__(self, dataset: Dataset) -> None:
        ids = dataset.category_ids()
        kept = [[box for box in image.boxes if not box.crowd] for image in dataset.images]
        self.counts = np.array([len(boxes) for boxes in kept], np.int64)
        self._ends = np.cumsum([0, *self.counts.tolist()])
        total = int(self._ends[-1])
        numbers = (value for boxes in kept for box in boxes for value in box.xyxy)
        self.xyxy = np.fromiter(numbers, np.float32, 4 * total).reshape(-1, 4)
        self.labels = np.fromiter((ids[box.label] for boxes in kept for box in boxes), np.int64, total)

    def of(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Corners and labels of the boxes of one image."""
        here = slice(self._ends[index], self._ends[index + 1])
        return self.xyxy[here], self.labels[here]
