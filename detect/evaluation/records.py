"""What the judge works on: labels and detections as flat arrays, and who matched whom at each IoU.

Images and categories are numbered by position, 0-based, in the order of their sorted ids: pycocotools breaks ties
between equal scores in that order, so it is kept everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ImageId = int | str


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """One image of the truth: its id there, its file (relative to the truth's file) and its size in pixels, if told."""

    id: ImageId
    file_name: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels, one row a box, G in all.

    Attributes:
        images: by sorted id.
        category_ids, categories: ids and names, by sorted id.
        boxes_xywh: float64[G, 4], pixels.
        area: float64[G], square pixels, as the labels give it; decides on small, medium and large.
        image, category: int64[G], positions in ``images`` and ``categories``.
        crowd: bool[G], regions that the judge ignores: neither hit nor miss.
    """

    images: tuple[JudgedImage, ...]
    category_ids: tuple[int, ...]
    categories: tuple[str, ...]
    boxes_xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Detections, one row each, D in all, in the order given.

    Attributes:
        boxes_xywh: float64[D, 4], pixels.
        scores: float64[D], 0 to 1.
        image, category: int64[D], positions in the truth's images and categories.
    """

    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Who matched whom within a category, over all box sizes, at T = 10 IoUs of 0.50, 0.55, ..., 0.95.

    Detections are matched best score first, so those above any threshold are matched as if the others didn't exist.

    Attributes:
        order: int64[M], rows of ``Found`` that take part (the best 100 an image and category), by category, then
            image, then falling score.
        truth_of: int64[T, M], the row of ``Truth`` that each matched, -1 for none.
        ignored: bool[T, M], matched to a crowd region: neither hit nor false.
        detection_of: int64[T, G], the row of ``Found`` that matched each label, -1 for none.
    """

    order: NDArray[np.int64]
    truth_of: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    detection_of: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OfSize:
    """Who matched whom where only boxes of a certain size are to be found.

    Attributes:
        matches: as over all sizes; what matched a box of another size, or nothing and is of another size itself, is
            ignored, too.
        to_find: bool[G], labels of this size that are no crowd.
    """

    matches: Matches
    to_find: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """One run of pycocotools' COCOeval, from which every number is derived.

    Attributes:
        truth, found: what was compared.
        matches: who matched whom, over all sizes.
        precision: float64[T, R, K, A, M], at R = 101 recalls 0, 0.01, ..., 1, for K categories, A = 4 sizes (all,
            small, medium, large) and M = 3 limits on detections an image and category (1, 10, 100); -1 where a
            category has no box of that size.
        recall: float64[T, K, A, M], likewise.
        sizes: small, medium and large boxes alone; empty where sizes weren't evaluated.
    """

    truth: Truth
    found: Found
    matches: Matches
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    sizes: tuple[OfSize, ...] = ()

    @property
    def all_sizes(self) -> OfSize:
        """The matches over all sizes, with the labels that they look for."""
        return OfSize(self.matches, ~self.truth.crowd)


@dataclass(frozen=True, slots=True)
class Hit:
    """A label that a detection of its category covers with an IoU of at least 0.5; boxes are xyxy in pixels."""

    category: str
    score: float
    iou: float
    true_xyxy: tuple[float, float, float, float]
    found_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Miss:
    """A label that no detection of its category matched."""

    category: str
    true_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A detection that matched no label of its category.

    Attributes:
        nearest: category of the label that it covers best, of any category; None where it touches none.
        iou: with that label, 0 where it touches none.
    """

    category: str
    score: float
    found_xyxy: tuple[float, float, float, float]
    nearest: str | None
    iou: float


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What the detector made of one image at the judgement's score threshold."""

    image: JudgedImage
    hits: tuple[Hit, ...]
    misses: tuple[Miss, ...]
    false_alarms: tuple[FalseAlarm, ...]
    crowd_xyxy: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """A judged detector.

    Attributes:
        summary: the numbers of report.json, plain JSON values; None where there is nothing to measure.
        outcomes: one an image of the truth, by sorted id, at ``summary["score_threshold"]`` and an IoU of 0.5.
        detections: the judged detections as COCO results, with the truth's own ids.
        evaluated: the arrays behind it all.
    """

    summary: dict[str, Any]
    outcomes: tuple[ImageOutcome, ...]
    detections: list[dict[str, Any]]
    evaluated: Evaluated


def rows_by_image(image: NDArray[np.int64], images: int) -> list[NDArray[np.int64]]:
    """For each of so many images the rows that lie in it, in their order."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))
