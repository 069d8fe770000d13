"""The judgement of a detector: one run of pycocotools, and the numbers of report.json drawn from it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from .. import __version__
from .ap import average_precisions, average_recalls
from .breakdown import breakdown
from .confusion import confusion
from .curves import NO_DETECTIONS_THRESHOLD, at_threshold, best_f1, precision_recall, threshold_table
from .displacement import displacement
from .localisation import ap_by_iou, localisation
from .lrp import olrp
from .matching import evaluate
from .outcomes import outcomes
from .records import Evaluated, Judgement
from .suspicions import suspicions
from .validation import check_detections, check_truth

SCHEMA = 1


def judge(
    truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    *,
    score_threshold: float | None = None,
    groups: Sequence[int] | None = None,
) -> Judgement:
    """Judge a detector by what it found; neither argument is changed.

    Args:
        truth: a COCO data set with ``images``, ``annotations`` and ``categories``.
        detections: COCO results, [{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...], with a
            low threshold: AP needs the whole curve.
        score_threshold: from which score on a detection counts in the confusion matrix and in the lists of hits,
            misses and false alarms. By default the one with the best F1 over all categories.
        groups: a number per image, by the images' sorted ids; images with the same one (frames of a strip) count as one
            piece of evidence in the intervals. By default each image stands for itself.

    Returns:
        The judgement; its ``summary`` holds the numbers, AP and AR exactly as pycocotools gives them.

    Raises:
        DataError: labels and detections that don't fit together or hold what is no box or no score.
    """
    labels = check_truth(truth)
    evaluated = evaluate(labels, check_detections(detections, labels))
    best = best_f1(evaluated)
    if score_threshold is None:
        threshold = NO_DETECTIONS_THRESHOLD if best["threshold"] is None else best["threshold"]
    else:
        threshold = score_threshold
    return Judgement(
        summary=_summary(evaluated, threshold, best, groups),
        outcomes=outcomes(evaluated, threshold),
        detections=_results(evaluated),
        evaluated=evaluated,
    )


def average_precision(truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The AP family alone, in about a quarter of the time: for validation while training.

    Returns:
        {"AP", "AP50", "AP75", "per_class": {name: {"AP", "AP50", "AP75"}}}, fractions, None where nothing is to find.

    Raises:
        DataError: as ``judge``.
    """
    labels = check_truth(truth)
    evaluated = evaluate(labels, check_detections(detections, labels), sizes=False)
    per_class = {name: average_precisions(evaluated, k) for k, name in enumerate(labels.categories)}
    return {**average_precisions(evaluated), "per_class": per_class}


def _summary(
    evaluated: Evaluated, threshold: float, best: dict[str, Any], groups: Sequence[int] | None
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
        "displacement": displacement(evaluated, groups=groups),
        "breakdown": breakdown(evaluated).summary(threshold),
        "confusion": confusion(evaluated, threshold),
        "thresholds": threshold_table(evaluated),
        "pr_curves": precision_recall(evaluated),
        "warnings": suspicions(evaluated),
        "versions": {
            "detect": __version__,
            "pycocotools": version("pycocotools"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _of_class(evaluated: Evaluated, category: int, threshold: float, groups: Sequence[int] | None) -> dict[str, Any]:
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


def _results(evaluated: Evaluated) -> list[dict[str, Any]]:
    truth, found = evaluated.truth, evaluated.found
    columns = zip(found.image.tolist(), found.category.tolist(), found.boxes_xywh.tolist(), found.scores.tolist())
    return [
        {"image_id": truth.images[i].id, "category_id": truth.category_ids[k], "bbox": box, "score": score}
        for i, k, box, score in columns
    ]
