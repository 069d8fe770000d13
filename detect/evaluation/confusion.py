"""Which category is taken for which, with the background as one more, at an IoU of 0.5 and one score threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import area, intersection, iou, xywh_to_xyxy
from .records import Evaluated, rows_by_image

IOU_THRESHOLD = 0.5
BACKGROUND = "background"


def confusion(evaluated: Evaluated, score_threshold: float) -> dict[str, Any]:
    """Count true against detected categories.

    In each image the detections of all categories, best score first, take the label that they cover best, whatever
    its category, with an IoU of at least 0.5 and not taken before (of equal IoU their own category's). A label that
    nothing took is missed, in the column "background"; a detection that took none is a false alarm, in the row
    "background", unless half of it lies in a crowd region. A second box on one defect is a false alarm too.

    Returns:
        {"labels": [names..., "background"], "matrix": [[counts]], "score_threshold", "iou_threshold"}, a row a true
        category, a column a detected one.
    """
    truth, found = evaluated.truth, evaluated.found
    background = len(truth.categories)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    true_xyxy, found_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    kept = evaluated.matches.order
    kept = kept[found.scores[kept] >= score_threshold]
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    by_image = rows_by_image(found.image[kept], len(truth.images))
    labels_by_image = rows_by_image(truth.image, len(truth.images))
    for rows, labels in zip(by_image, labels_by_image):
        detections, crowds = kept[rows], labels[truth.crowd[labels]]
        labels = labels[~truth.crowd[labels]]
        free = np.ones(len(labels), dtype=bool)
        overlaps = iou(found_xyxy[detections], true_xyxy[labels])
        for row, detection in enumerate(detections):
            own = found.category[detection]
            taken = _best(overlaps[row], free, truth.category[labels] == own)
            if taken is not None:
                free[taken] = False
                matrix[truth.category[labels[taken]], own] += 1
            elif not _in_crowd(found_xyxy[detection], true_xyxy[crowds]):
                matrix[background, own] += 1
        np.add.at(matrix[:, background], truth.category[labels[free]], 1)
    return {
        "labels": [*truth.categories, BACKGROUND],
        "matrix": matrix.tolist(),
        "score_threshold": score_threshold,
        "iou_threshold": IOU_THRESHOLD,
    }


def _best(overlaps: NDArray[Any], free: NDArray[np.bool_], own: NDArray[np.bool_]) -> int | None:
    reachable = np.where(free, overlaps, -1.0)
    if not reachable.size or reachable.max() < IOU_THRESHOLD:
        return None
    best = np.flatnonzero(reachable == reachable.max())
    preferred = best[own[best]]
    return int(preferred[0] if preferred.size else best[0])


def _in_crowd(box_xyxy: NDArray[Any], crowds_xyxy: NDArray[Any]) -> bool:
    shared = intersection(box_xyxy[None], crowds_xyxy)
    return bool((shared >= IOU_THRESHOLD * area(box_xyxy)).any()) and bool((shared > 0).any())
