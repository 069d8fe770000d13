"""Detections and ground truth whose figures are known, and slow references for what the package works out fast."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.evaluation.coco_eval import run_coco_eval
from detect.evaluation.error_analysis import MAIN_ERRORS
from detect.evaluation.records import (
    CocoEvaluation,
    DetectionArrays,
    GroundTruth,
    GroundTruthImage,
    Matches,
    check_detections,
    check_truth,
)
from detect.evaluation.summary import judge

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def reference(truth: dict[str, Any], detections: list[dict[str, Any]], category: int | None = None) -> list[Any]:
    """The twelve figures of COCOeval.summarize, None for -1; all zero or -1 if nothing was found."""
    truth, detections = copy.deepcopy(truth), copy.deepcopy(detections)
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = truth
        labels.createIndex()
        if detections:
            results = labels.loadRes(detections)
        else:  # loadRes looks into the first one
            results = COCO()
            results.dataset = {**truth, "annotations": []}
            results.createIndex()
        coco_eval = COCOeval(labels, results, "bbox")
        if category is not None:
            coco_eval.params.catIds = [category]
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return [None if value == -1 else float(value) for value in coco_eval.stats]


def random_case(seed: int, *, images: int = 6, categories: int = 3, ties: bool = True) -> tuple[Any, Any]:
    """Labels with crowds and unused categories, detections with ties, jitter, duplicates and wrong categories."""
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(np.arange(1, images + 1) * 7)
    category_ids = rng.permutation(np.arange(1, categories + 2) * 3)  # the last is never labelled
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image_id in image_ids.tolist():
        for _ in range(rng.integers(0, 6)):
            category = int(rng.choice(category_ids[:-1]))
            box = [*rng.uniform(0, 150, 2), *rng.choice([8.0, 30.0, 60.0, 140.0]) * rng.uniform(0.5, 1.5, 2)]
            crowd = int(rng.random() < 0.15)
            area = box[2] * box[3] * rng.uniform(0.6, 1)
            entry = {"image_id": image_id, "category_id": category, "bbox": list(map(float, box))}
            annotations.append({**entry, "id": len(annotations) + 1, "area": float(area), "iscrowd": crowd})
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 0.15, 4) * [box[2], box[3], box[2], box[3]]
                moved = [box[0] + shift[0], box[1] + shift[1], max(1, box[2] + shift[2]), max(1, box[3] + shift[3])]
                label = category if rng.random() < 0.8 else int(rng.choice(category_ids))
                score = float(rng.integers(1, 5)) / 5 if ties else float(rng.random())
                bbox = [float(v) for v in moved]
                detections.append({"image_id": image_id, "category_id": label, "bbox": bbox, "score": score})
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 300, "height": 300} for i in image_ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": int(i), "name": f"class {i}"} for i in category_ids],
    }
    return truth, [detections[i] for i in rng.permutation(len(detections))]


NAMES = ("inclusion", "patches", "scratches")

Corners = tuple[float, float, float, float]

SIX = tuple(kind.name for kind in MAIN_ERRORS)

WHOLE, PART, SLIVER = (0.0, 0.0, 100.0, 100.0), (0.0, 0.0, 100.0, 40.0), (0.0, 0.0, 100.0, 9.0)  # IoU 1, 0.4, 0.09

AWAY = (120.0, 120.0, 180.0, 180.0)


def xywh(box: Corners) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def case(
    labels: list[tuple[int, str, Corners]], found: list[tuple[int, str, Corners, float]], *, crowd: tuple[int, ...] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO labels and results from (image, name, xyxy[, score]) rows; ``crowd`` are rows of ``labels``."""

    def entry(image: int, name: str, box: Corners) -> dict[str, Any]:
        return {"image_id": image, "category_id": NAMES.index(name) + 1, "bbox": xywh(box)}

    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in (1, 2, 3)],
        "annotations": [
            {**entry(*label), "id": n, "iscrowd": int(n - 1 in crowd)} for n, label in enumerate(labels, start=1)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, start=1)],
    }
    return truth, [{**entry(i, name, box), "score": score} for i, name, box, score in found]


def scattered_case(seed: int, images: int = 5) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowded pictures with every kind of error, crowds and equal scores; one class is never labelled."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []

    def entry(image: int, category: int, box: np.ndarray) -> dict[str, Any]:
        return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box]}

    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            category = int(rng.integers(1, 4))
            box = np.array([*rng.uniform(0, 80, 2), *rng.uniform(20, 60, 2)])
            crowd = int(rng.random() < 0.12)
            annotations.append({**entry(image, category, box), "id": len(annotations) + 1, "iscrowd": crowd})
            for _ in range(rng.integers(0, 4)):
                moved = box + rng.choice([0.03, 0.25]) * rng.normal(size=4) * [*box[2:], *box[2:]]
                moved[2:] = np.maximum(moved[2:], 2)
                named = category if rng.random() < 0.7 else int(rng.integers(1, 5))
                detections.append({**entry(image, named, moved), "score": float(rng.integers(1, 10)) / 10})
        for _ in range(rng.integers(0, 3)):
            box = np.array([*rng.uniform(0, 120, 2), *rng.uniform(10, 40, 2)])
            detections.append({**entry(image, int(rng.integers(1, 5)), box), "score": float(rng.random())})
    for annotation in annotations:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    truth = {
        "images": [{"id": i} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 5)],
    }
    return truth, [detections[i] for i in rng.permutation(len(detections))]


def slow_iou(a: list[float], b: list[float], crowd: bool = False) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - shared)


def slow_kinds(
    truth: dict[str, Any], detections: list[dict[str, Any]]
) -> tuple[dict[str, list[tuple[Any, Any]]], dict[int, int]]:
    """Kind -> (detection, label), both by index, None for none; and label -> detection of the hits."""
    labels = truth["annotations"]
    hits: dict[int, int] = {}
    ignored = set()
    for d in sorted(range(len(detections)), key=lambda i: -detections[i]["score"]):
        mine = [g for g, a in enumerate(labels) if all(a[k] == detections[d][k] for k in ("image_id", "category_id"))]
        overlap = {g: slow_iou(detections[d]["bbox"], labels[g]["bbox"], bool(labels[g]["iscrowd"])) for g in mine}
        free = [g for g in mine if not labels[g]["iscrowd"] and g not in hits and overlap[g] >= 0.5]
        if free:
            hits[max(free, key=overlap.__getitem__)] = d
        elif any(labels[g]["iscrowd"] and overlap[g] >= 0.5 for g in mine):
            ignored.add(d)
    kinds: dict[str, list[tuple[Any, Any]]] = {name: [] for name in SIX}
    for d, detection in enumerate(detections):
        if d in ignored or d in hits.values():
            continue
        near = [g for g, a in enumerate(labels) if a["image_id"] == detection["image_id"] and not a["iscrowd"]]
        best = max(near, key=lambda g: slow_iou(detection["bbox"], labels[g]["bbox"]), default=None)
        overlap_of_best = 0 if best is None else slow_iou(detection["bbox"], labels[best]["bbox"])
        own = best is not None and labels[best]["category_id"] == detection["category_id"]
        if overlap_of_best < 0.1:
            kinds["background"].append((d, None))
        elif overlap_of_best < 0.5:
            kinds["localisation" if own else "both"].append((d, best))
        else:
            kinds["duplicate" if own else "classification"].append((d, best))
    fixable = {g for name in ("classification", "localisation") for _, g in kinds[name]}
    unfound = [g for g, a in enumerate(labels) if not a["iscrowd"] and g not in hits]
    kinds["missed"] = [(None, g) for g in unfound if g not in fixable]
    kinds["false_positives"] = [case for name in SIX[:5] for case in kinds[name]]
    kinds["false_negatives"] = [(None, g) for g in unfound]
    return kinds, hits


def evaluated_of(truth: Any, detections: Any) -> CocoEvaluation:
    return judge(truth, detections).evaluated


def made(
    rng: np.random.Generator, *, images: int, classes: int = 2, false_an_image: float = 2, labelled: int | None = None
) -> CocoEvaluation:
    """A judged world made without boxes: images differ in how hard they are, the same at every IoU."""
    truth_rows: list[tuple[int, int]] = []
    found_rows: list[tuple[int, int, float, int]] = []
    for image in range(images):
        hard, category = rng.normal(), int(rng.integers(labelled or classes))
        for _ in range(1 + rng.poisson(1)):
            truth_rows.append((image, category))
            seen = 1.2 - hard + rng.normal()
            if seen > 0:
                found_rows.append((image, category, 1 / (1 + np.exp(1 - seen - rng.normal())), len(truth_rows) - 1))
        for _ in range(rng.poisson(false_an_image)):
            score = 1 / (1 + np.exp(1.2 - 1.2 * rng.normal()))
            found_rows.append((image, int(rng.integers(classes)), score, -1))
    at, kind, scores, hit = (np.array(column) for column in zip(*found_rows))
    order = np.lexsort((-scores, at, kind))
    label_image, label_kind = np.array(truth_rows).T
    labels, found = len(truth_rows), len(found_rows)
    truth = GroundTruth(
        images=tuple(GroundTruthImage(i, f"{i}.png", 200, 200) for i in range(images)),
        category_ids=tuple(range(1, classes + 1)),
        categories=tuple(f"class {k}" for k in range(classes)),
        boxes_xywh=np.ones((labels, 4)),
        area=np.ones(labels),
        image=label_image,
        category=label_kind,
        crowd=np.zeros(labels, bool),
    )
    matches = Matches(
        order, np.tile(hit[order], (10, 1)), np.zeros((10, found), bool), np.zeros((10, labels), np.int64)
    )
    nothing = np.empty(0)
    return CocoEvaluation(truth, DetectionArrays(np.ones((found, 4)), scores, at, kind), matches, nothing, nothing)


def shaken(rng: np.random.Generator, world: CocoEvaluation, *, lost: float = 0) -> CocoEvaluation:
    """The same world seen by another network of the same kind: other scores, and a share of the hits lost."""
    found = world.found
    scores = found.scores * rng.uniform(0.4, 1, len(found.scores))
    order = np.lexsort((-scores, found.image, found.category))
    back = np.empty_like(order)
    back[world.matches.order] = np.arange(len(order))
    matched_label = world.matches.matched_label[:, back[order]]
    matched_label = np.where(rng.random(len(order)) < lost, -1, matched_label)
    matches = Matches(order, matched_label, world.matches.ignored, world.matches.matched_detection)
    return CocoEvaluation(
        world.truth,
        DetectionArrays(found.boxes_xywh, scores, found.image, found.category),
        matches,
        world.precision,
        world.recall,
    )


Defect = tuple[str, float | None]


def steel(
    images: Sequence[tuple[Sequence[Defect], Sequence[tuple[str, float]]]],
    categories: Sequence[str] = ("a", "b"),
    *,
    crowds: Sequence[tuple[int, str]] = (),
    sides_px: Sequence[float] | None = None,
) -> CocoEvaluation:
    """Judged images, each with defects (category, score of the exact box found on it or None) and false alarms."""
    ids = {name: k for k, name in enumerate(categories, start=1)}
    labels: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []

    def label(image: int, name: str, box: list[float], crowd: int = 0) -> dict[str, Any]:
        entry = {"id": len(labels) + 1, "image_id": image, "category_id": ids[name], "bbox": box}
        return entry | {"area": box[2] * box[3], "iscrowd": crowd}

    for image, (defects, alarms) in enumerate(images, start=1):
        for i, (name, score) in enumerate(defects):
            side = sides_px[len(labels)] if sides_px is not None else 10.0
            labels.append(label(image, name, [300.0 * i, 0.0, side, side]))
            if score is not None:
                found.append({**{k: labels[-1][k] for k in ("image_id", "category_id", "bbox")}, "score": score})
        for i, (name, score) in enumerate(alarms):
            box = [300.0 * i, 500.0, 10.0, 10.0]
            found.append({"image_id": image, "category_id": ids[name], "bbox": box, "score": score})
    for image, name in crowds:
        labels.append(label(image, name, [0.0, 500.0, 10.0, 10.0], crowd=1))
    truth = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 4000, "height": 4000} for i in range(1, len(images) + 1)
        ],
        "annotations": labels,
        "categories": [{"id": k, "name": name} for name, k in ids.items()],
    }
    return judge(truth, found).evaluated


FILLING = 30  # images on which labels and detector agree, so that there is something to be sure of


def issue_case(
    labels: list[tuple[int, str, Corners]], found: list[tuple[int, str, Corners, float]], *, crowd: tuple[int, ...] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Labels and detections of images 1 to 3, and on the others one of each class, found with 0.9."""
    ids = {name: i for i, name in enumerate(NAMES, 1)}
    agreed = [
        (i, n, (10.0 + 60 * k, 20.0, 50.0 + 60 * k, 70.0)) for i in range(4, 4 + FILLING) for k, n in enumerate(NAMES)
    ]
    truth = {
        "images": [{"id": i, "file_name": f"a/{i}.png", "width": 200, "height": 200} for i in range(1, 4 + FILLING)],
        "annotations": [
            {"id": 100 + n, "image_id": i, "category_id": ids[name], "bbox": xywh(box), "iscrowd": int(n in crowd)}
            for n, (i, name, box) in enumerate([*labels, *agreed])
        ],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }
    results = [*found, *((i, n, b, 0.9) for i, n, b in agreed)]
    return truth, [{"image_id": i, "category_id": ids[n], "bbox": xywh(b), "score": s} for i, n, b, s in results]


def evaluated(truth: dict[str, Any], results: list[dict[str, Any]]) -> CocoEvaluation:
    labels = check_truth(truth)
    return run_coco_eval(labels, check_detections(results, labels), sizes=False)
