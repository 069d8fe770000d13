"""The plain values that rooms exchange: images, boxes, data sets, detections, findings; and box arithmetic.

Boxes are ``(x1, y1, x2, y2)`` in pixels, float, 0-based, with x2 and y2 exclusive: width is x2 - x1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Xyxy = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object.

    Attributes:
        label: category name.
        xyxy: corners in pixels, 0-based.
        difficult: the annotator's "hard to see" flag (Pascal-VOC).
        crowd: ignored by the evaluation, neither hit nor miss (COCO's iscrowd).
        score: 0 to 1, where a detector has pre-annotated the box; None for labels.
    """

    label: str
    xyxy: Xyxy
    difficult: bool = False
    crowd: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image stands in a strip that moves through the camera.

    Attributes:
        strip: name of the strip.
        number: place in time, counted from 0; a number that no image has is a frame that never came.
        origin_xy: position of the image's top left corner on the strip, in pixels; None if unknown.
        condition: "clean", or what is wrong with the picture: "blurred", "overexposed", "noisy", "dropped" (a buffer
            that the camera left black), or a word of the data's own.
    """

    strip: str
    number: int
    origin_xy: tuple[float, float] | None = None
    condition: str = "clean"

    def motion_since(self, earlier: Frame) -> tuple[float, float] | None:
        """How far the surface has moved in the picture, (right, down) in pixels; None if unknown or another strip."""
        if self.origin_xy is None or earlier.origin_xy is None or self.strip != earlier.strip:
            return None
        return earlier.origin_xy[0] - self.origin_xy[0], earlier.origin_xy[1] - self.origin_xy[1]


@dataclass(frozen=True, slots=True)
class Image:
    """One image file with its labels; an image without boxes is a valid negative.

    Attributes:
        path: the image file.
        width, height: size in pixels, from the file's own header.
        boxes: its objects, in the order of the label file.
        frame: its place in a moving strip; None for a still image.
    """

    path: Path
    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    frame: Frame | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images and the category names that their boxes use.

    Category ids are 1-based positions in ``categories``; 0 is the background.
    """

    images: tuple[Image, ...]
    categories: tuple[str, ...]

    def category_ids(self) -> dict[str, int]:
        """Name -> 1-based id."""
        return {name: i for i, name in enumerate(self.categories, start=1)}


@dataclass(frozen=True, slots=True)
class Detection:
    """One found object: category name, score in 0 to 1, corners in pixels."""

    label: str
    score: float
    xyxy: Xyxy


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """All objects found in one image, best score first.

    Attributes:
        boxes_xyxy: float32[N, 4], pixels of the image as given.
        scores: float32[N], 0 to 1.
        labels: int64[N], 1-based positions in ``categories``.
        categories: the detector's category names.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for (x1, y1, x2, y2), score, label in zip(self.boxes_xyxy, self.scores, self.labels):
            xyxy = (float(x1), float(y1), float(x2), float(y2))
            yield Detection(self.categories[int(label) - 1], float(score), xyxy)

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least ``threshold``."""
        keep = self.scores >= threshold
        return Detections(self.boxes_xyxy[keep], self.scores[keep], self.labels[keep], self.categories)


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of an audit about one file.

    Attributes:
        kind: a short fixed name, such as "box outside image".
        severity: errors stop a conversion or a training; warnings and notes don't.
        path: the file it is about.
        message: what was found and what to do, in one sentence.
        others: further files concerned (the other copies of a duplicate, say).
        image: the image concerned, where ``path`` is a label file.
        boxes_xyxy: the places in it that are meant, in pixels.
    """

    kind: str
    severity: Literal["error", "warning", "note"]
    path: Path
    message: str
    others: Sequence[Path] = field(default_factory=tuple)
    image: Path | None = None
    boxes_xyxy: Sequence[Xyxy] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "path": str(self.path),
            "message": self.message,
            "others": [str(p) for p in self.others],
            "image": None if self.image is None else str(self.image),
            "boxes_xyxy": [list(box) for box in self.boxes_xyxy],
        }


Array = NDArray[np.floating[Any]]


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """[..., (x, y, width, height)] -> [..., (x1, y1, x2, y2)]."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """[..., (x1, y1, x2, y2)] -> [..., (x, y, width, height)]."""
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def area(boxes_xyxy: Array) -> Array:
    """Area in square pixels, 0 for empty or inverted boxes."""
    sides = np.clip(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def clip(boxes_xyxy: Array, width: float, height: float) -> Array:
    """Boxes cut off at the borders of an image of ``width`` x ``height`` pixels."""
    return np.clip(boxes_xyxy, 0, np.array([width, height, width, height], dtype=boxes_xyxy.dtype))


def shift_and_clip(
    boxes_xyxy: Array, motion_xy: tuple[float, float], width: float, height: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Boxes moved with the surface they lie on and cut off at the borders, and which still have a pixel each way.

    Args:
        boxes_xyxy: [N, 4], pixels.
        motion_xy: how far the surface moves, right and down, in pixels.
        width, height: of the image in pixels.

    Returns:
        All N boxes, moved, and bool[N], those that are still in view.
    """
    moved = clip(boxes_xyxy + np.tile(np.asarray(motion_xy, boxes_xyxy.dtype), 2), width, height)
    return moved, np.asarray(((moved[..., 2:] - moved[..., :2]) > 1).all(axis=-1))


def recognisable(clipped_xyxy: Array, full_xyxy: Array) -> NDArray[np.bool_]:
    """Which boxes still show what they hold where a border has cut them: bool[...].

    Along each side, 16 pixels must be left, or half of a box that is shorter than 32. A share of the area would not
    do: an eighth of a scratch that crosses the whole picture is plain to see, half of a speck isn't.
    """
    left, whole = clipped_xyxy[..., 2:] - clipped_xyxy[..., :2], full_xyxy[..., 2:] - full_xyxy[..., :2]
    return np.asarray(((left > 0) & (left >= np.minimum(16, whole / 2))).all(axis=-1))


def intersection(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Shared area of every pair: [N, 4], [M, 4] -> [N, M]."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def iou(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Intersection over union of every pair: [N, 4], [M, 4] -> [N, M] in 0 to 1; 0 where both are empty."""
    shared = intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def elementwise_iou(a_xyxy: Array, b_xyxy: Array) -> Array:
    """IoU of each row with the same row: [N, 4], [N, 4] -> [N]; 0 where both are empty."""
    low, high = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    union = area(a_xyxy) + area(b_xyxy) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def connected_components(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """For each of ``count`` numbers the set it belongs to, when each edge joins the sets of two; sets count from 0."""
    from scipy.sparse import coo_array, csgraph

    if not edges:
        return list(range(count))
    graph = coo_array((np.ones(len(edges)), np.array(edges).T), shape=(count, count))
    return [int(component) for component in csgraph.connected_components(graph, directed=False)[1]]
