"""A moving strip seen by its incoming surface alone: what was found before is carried on, and grows as it comes in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .boxes import Array, area, carried, iou
from .records import Detections

_AT_BORDER = 2.0  # pixels: boxes that end so near a border may go on beyond it
_MOST = 0.75  # share of a frame from which on it is as well to look at all of it
_MULTIPLE = 8  # pixels; the network pads to this anyway
_CONTEXT = 64, 6  # known surface to look at with the new: so many pixels, or this part of the frame if that is more


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a frame to look at: all of its width or height, at the border where surface comes in.

    Attributes:
        axis: 0 where the surface moves across, 1 where it moves up or down.
        start, stop: pixels along that axis.
        enters_high: surface comes in at the right or bottom border, not at the left or top one.
    """

    axis: int
    start: int
    stop: int
    enters_high: bool

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        along, across = slice(self.start, self.stop), slice(None)
        return (along, across) if self.axis == 1 else (across, along)

    @property
    def offset_xy(self) -> tuple[int, int]:
        """Of its first pixel."""
        return (self.start, 0) if self.axis == 0 else (0, self.start)


def incoming_window(
    motion_xy: tuple[float, float], size_hw: tuple[int, int], *, context: int | None = None
) -> Window | None:
    """Where to look in a frame; None where nothing less than all of it will do.

    Only the main direction counts: a strip that also wanders to the side shows a sliver there that isn't looked at.

    Args:
        motion_xy: pixels (right, down) that the surface moved since the frame before; nothing tells of no motion.
        size_hw: height and width of the frame.
        context: pixels of known surface to look at with the new, so that what the border had cut is seen whole; None:
            a sixth of the frame along the motion, 64 at least.
    """
    axis = 1 if abs(motion_xy[1]) >= abs(motion_xy[0]) else 0
    size, motion = size_hw[1 - axis], motion_xy[axis]
    known = max(_CONTEXT[0], size // _CONTEXT[1]) if context is None else context
    depth = math.ceil((abs(motion) + known) / _MULTIPLE) * _MULTIPLE
    if motion == 0 or depth > _MOST * size:
        return None
    return Window(axis, size - depth, size, True) if motion < 0 else Window(axis, 0, depth, False)


def grown(
    before: Detections,
    seen: Detections,
    window: Window,
    motion_xy: tuple[float, float],
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    most: int = 100,
) -> Detections:
    """Detections of a frame from those of the frame before and those of a look through a window.

    What lay whole in the frame before is moved with the surface and stays as it was found. What the border had cut is
    met by what is seen now: the new box reaches as far back as the old one and as far ahead as the seen one. What is
    seen and is not known counts where it reaches into new surface; the rest was looked at before.

    Args:
        before: of the frame before.
        seen: through the window, in pixels of the frame.
        window: that was looked through.
        motion_xy: pixels (right, down) that the surface moved since the frame before.
        size_hw: height and width of the frame.
        same_iou: from which IoU on, within the window, two boxes are of one object, and beyond which the lesser of
            two of one category goes.
        most: how many to keep, by score.
    """
    size, axis = size_hw[1 - window.axis], window.axis
    boxes, inside = carried(before.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    cut = np.asarray(_reach(before.boxes_xyxy, window, size)[1] >= size - _AT_BORDER)
    boxes, cut = boxes[inside], cut[inside]
    scores, labels = before.scores[inside].copy(), before.labels[inside]
    found, come_in = seen.boxes_xyxy, abs(motion_xy[axis])
    known = (window.start, window.stop - come_in) if window.enters_high else (come_in, float(window.stop))
    partners = _partners(boxes, cut, labels, seen, window, known, same_iou)
    starts, ends = _reach(found, window, size)
    inner = window.start if window.enters_high else size - window.stop
    for i in np.flatnonzero(partners >= 0):
        j = int(partners[i])
        if cut[j]:
            boxes[j] = _joined(boxes[j], found[i], whole=starts[i] > inner + _AT_BORDER)
            scores[j] = max(scores[j], seen.scores[i])
    new = (partners < 0) & (ends > size - come_in)
    boxes = np.concatenate([boxes, found[new]])
    scores, labels = np.concatenate([scores, seen.scores[new]]), np.concatenate([labels, seen.labels[new]])
    kept = _best(boxes, scores, labels, same_iou)[:most]
    return Detections(boxes[kept].astype(np.float32), scores[kept], labels[kept], before.categories)


def _reach(boxes: Array, window: Window, size: int) -> tuple[Array, Array]:
    """Start and end of each box along the window's axis, counted so that surface comes in at ``size``."""
    low, high = boxes[:, window.axis], boxes[:, window.axis + 2]
    return (low, high) if window.enters_high else (size - high, size - low)


def _partners(
    boxes: Array,
    cut: NDArray[np.bool_],
    labels: NDArray[np.int64],
    seen: Detections,
    window: Window,
    known: tuple[float, float],
    same_iou: float,
) -> NDArray[np.int64]:
    """For each seen box, best first, the carried one of its category that it agrees best with in the window, or -1.

    How far a cut one goes on was not seen, so of it and what it is held against only known surface counts.
    """
    partners = np.full(len(seen), -1, np.int64)
    if not len(boxes) or not len(seen):
        return partners
    found, old = seen.boxes_xyxy, _within(boxes, window.axis, (window.start, window.stop))
    overlaps = np.where(cut, iou(_within(found, window.axis, known), old), iou(found, old))
    overlaps[seen.labels[:, None] != labels[None, :]] = 0
    for i in np.argsort(-seen.scores, kind="stable"):
        j = int(overlaps[i].argmax())
        if overlaps[i, j] >= same_iou:
            partners[i] = j
            overlaps[:, j] = 0
    return partners


def _within(boxes: Array, axis: int, limits: tuple[float, float]) -> Array:
    """The parts of boxes that lie between two pixels along an axis."""
    parts: Array = boxes.copy()
    parts[:, axis], parts[:, axis + 2] = (np.clip(parts[:, k], *limits) for k in (axis, axis + 2))
    return parts


def _joined(old: Array, seen: Array, *, whole: bool) -> Array:
    """The seen box if the window showed it whole, else one that holds both."""
    if whole:
        return seen
    low, high = np.minimum(old[:2], seen[:2]), np.maximum(old[2:], seen[2:])
    return np.concatenate([low, high])


def _best(boxes: Array, scores: NDArray[np.float32], labels: NDArray[np.int64], same_iou: float) -> NDArray[np.int64]:
    """Rows by falling score, without those that a better one of their category covers."""
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes, boxes) >= same_iou
    overlaps &= labels[:, None] == labels[None, :]
    left = area(boxes) > 0
    kept = []
    for i in order:
        if left[i]:
            kept.append(i)
            left[overlaps[i]] = False
    return np.asarray(kept, np.int64)
