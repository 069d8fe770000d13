"""What the detector made of each image: hits, misses and false alarms, the pictures behind the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..boxes import iou, xywh_to_xyxy
from .ap import IOU_50
from .localisation import iou_of_pairs
from .records import Evaluated, FalseAlarm, Hit, ImageOutcome, Miss

Corners = tuple[float, float, float, float]


def outcomes(evaluated: Evaluated, score_threshold: float) -> tuple[ImageOutcome, ...]:
    """One outcome an image, from pycocotools' matches within each category at an IoU of 0.5.

    Detections below the threshold are left out, and a label that only such a one matched is missed. Detections on a
    crowd region are neither hits nor false alarms.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    true_xyxy, found_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    scores = found.scores[matches.order]
    shown = np.flatnonzero((scores >= score_threshold) & ~matches.ignored[IOU_50])
    shown = shown[np.argsort(-scores[shown], kind="stable")]

    images = len(truth.images)
    hits: list[list[Hit]] = [[] for _ in range(images)]
    misses: list[list[Miss]] = [[] for _ in range(images)]
    false_alarms: list[list[FalseAlarm]] = [[] for _ in range(images)]
    crowds: list[list[Corners]] = [[] for _ in range(images)]
    labels_of: list[list[int]] = [[] for _ in range(images)]

    was_hit = np.zeros(len(truth.image), dtype=bool)
    was_hit[matches.truth_of[IOU_50, shown][matches.truth_of[IOU_50, shown] >= 0]] = True
    for label, image in enumerate(truth.image):
        if truth.crowd[label]:
            crowds[image].append(_corners(true_xyxy[label]))
            continue
        labels_of[image].append(label)
        if not was_hit[label]:
            misses[image].append(Miss(truth.categories[truth.category[label]], _corners(true_xyxy[label])))

    for position in shown:
        row, label = matches.order[position], matches.truth_of[IOU_50, position]
        image, category, score = found.image[row], truth.categories[found.category[row]], float(found.scores[row])
        box = found_xyxy[row : row + 1]
        if label >= 0:
            overlap = float(iou_of_pairs(box, true_xyxy[label : label + 1])[0])
            hit = Hit(category, score, overlap, _corners(true_xyxy[label]), _corners(box[0]))
            hits[image].append(hit)
        else:
            near = labels_of[image]
            overlaps = iou(box, true_xyxy[near])[0] if near else np.zeros(1)
            best = int(np.argmax(overlaps))
            nearest = truth.categories[truth.category[near[best]]] if overlaps[best] > 0 else None
            alarm = FalseAlarm(category, score, _corners(box[0]), nearest, float(overlaps[best]))
            false_alarms[image].append(alarm)
    return tuple(
        ImageOutcome(image, tuple(hits[i]), tuple(misses[i]), tuple(false_alarms[i]), tuple(crowds[i]))
        for i, image in enumerate(truth.images)
    )


def _corners(box_xyxy: NDArray[np.float64]) -> Corners:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
