"""One run of pycocotools' COCOeval, and AP, AR, F1 and the confusion matrix from its matches."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..structures import area, intersection, iou, xywh_to_xyxy
from .records import AreaRangeMatches, CocoEvaluation, DetectionArrays, GroundTruth, Matches, rows_by_image


def run_coco_eval(truth: GroundTruth, found: DetectionArrays, *, sizes: bool = True) -> CocoEvaluation:
    """Match and accumulate with COCOeval's own parameters for boxes.

    Args:
        truth, found: checked labels and detections.
        sizes: whether to evaluate small, medium and large boxes too; without them A is 1 and it takes a quarter of the
            time.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(_labels(truth), _results(truth, found), "bbox")
        if not sizes:
            coco_eval.params.areaRng = coco_eval.params.areaRng[:1]
            coco_eval.params.areaRngLbl = coco_eval.params.areaRngLbl[:1]
        coco_eval.evaluate()
        coco_eval.accumulate()
    every, *by_size = [_of_size(coco_eval, truth, size) for size in range(len(coco_eval.params.areaRng))]
    return CocoEvaluation(
        truth=truth,
        found=found,
        matches=every.matches,
        precision=coco_eval.eval["precision"],
        recall=coco_eval.eval["recall"],
        sizes=tuple(by_size),
    )


def _of_size(coco_eval: Any, truth: GroundTruth, size: int) -> AreaRangeMatches:
    thresholds = len(coco_eval.params.iouThrs)
    areas, images = len(coco_eval.params.areaRng), len(truth.images)
    rows, matched_label, ignored = [], [], []
    matched_detection = np.full((thresholds, len(truth.image)), -1, dtype=np.int64)
    to_find = np.zeros(len(truth.image), dtype=bool)
    for k in range(len(truth.categories)):
        first = (k * areas + size) * images  # evalImgs runs over categories, then sizes (all boxes first), then images
        for pair in coco_eval.evalImgs[first : first + images]:
            if pair is None:
                continue
            # Ids are rows + 1, so that "no match", written as 0, becomes -1.
            rows.append(np.asarray(pair["dtIds"], dtype=np.int64) - 1)
            matched_label.append(np.asarray(pair["dtMatches"], dtype=np.int64) - 1)
            ignored.append(np.asarray(pair["dtIgnore"], dtype=bool))
            labels = np.asarray(pair["gtIds"], dtype=np.int64) - 1
            matched_detection[:, labels] = np.asarray(pair["gtMatches"], dtype=np.int64) - 1
            to_find[labels] = ~np.asarray(pair["gtIgnore"], dtype=bool)
    matches = Matches(
        order=_joined(rows, (0,), np.int64),
        matched_label=_joined(matched_label, (thresholds, 0), np.int64),
        ignored=_joined(ignored, (thresholds, 0), np.bool_),
        matched_detection=matched_detection,
    )
    return AreaRangeMatches(matches, to_find)


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts, axis=-1) if parts else np.empty(empty, dtype=kind)


def _labels(truth: GroundTruth) -> COCO:
    boxes, areas, crowd = truth.boxes_xywh.tolist(), truth.area.tolist(), truth.crowd.tolist()
    places = zip(truth.image.tolist(), truth.category.tolist(), boxes, areas, crowd)
    return _coco(truth, [_annotation(row, *values) for row, values in enumerate(places)])


def _results(truth: GroundTruth, found: DetectionArrays) -> COCO:
    """What ``COCO.loadRes`` makes of the detections, which it can't do for an empty list."""
    boxes, scores = found.boxes_xywh.tolist(), found.scores.tolist()
    results = []
    for row, (image, category, box) in enumerate(zip(found.image.tolist(), found.category.tolist(), boxes)):
        results.append(_annotation(row, image, category, box, box[2] * box[3], False) | {"score": scores[row]})
    return _coco(truth, results)


def _annotation(row: int, image: int, category: int, box: list[float], area: float, crowd: bool) -> dict[str, Any]:
    places = {"id": row + 1, "image_id": image, "category_id": category}
    return {**places, "bbox": box, "area": area, "iscrowd": int(crowd)}


def _coco(truth: GroundTruth, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(truth.images))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.categories)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


IOU_50, IOU_75 = 0, 5  # positions in 0.50, 0.55, ..., 0.95
ALL, SMALL, MEDIUM, LARGE = range(4)
BEST_1, BEST_10, BEST_100 = range(3)


def average_precisions(evaluated: CocoEvaluation, category: int | None = None) -> dict[str, float | None]:
    """AP, AP50, AP75 and, where sizes were evaluated, APs, APm, APl; fractions.

    None where pycocotools gives -1: there is no label of that category or size.

    Args:
        evaluated: one run of COCOeval.
        category: position of one category; all of them by default.
    """
    precision = evaluated.precision[:, :, _chosen(category), :, BEST_100]
    scores = {
        "AP": _mean(precision[..., ALL]),
        "AP50": _mean(precision[IOU_50, ..., ALL]),
        "AP75": _mean(precision[IOU_75, ..., ALL]),
    }
    if precision.shape[-1] > 1:
        scores |= {key: _mean(precision[..., s]) for key, s in (("APs", SMALL), ("APm", MEDIUM), ("APl", LARGE))}
    return scores


def average_recalls(evaluated: CocoEvaluation, category: int | None = None) -> dict[str, float | None]:
    """AR1, AR10, AR100 (best detections per image and category) and ARs, ARm, ARl; fractions, None as above."""
    recall = evaluated.recall[:, _chosen(category)]
    scores = {
        "AR1": _mean(recall[..., ALL, BEST_1]),
        "AR10": _mean(recall[..., ALL, BEST_10]),
        "AR100": _mean(recall[..., ALL, BEST_100]),
    }
    if recall.shape[-2] > 1:
        for key, size in (("ARs", SMALL), ("ARm", MEDIUM), ("ARl", LARGE)):
            scores[key] = _mean(recall[..., size, BEST_100])
    return scores


def _chosen(category: int | None) -> slice:
    return slice(None) if category is None else slice(category, category + 1)


def _mean(values: NDArray[Any]) -> float | None:
    """Mean of the defined values, summed in pycocotools' order, so that it is equal to the last bit."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


_TABLE = tuple(round(0.05 * i, 2) for i in range(1, 20))
NO_DETECTIONS_THRESHOLD = 0.5


def precision_recall(evaluated: CocoEvaluation) -> dict[str, Any]:
    """pycocotools' 101 interpolated points: {"recall": [...], "per_class": {name: {"0.50": [...], "0.75": [...]}}}.

    A category without a label has None instead of curves.
    """
    per_class: dict[str, Any] = {}
    for k, name in enumerate(evaluated.truth.categories):
        curves = evaluated.precision[:, :, k, ALL, BEST_100]
        empty = bool((curves[IOU_50] < 0).all())
        per_class[name] = None if empty else {"0.50": curves[IOU_50].tolist(), "0.75": curves[IOU_75].tolist()}
    return {"recall": [i / 100 for i in range(evaluated.precision.shape[1])], "per_class": per_class}


def best_f1(evaluated: CocoEvaluation, category: int | None = None) -> dict[str, float | None]:
    """The score threshold that gives the best F1, with its precision, recall and F1.

    Detections with a score of at least the threshold count; of equal F1 the higher threshold is chosen. All values are
    None where there is no label or no hit.
    """
    scores, hits, boxes = _ranked(evaluated, category)
    if not boxes or not hits.any():
        return dict.fromkeys(("threshold", "precision", "recall", "f1"))
    true = np.cumsum(hits)
    f1 = 2 * true / (np.arange(1, len(hits) + 1) + boxes)  # 2 TP / (2 TP + FP + FN)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # a threshold can't separate equal scores
    best = int(np.argmax(f1))
    return {"threshold": float(scores[best]), **at_threshold(evaluated, float(scores[best]), category, brief=True)}


def at_threshold(
    evaluated: CocoEvaluation, threshold: float, category: int | None = None, *, brief: bool = False
) -> dict[str, Any]:
    """Hits, misses and false alarms of the detections with a score of at least ``threshold``.

    Returns:
        {"found", "missed", "false", "precision", "recall", "f1"}; the first three are left out if ``brief``. A rate
        with a denominator of 0 is None.
    """
    scores, hits, boxes = _ranked(evaluated, category)
    found = int(hits[scores >= threshold].sum())
    false = int((scores >= threshold).sum()) - found
    counts = {} if brief else {"found": found, "missed": boxes - found, "false": false}
    return counts | {
        "precision": found / (found + false) if found + false else None,
        "recall": found / boxes if boxes else None,
        "f1": 2 * found / (found + false + boxes) if found + false + boxes else None,
    }


def threshold_table(evaluated: CocoEvaluation) -> list[dict[str, Any]]:
    """``at_threshold`` over all categories at 0.05, 0.10, ..., 0.95."""
    return [{"threshold": t, **at_threshold(evaluated, t)} for t in _TABLE]


def _ranked(evaluated: CocoEvaluation, category: int | None) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Scores in descending order, whether each is a hit (crowd regions left out), and the number of labels."""
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    use = ~matches.ignored[IOU_50]
    to_find = ~truth.crowd
    if category is not None:
        use &= found.category[matches.order] == category
        to_find = to_find & (truth.category == category)
    scores = found.scores[matches.order[use]]
    hits = matches.matched_label[IOU_50, use] >= 0
    falling = np.argsort(-scores, kind="stable")
    return scores[falling], hits[falling], int(to_find.sum())


IOU_THRESHOLD = 0.5
BACKGROUND = "background"


def confusion(evaluated: CocoEvaluation, score_threshold: float) -> dict[str, Any]:
    """The confusion matrix of true and detected categories.

    In each image the detections of all categories, best score first, are matched to the unmatched label with the
    highest IoU of at least 0.5, whatever its category (of equal IoU, one of their own category is preferred). An
    unmatched label is missed and counts in the column "background"; an unmatched detection is a false alarm and counts
    in the row "background", unless half of it is inside a crowd region. A second box on one defect is a false alarm.

    Returns:
        {"labels": [names..., "background"], "matrix": [[counts]], "score_threshold", "iou_threshold"}, one row per true
        category, one column per detected category.
    """
    truth, found = evaluated.truth, evaluated.found
    background = len(truth.categories)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    gt_xyxy, pred_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    kept = evaluated.matches.order
    kept = kept[found.scores[kept] >= score_threshold]
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    by_image = rows_by_image(found.image[kept], len(truth.images))
    labels_by_image = rows_by_image(truth.image, len(truth.images))
    for rows, labels in zip(by_image, labels_by_image):
        detections, crowds = kept[rows], labels[truth.crowd[labels]]
        labels = labels[~truth.crowd[labels]]
        free = np.ones(len(labels), dtype=bool)
        overlaps = iou(pred_xyxy[detections], gt_xyxy[labels])
        for row, detection in enumerate(detections):
            own = found.category[detection]
            taken = _best(overlaps[row], free, truth.category[labels] == own)
            if taken is not None:
                free[taken] = False
                matrix[truth.category[labels[taken]], own] += 1
            elif not _in_crowd(pred_xyxy[detection], gt_xyxy[crowds]):
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
