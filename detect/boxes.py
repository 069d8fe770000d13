"""Box arithmetic on numpy arrays, float[..., 4], xyxy unless the name says xywh."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def carried(
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


def recognisable(cut_xyxy: Array, whole_xyxy: Array) -> NDArray[np.bool_]:
    """Which boxes still show what they hold where a border has cut them: bool[...].

    Along each side, 16 pixels must be left, or half of a box that is shorter than 32. A share of the area would not
    do: an eighth of a scratch that crosses the whole picture is plain to see, half of a speck isn't.
    """
    left, whole = cut_xyxy[..., 2:] - cut_xyxy[..., :2], whole_xyxy[..., 2:] - whole_xyxy[..., :2]
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
