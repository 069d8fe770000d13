"""Detections averaged over the frames of a moving strip: the control of a memory, which needs no training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...boxes import carried, iou
from ...records import Detections
from ...streaming import Motion


@dataclass(frozen=True, slots=True, eq=False)
class Averaged:
    """What is known of a strip after some frames.

    Attributes:
        found: all that has been found and is still in view, best averaged score first.
        sums: float64[N], the scores of each over the frames that found it.
        hits: int64[N], how many found it.
        since_xy: float64[F, 2], how far the surface has moved, right and down, since each of the F frames seen so far
            that still share surface with the last one, itself (0, 0) included.
    """

    found: Detections
    sums: NDArray[np.float64]
    hits: NDArray[np.int64]
    since_xy: NDArray[np.float64]


def average(
    found: Detections,
    before: Averaged | None,
    motion_xy: Motion,
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    most: int = 100,
) -> Averaged:
    """What is known after one more frame.

    What was known is carried on with the surface. It is matched to what is found now, best score first, by category
    and IoU; a match takes the box of now, as an object that moves into view grows. A score is the mean over the frames
    that saw the box's centre, 0 where they did not find it: one that was found before and isn't now loses, and so
    does one that shows up where earlier frames saw nothing. On surface that has just come in, a score stays itself.

    Args:
        found: in this frame.
        before: after the frame before; None at the start of a strip.
        motion_xy: pixels (right, down) that the surface moved since then.
        size_hw: height and width of the picture.
        same_iou: from which IoU on two boxes are of one object.
        most: how many to keep, by score.
    """
    if before is None:
        hits = np.ones(len(found), np.int64)
        return Averaged(found, found.scores.astype(np.float64), hits, np.zeros((1, 2)))
    old = carry(before, motion_xy, size_hw)
    partners = _partners(found, old.found, same_iou)
    matched = partners >= 0
    sums, hits = found.scores.astype(np.float64), np.ones(len(found), np.int64)
    sums[matched] += old.sums[partners[matched]]
    hits[matched] += old.hits[partners[matched]]
    rest = np.setdiff1d(np.arange(len(old.found)), partners)
    boxes = np.concatenate([found.boxes_xyxy, old.found.boxes_xyxy[rest]])
    labels = np.concatenate([found.labels, old.found.labels[rest]])
    sums, hits = np.concatenate([sums, old.sums[rest]]), np.concatenate([hits, old.hits[rest]])
    since_xy = np.concatenate([old.since_xy, np.zeros((1, 2))])
    scores = sums / np.maximum(_frames_that_saw(boxes, since_xy, size_hw), hits)
    best = np.argsort(-scores, kind="stable")[:most]
    kept = Detections(boxes[best], scores[best].astype(np.float32), labels[best], found.categories)
    return Averaged(kept, sums[best], hits[best], since_xy)


def carry(known: Averaged, motion_xy: Motion, size_hw: tuple[int, int]) -> Averaged:
    """What is known of the frame that comes next, before it is seen; scores stay, what leaves the picture goes.

    Args:
        known: after the last frame.
        motion_xy: pixels (right, down) that the surface will have moved.
        size_hw: height and width of the picture.
    """
    found = known.found
    boxes, inside = carried(found.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    moved = Detections(boxes[inside].astype(np.float32), found.scores[inside], found.labels[inside], found.categories)
    since_xy = known.since_xy + np.asarray(motion_xy, np.float64)
    shared = (np.abs(since_xy) < size_hw[::-1]).all(axis=1)
    return Averaged(moved, known.sums[inside], known.hits[inside], since_xy[shared])


def _partners(found: Detections, old: Detections, same_iou: float) -> NDArray[np.int64]:
    """For each that is found now, best score first, the old one of its category that overlaps it most; -1 for none."""
    overlaps = iou(found.boxes_xyxy.astype(np.float64), old.boxes_xyxy.astype(np.float64))
    overlaps[found.labels[:, None] != old.labels[None, :]] = 0
    partners = np.full(len(found), -1, np.int64)
    if not len(old):
        return partners
    for i in np.argsort(-found.scores, kind="stable"):
        j = int(overlaps[i].argmax())
        if overlaps[i, j] >= same_iou:
            partners[i] = j
            overlaps[:, j] = 0
    return partners


def _frames_that_saw(
    boxes_xyxy: NDArray[np.float32], since_xy: NDArray[np.float64], size_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """In how many frames the place where each box's centre lies now was in view, int64[N]."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    then = centres[:, None] - since_xy[None]
    return np.asarray(((then >= 0) & (then < size_hw[::-1])).all(axis=2).sum(axis=1), np.int64)
