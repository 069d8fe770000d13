"""Which frames and objects count in each column of the tables about strips."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...boxes import area, clip
from ...records import Dataset
from .watching import Step

Truth = dict[str, Any]  # a COCO data set; image ids are positions + 1

ALL, CLEAN, DEGRADED, SEEN_BEFORE = "all", "clean", "degraded", "seen before"
SHARE_SEEN = 0.5  # of a box: with less of it known, no foreseen box is sure to reach the IoU of AP50


def by_condition(truth: Truth, dataset: Dataset) -> dict[str, Truth]:
    """The truth of all frames, of the clean ones, of each other condition, and of all that are not clean.

    Only conditions that are recorded: of data that is clean throughout, "all" remains.
    """
    conditions = [image.frame.condition if image.frame else CLEAN for image in dataset.images]
    others = sorted(set(conditions) - {CLEAN})
    parts = {ALL: truth}
    if others:
        for name in (CLEAN, *others):
            parts[name] = only(truth, [i for i, condition in enumerate(conditions) if condition == name])
        parts[DEGRADED] = only(truth, [i for i, condition in enumerate(conditions) if condition != CLEAN])
    return {name: part for name, part in parts.items() if part["images"]}


def only(truth: Truth, positions: Collection[int]) -> Truth:
    """The truth of the images at these positions."""
    ids = {position + 1 for position in positions}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in ids],
        "annotations": [each for each in truth["annotations"] if each["image_id"] in ids],
    }


def seen_before(truth: Truth, strips: Sequence[Sequence[Step]]) -> Truth:
    """The truth of all frames but each strip's first, where objects that nobody could foresee are ignored.

    An object counts if at least half of its box lay inside the frame before, seen from where the surface has moved
    since. The others are marked as crowd: the judge counts a box there neither as hit nor as false.
    """
    moved: Mapping[int, tuple[float, float]] = {
        step.position + 1: step.total_xy for steps in strips for step in steps if step.gap
    }
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    later = only(truth, [image_id - 1 for image_id in moved])
    annotations = [
        each
        if _share_inside(each["bbox"], moved[each["image_id"]], sizes[each["image_id"]]) >= SHARE_SEEN
        else {**each, "iscrowd": 1}
        for each in later["annotations"]
    ]
    return {**later, "annotations": annotations}


def _share_inside(bbox: Sequence[float], motion_xy: tuple[float, float], size_wh: tuple[int, int]) -> float:
    """Of a box, the share that was in view before the surface moved."""
    x, y, width, height = bbox
    then = np.array([x, y, x + width, y + height], np.float64) - np.tile(motion_xy, 2)
    return float(area(clip(then, *size_wh)) / max(float(area(then)), 1e-9))
