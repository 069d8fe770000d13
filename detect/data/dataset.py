"""Detection data set in memory: cached decoded images and packed boxes, as input of the augmentation."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..datasets import coco
from ..errors import DataError
from ..images import Pixels, likely_white, read_image, to_gray, to_rgb
from ..structures import Dataset, Image

MIN_MAX_VALUE = 255  # lower bound of data.max_value
MAX_UINT16 = 65535  # default gray value of white in 16-bit pixels (data.max_value)


def white_level(pixels: Pixels, max_value: int | None) -> int:
    """Gray value of white: 255 for 8-bit pixels; ``max_value``, or 65535 if it is None, for 16-bit pixels."""
    return 255 if pixels.dtype == np.uint8 else max_value or MAX_UINT16


def evenly_spaced(length: int, limit: int) -> list[int]:
    """At most ``limit`` positions from 0 to ``length`` - 1, evenly spaced, with the first and the last."""
    return sorted(set(np.linspace(0, length - 1, min(length, limit)).astype(int).tolist()))


def unit_range(pixels: Pixels, max_value: int | None = None) -> NDArray[np.float32]:
    """uint8 or uint16 -> float32 in 0 (black) to 1 (white), without rounding to 8 bits.

    Args:
        pixels: of any shape.
        max_value: gray value of white in 16-bit pixels; None: 65535. White of 8-bit pixels is always 255.
    """
    return np.asarray(pixels.astype(np.float32) * np.float32(1 / white_level(pixels, max_value)))


def check_bit_depth(pixels: Pixels, max_value: int | None, where: str | PathLike[str] | None = None) -> Pixels:
    """Return the pixels, after a check that none is brighter than white, which clipping would lose.

    Raises:
        DataError: 16-bit pixels exceed ``max_value``.
    """
    if max_value is not None and pixels.dtype == np.uint16 and int(pixels.max(initial=0)) > max_value:
        message = f"the image has gray values up to {int(pixels.max()):,}, beyond the white of {max_value:,}"
        fix = "set the white of its camera (--max-value; in training data.max_value), or give images of another depth"
        raise DataError(message, where=where, fix=fix)
    return pixels


def describe_bit_depth(
    brightest: int, max_value: int | None, *, setting: str = "data.max_value="
) -> tuple[str, str | None]:
    """Describe how 16-bit images are interpreted, with a warning if their maximum suggests fewer bits.

    Args:
        brightest: maximum gray value of the images.
        max_value: gray value of white; None: not set, 65535.
        setting: the option that sets it, with everything before the number.

    Returns:
        Description, and warning or None.
    """
    white = max_value or MAX_UINT16
    description = (
        f"16-bit images: black is 0 and white {white:,} ({setting.rstrip(' =') if max_value else 'the whole depth'})"
    )
    likely = likely_white(brightest)
    if max_value is not None or likely == MAX_UINT16:
        return description, None
    bits = likely.bit_length()
    warning = (
        f"the 16-bit images go up to {brightest:,} of {white:,}, as those of a camera of {bits} bits do: "
        f"{setting}{likely} would give them the whole range"
    )
    return description, warning


def balanced_subset(labels: Sequence[Collection[str]], count: int, *, seed: int) -> list[int]:
    """Choose images at random, balanced over the classes as far as possible.

    A smaller subset with the same seed is contained in a larger one.

    Args:
        labels: classes in each image; images without any count as a further class.
        count: number of images to choose.
        seed: the same seed and input give the same images.

    Returns:
        Ascending indices into ``labels``.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"{count} of {len(labels)} images")
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    waiting: dict[str, list[int]] = defaultdict(list)
    for i in reversed(order):  # popped from the end
        for label in labels[i] or ("",):
            waiting[label].append(i)
    chosen: dict[int, None] = {}
    class_counts: Counter[str] = Counter()
    while len(chosen) < count:
        rarest = min((label for label, ids in waiting.items() if ids), key=lambda label: (class_counts[label], label))
        i = waiting[rarest].pop()
        if i not in chosen:
            chosen[i] = None
            class_counts.update(labels[i] or ("",))
    return sorted(chosen)


class PackedImages(Sequence[Image]):
    """Paths, sizes and strip frames of many images in arrays, without boxes; ``Image`` records are created on access.

    Forked processes share memory until it is written, and even reading a Python object writes its reference count. As
    Python objects, the records of a large data set would soon exist once per process.
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
        width, height = self.sizes_wh[index].tolist()  # raises IndexError if out of range
        return Image(self.path(index), width, height, frame=self._frames.get(index % len(self)))

    def path(self, index: int) -> Path:
        """File of image ``index``."""
        index %= len(self)
        return Path(os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes()))


class PackedBoxes:
    """Boxes of all images in one array; crowd boxes are omitted.

    Attributes:
        xyxy: float32[boxes, 4], pixels.
        labels: int64[boxes], 1-based category ids.
        counts: int64[images], number of boxes per image.
    """

    def __init__(self, dataset: Dataset) -> None:
        ids = dataset.category_ids()
        boxes_per_image = [[box for box in image.boxes if not box.crowd] for image in dataset.images]
        self.counts = np.array([len(boxes) for boxes in boxes_per_image], np.int64)
        self._ends = np.cumsum([0, *self.counts.tolist()])
        total = int(self._ends[-1])
        numbers = (value for boxes in boxes_per_image for box in boxes for value in box.xyxy)
        self.xyxy = np.fromiter(numbers, np.float32, 4 * total).reshape(-1, 4)
        self.labels = np.fromiter((ids[box.label] for boxes in boxes_per_image for box in boxes), np.int64, total)

    def of(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Corners and labels of the boxes of one image."""
        rows = slice(self._ends[index], self._ends[index + 1])
        return self.xyxy[rows], self.labels[rows]


@dataclass(slots=True)
class Sample:
    """One image with its boxes, as numpy arrays.

    Attributes:
        pixels: float32[height, width] or [height, width, 3], 0 to 1.
        boxes_xyxy: float32[N, 4], pixels.
        labels: int64[N], 1-based category ids.
        motion_xy: motion of the surface since the previous frame, right and down, pixels; 0, 0 for a still image.
        mixed_in: indices of the other images of a mosaic.
        seed: of the random sampling for this image in the network, 0 to 2 ** 31 - 1.
    """

    pixels: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    motion_xy: tuple[float, float] = (0.0, 0.0)
    mixed_in: tuple[int, ...] = ()
    seed: int = 0


class DetectionDataset:
    """Images and boxes of a data set by index; crowd boxes are omitted, as the evaluation ignores them too.

    Args:
        dataset: the records; images without boxes are negatives.
        channels: 1 for gray, 3 for RGB; other files are converted.
        cache: keep decoded images in memory with the bit depth of their files (uint8 or uint16).
        max_value: gray value of white in 16-bit images; None: 65535.

    Attributes:
        brightest: maximum gray value of the 16-bit images read so far; None if there was none.
    """

    def __init__(self, dataset: Dataset, *, channels: int, cache: bool = True, max_value: int | None = None) -> None:
        self.images = PackedImages(dataset.images)
        self.categories = dataset.categories
        self.channels, self.max_value = channels, max_value
        self.brightest: int | None = None
        self._boxes = PackedBoxes(dataset)
        self._free_cache_bytes = np.inf if cache else 0.0
        self._cache: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> Path:
        """File of image ``index``."""
        return self.images.path(index)

    def pixels(self, index: int) -> Pixels:
        """Decoded image, from the cache if it is there: uint8 or uint16, [height, width] or [height, width, 3]."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        pixels = self._read(index)
        if pixels.nbytes <= self._free_cache_bytes:
            self._free_cache_bytes -= pixels.nbytes
            self._cache[index] = pixels
        return pixels

    def decoded_bytes(self) -> int:
        """Bytes of all decoded images, if all have the bit depth of the first one."""
        depth = self._read(0).itemsize if len(self) else 1
        return int(self.images.sizes_wh.prod(axis=1, dtype=np.int64).sum()) * self.channels * depth

    def preload(self, max_bytes: float | None = None, *, shard: tuple[int, int] = (0, 1)) -> int:
        """Read every image once, to check that it can be read, and fill the cache.

        Args:
            max_bytes: limit of the cache; images beyond it are read again each time. None: no limit.
            shard: (rank, size) of this process; once the cache is full, each process reads only its share of images.

        Returns:
            Number of images in the cache.
        """
        if max_bytes is not None:
            self._free_cache_bytes = min(self._free_cache_bytes, max(0.0, max_bytes))
        rank, size = shard
        for index in range(len(self)):
            if self._free_cache_bytes > 0 or index % size == rank:
                self.pixels(index)
        self._free_cache_bytes = 0.0  # images cached later would be cached in each loader process
        return len(self._cache)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the images in the cache."""
        return sum(pixels.nbytes for pixels in self._cache.values())

    def __getitem__(self, index: int) -> Sample:
        return Sample(unit_range(self.pixels(index), self.max_value), *self._boxes.of(index))

    def boxes_of(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Corners, float32[N, 4] in pixels, and labels, int64[N], of one image."""
        return self._boxes.of(index)

    def boxes_wh(self) -> NDArray[np.float32]:
        """Width and height of every box in pixels, float32[boxes, 2]."""
        return self._boxes.xyxy[:, 2:] - self._boxes.xyxy[:, :2]

    def resize_factors(self, input_size: int | None) -> NDArray[np.float32]:
        """Factor per box by which its image is resized, so that its shorter side is ``input_size``: float32[boxes]."""
        shorter = self.images.sizes_wh.min(axis=1) if len(self) else np.zeros(0)
        factors = np.ones(len(self)) if input_size is None else input_size / shorter
        return np.repeat(factors.astype(np.float32), self._boxes.counts)

    def normalisation(self, limit: int = 500) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel, in 0 to 1, over at most ``limit`` evenly spaced images."""
        indices = evenly_spaced(len(self), limit)
        moments, white = [], 255
        for index in indices:
            pixels = self.pixels(index)
            values = unit_range(pixels, self.max_value).reshape(-1, self.channels).astype(np.float64)
            moments.append([values.mean(axis=0), (values**2).mean(axis=0)])
            white = max(white, white_level(pixels, self.max_value))
        mean, square = np.mean(moments, axis=0)
        min_std, digits = (1e-3, 6) if white == 255 else (0.25 / white, 9)  # 1/4 of a gray level
        std = np.sqrt(np.maximum(square - mean**2, min_std**2))
        return [round(float(v), digits) for v in mean], [round(float(v), digits) for v in std]

    def _read(self, index: int) -> Pixels:
        image = self.images[index]
        pixels = as_channels(check_bit_depth(read_image(image.path), self.max_value, image.path), self.channels)
        if pixels.dtype == np.uint16:
            self.brightest = max(self.brightest or 0, int(pixels.max()))
        if pixels.shape[:2] != (image.height, image.width):
            message = f"the file has {pixels.shape[1]}x{pixels.shape[0]} pixels, its label {image.width}x{image.height}"
            raise DataError(message, where=image.path, fix="convert the labels again")
        return pixels


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert to gray [height, width] for 1 channel, or RGB [height, width, 3] for 3."""
    return to_gray(pixels) if channels == 1 else to_rgb(pixels)


def read_dataset(
    path: Path, *, role: str, categories: tuple[str, ...] | None = None, only: int | None = None
) -> Dataset:
    """Read a COCO JSON for training or validation.

    Args:
        path: the JSON file.
        role: configuration key of the file, for messages ("data.train").
        categories: required names in the required order; None: any.
        only: number of images to take, always the same ones, balanced over categories; None: all.

    Raises:
        DataError: the file is unreadable, has no images or no categories, or has other categories or fewer images than
            required.
    """
    if not path.is_file():
        fix = f"make it with 'detect convert', or set {role}= to a COCO JSON file"
        raise DataError(f"{role} names no file", where=path, fix=fix)
    dataset = coco.read(path)
    if not dataset.images or not dataset.categories:
        missing = "images" if dataset.categories else "categories"
        raise DataError(f"{role} holds no {missing}", where=path, fix="convert the labels again")
    if categories is not None and dataset.categories != categories:
        message = f"its categories are {', '.join(dataset.categories)}, those of the training {', '.join(categories)}"
        raise DataError(message, where=path, fix="convert all parts in one call, so that they share their categories")
    if only is None:
        return dataset
    if only > len(dataset.images):
        message = f"there are {len(dataset.images):,} images, {role}_images asks for {only:,}"
        raise DataError(message, where=path, fix="ask for fewer")
    labels = [{box.label for box in image.boxes} for image in dataset.images]
    return replace(dataset, images=tuple(dataset.images[i] for i in balanced_subset(labels, only, seed=0)))
