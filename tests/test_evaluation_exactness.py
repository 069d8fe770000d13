"""Every AP and AR equals what a run of pycocotools of its own gives, on random cases and on the empty ones."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.evaluation.summary import average_precision, judge

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


def assert_equal_to_pycocotools(truth: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    summary = judge(truth, detections).summary
    assert [summary[key] for key in KEYS] == reference(truth, detections)
    quick = average_precision(truth, detections)
    assert [quick[key] for key in KEYS[:3]] == [summary[key] for key in KEYS[:3]]
    for category in truth["categories"]:
        mine = summary["per_class"][category["name"]]
        assert [mine[key] for key in KEYS] == reference(truth, detections, category["id"])
        assert quick["per_class"][category["name"]]["AP50"] == mine["AP50"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_pycocotools_bit_for_bit(seed: int, ties: bool) -> None:
    assert_equal_to_pycocotools(*random_case(seed, ties=ties))


def test_more_than_a_hundred_detections_an_image_and_category() -> None:
    truth, _ = random_case(4, images=2, categories=1)
    rng = np.random.default_rng(0)
    detections = [
        {**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": float(rng.random())}
        for a in truth["annotations"]
        for _ in range(120)
    ]
    assert_equal_to_pycocotools(truth, detections)
    assert any("not judged" in warning for warning in judge(truth, detections).summary["warnings"])


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_found_is_zero_and_nothing_to_find_is_none(seed: int) -> None:
    truth, detections = random_case(seed)
    assert_equal_to_pycocotools(truth, [])
    assert judge(truth, []).summary["AP"] == 0
    unlabelled = {**truth, "annotations": []}
    assert_equal_to_pycocotools(unlabelled, detections)
    assert judge(unlabelled, detections).summary["AP"] is None
    assert_equal_to_pycocotools(unlabelled, [])


def test_only_crowds_are_nothing_to_find() -> None:
    truth, detections = random_case(5)
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 1
    assert_equal_to_pycocotools(truth, detections)
    summary = judge(truth, detections).summary
    assert summary["AP50"] is None
    assert summary["boxes"] == 0
    assert summary["crowd_boxes"] == len(truth["annotations"])


def test_annotation_ids_do_not_matter() -> None:
    """pycocotools loses the match with annotation id 0; the number must not depend on how labels are numbered."""
    truth, detections = random_case(7)
    expected = judge(truth, detections).summary["AP"]
    for annotation in truth["annotations"]:
        annotation["id"] -= 1
    assert judge(truth, detections).summary["AP"] == expected
    for annotation in truth["annotations"]:
        del annotation["id"]
    assert judge(truth, detections).summary["AP"] == expected


def test_the_arguments_stay_as_they_are() -> None:
    truth, detections = random_case(11)
    before = copy.deepcopy((truth, detections))
    judge(truth, detections)
    assert (truth, detections) == before
