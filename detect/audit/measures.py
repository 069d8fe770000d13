"""What can differ between parts, as numbers an image: how often classes come, how large and how lit they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Image
from .pixels import Fingerprint

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is compared.

    Attributes:
        key: name in audit.json.
        name: for the head of a table.
        told: how it is put in words, ``{}`` standing for the value.
        shown: mean -> the value as people know it.
    """

    key: str
    name: str
    told: str
    shown: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _pixels(log_area: float) -> str:
    return f"{np.exp(log_area / 2):,.0f} px"


def _ratio(log_ratio: float) -> str:
    return f"{np.exp(log_ratio):.2f}"


def _gray(value: float) -> str:
    return f"{255 * value:.0f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


SHARE = Measure("share", "images that have it", "{} of the images have it", _percent)
EMPTY = Measure("empty", "images without objects", "{} of the images have no object", _percent)
COUNT = Measure("count", "boxes an image that has any", "{} boxes an image that has any", _plain)
SIZE = Measure("size", "size of the boxes, a side", "boxes as large as a square of {}", _pixels)
SHAPE = Measure("shape", "width over height", "width {} times the height", _ratio)
BRIGHTNESS = Measure("brightness", "mean gray level, of 255", "a mean gray level of {} of 255", _gray)
CONTRAST = Measure("contrast", "spread of the gray levels", "gray levels that spread by {}", _gray)
IMAGE_SIZE = Measure("image size", "size of the images, a side", "images as large as a square of {}", _pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A measure over the images that it can be taken of.

    Attributes:
        measure: which.
        category: of the boxes meant; None for all images, whatever they hold.
        images: int64[N], positions.
        values, weights: float64[N]; a mean is the sum of the values over that of the weights.
    """

    measure: Measure
    category: str | None
    images: NDArray[np.int64]
    values: Values
    weights: Values


def columns(images: Sequence[Image], prints: Sequence[Fingerprint], categories: Sequence[str]) -> Iterator[Column]:
    """All measures, those of whole images first, then class by class; crowd boxes are left out."""
    every, one = np.arange(len(images)), np.ones(len(images))
    bright, contrast = (np.array([getattr(p, k) for p in prints], float) for k in ("brightness", "contrast"))
    areas = np.log([image.width * image.height for image in images]) if images else np.zeros(0)
    empty = np.array([not image.boxes for image in images], float)
    for measure, values in (EMPTY, empty), (BRIGHTNESS, bright), (CONTRAST, contrast), (IMAGE_SIZE, areas):
        yield Column(measure, None, every, values, one)
    boxes = _by_class(images, categories)
    for name in categories:
        rows = boxes[name]  # image, log area, log width over height
        having: NDArray[np.int64] = np.unique(rows[:, 0]).astype(np.int64)
        here = np.zeros(len(images))
        here[having] = 1
        yield Column(SHARE, name, every, here, one)
        place = np.searchsorted(having, rows[:, 0])
        number: Values = np.bincount(place, minlength=len(having)).astype(np.float64)
        single = np.ones(len(having))
        yield Column(COUNT, name, having, number, single)
        for measure, column in (SIZE, 1), (SHAPE, 2):
            sums: Values = np.bincount(place, rows[:, column], minlength=len(having)).astype(np.float64)
            yield Column(measure, name, having, sums, number)
        if len(categories) > 1:  # with one class, this is what the columns over all images say
            yield Column(BRIGHTNESS, name, having, bright[having], single)
            yield Column(CONTRAST, name, having, contrast[having], single)


def _by_class(images: Sequence[Image], categories: Sequence[str]) -> dict[str, Values]:
    """For each category float64[boxes, 3]: position of the image, log of the area, log of width over height."""
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in categories}
    for i, image in enumerate(images):
        for box in image.boxes:
            width, height = box.xyxy[2] - box.xyxy[0], box.xyxy[3] - box.xyxy[1]
            if not box.crowd and width > 0 and height > 0 and box.label in rows:
                rows[box.label].append((i, np.log(width * height), np.log(width / height)))
    return {name: np.array(each, float).reshape(-1, 3) for name, each in rows.items()}
