"""The evaluation of a detector: one run of pycocotools, the numbers of report.json, and the outcome of each image."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..structures import elementwise_iou, iou, xywh_to_xyxy
from .coco_eval import (
    IOU_50,
    NO_DETECTIONS_THRESHOLD,
    at_threshold,
    average_precisions,
    average_recalls,
    best_f1,
    confusion,
    precision_recall,
    run_coco_eval,
    threshold_table,
)
from .error_analysis import analyze_errors
from .localisation import ap_by_iou, box_bias, localisation
from .olrp import olrp
from .records import CocoEvaluation, FalseAlarm, Hit, ImageOutcome, Judgement, Miss, check_detections, check_truth

Corners = tuple[float, float, float, float]


def image_outcomes(evaluated: CocoEvaluation, score_threshold: float) -> tuple[ImageOutcome, ...]:
    """One outcome per image, from pycocotools' matches within each category at an IoU of 0.5.

    Detections below the threshold are left out, and a label that only such a detection matches is missed. Detections on
    a crowd region are neither hits nor false alarms.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    gt_xyxy, pred_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
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
    was_hit[matches.matched_label[IOU_50, shown][matches.matched_label[IOU_50, shown] >= 0]] = True
    for label, image in enumerate(truth.image):
        if truth.crowd[label]:
            crowds[image].append(_corners(gt_xyxy[label]))
            continue
        labels_of[image].append(label)
        if not was_hit[label]:
            misses[image].append(Miss(truth.categories[truth.category[label]], _corners(gt_xyxy[label])))

    for position in shown:
        row, label = matches.order[position], matches.matched_label[IOU_50, position]
        image, category, score = found.image[row], truth.categories[found.category[row]], float(found.scores[row])
        box = pred_xyxy[row : row + 1]
        if label >= 0:
            overlap = float(elementwise_iou(box, gt_xyxy[label : label + 1])[0])
            hit = Hit(category, score, overlap, _corners(gt_xyxy[label]), _corners(box[0]))
            hits[image].append(hit)
        else:
            near = labels_of[image]
            overlaps = iou(box, gt_xyxy[near])[0] if near else np.zeros(1)
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


_MARGIN = 1.05  # boxes may extend slightly beyond the image; corners taken for x, y, width, height extend far


def plausibility_warnings(evaluated: CocoEvaluation) -> list[dict[str, Any]]:
    """What looks wrong with the detections, each with its ``kind`` and ``count``; empty if nothing does.

    Kinds are "no detections"; "fractions": all boxes lie within 1 x 1 pixels; "outside": boxes that end far outside
    their image; "not evaluated": detections beyond COCO's 100 per image and category.
    """
    truth, found = evaluated.truth, evaluated.found
    total = len(found.scores)
    if not total:
        return [{"kind": "no detections", "count": 0}]
    warnings = []
    boxes = found.boxes_xywh
    if (boxes <= 1).all() and (truth.boxes_xywh.max(initial=0) > 1):
        warnings.append({"kind": "fractions", "count": total})
    sizes = np.array([(i.width or np.inf, i.height or np.inf) for i in truth.images], dtype=np.float64)
    outside = ((boxes[:, :2] + boxes[:, 2:]) > sizes[found.image] * _MARGIN).any(axis=1)
    if outside.mean() > 0.2:
        warnings.append({"kind": "outside", "count": int(outside.sum())})
    if total > len(evaluated.matches.order):
        warnings.append({"kind": "not evaluated", "count": total - len(evaluated.matches.order)})
    return warnings


SCHEMA = 1


def judge(
    truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    *,
    score_threshold: float | None = None,
    groups: Sequence[int] | None = None,
) -> Judgement:
    """Evaluate the detections of a detector; neither argument is changed.

    Args:
        truth: a COCO data set with ``images``, ``annotations`` and ``categories``.
        detections: COCO results, [{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...], with a
            low score threshold, as AP needs the whole curve.
        score_threshold: lowest score that counts in the confusion matrix and in the lists of hits,
            misses and false alarms. By default the one with the best F1 over all categories.
        groups: group number of each image, by the images' sorted ids; a group (frames of a strip) is one cluster in the
            intervals. By default each image is one.

    Returns:
        The evaluation; its ``summary`` holds the numbers, AP and AR exactly as pycocotools gives them.

    Raises:
        DataError: labels and detections that don't fit together, or an invalid box or score.
    """
    labels = check_truth(truth)
    evaluated = run_coco_eval(labels, check_detections(detections, labels))
    best = best_f1(evaluated)
    if score_threshold is None:
        threshold = NO_DETECTIONS_THRESHOLD if best["threshold"] is None else best["threshold"]
    else:
        threshold = score_threshold
    return Judgement(
        summary=_summary(evaluated, threshold, best, groups),
        outcomes=image_outcomes(evaluated, threshold),
        detections=_results(evaluated),
        evaluated=evaluated,
    )


def average_precision(truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """AP, AP50 and AP75 alone, in about a quarter of the time: for validation during training.

    Returns:
        {"AP", "AP50", "AP75", "per_class": {name: {"AP", "AP50", "AP75"}}}, fractions, None without labels.

    Raises:
        DataError: as ``judge``.
    """
    labels = check_truth(truth)
    evaluated = run_coco_eval(labels, check_detections(detections, labels), sizes=False)
    per_class = {name: average_precisions(evaluated, k) for k, name in enumerate(labels.categories)}
    return {**average_precisions(evaluated), "per_class": per_class}


def _summary(
    evaluated: CocoEvaluation, threshold: float, best: dict[str, Any], groups: Sequence[int] | None
) -> dict[str, Any]:
    truth, found = evaluated.truth, evaluated.found
    return {
        "schema": SCHEMA,
        **average_precisions(evaluated),
        **average_recalls(evaluated),
        "images": len(truth.images),
        "boxes": int((~truth.crowd).sum()),
        "crowd_boxes": int(truth.crowd.sum()),
        "detections": len(found.scores),
        "score_threshold": threshold,
        "at_threshold": at_threshold(evaluated, threshold),
        "best_f1": best,
        "per_class": {name: _of_class(evaluated, k, threshold, groups) for k, name in enumerate(truth.categories)},
        "ap_by_iou": ap_by_iou(evaluated),
        "olrp": olrp(evaluated),
        "box_bias": box_bias(evaluated, groups=groups),
        "breakdown": analyze_errors(evaluated).summary(threshold),
        "confusion": confusion(evaluated, threshold),
        "thresholds": threshold_table(evaluated),
        "pr_curves": precision_recall(evaluated),
        "warnings": plausibility_warnings(evaluated),
        "versions": {
            "detect": __version__,
            "pycocotools": version("pycocotools"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _of_class(
    evaluated: CocoEvaluation, category: int, threshold: float, groups: Sequence[int] | None
) -> dict[str, Any]:
    truth = evaluated.truth
    return {
        "id": truth.category_ids[category],
        **average_precisions(evaluated, category),
        **average_recalls(evaluated, category),
        "ap_by_iou": ap_by_iou(evaluated, category),
        "olrp": olrp(evaluated, category),
        "boxes": int((~truth.crowd & (truth.category == category)).sum()),
        "detections": int((evaluated.found.category == category).sum()),
        **localisation(evaluated, category, groups=groups),
        "at_threshold": at_threshold(evaluated, threshold, category),
        "best_f1": best_f1(evaluated, category),
    }


def _results(evaluated: CocoEvaluation) -> list[dict[str, Any]]:
    truth, found = evaluated.truth, evaluated.found
    columns = zip(found.image.tolist(), found.category.tolist(), found.boxes_xywh.tolist(), found.scores.tolist())
    return [
        {"image_id": truth.images[i].id, "category_id": truth.category_ids[k], "bbox": box, "score": score}
        for i, k, box, score in columns
    ]
