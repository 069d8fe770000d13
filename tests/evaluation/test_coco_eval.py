"""Every AP and AR equals what a run of pycocotools of its own gives, on random cases and on the empty ones."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.evaluation.summary import average_precision, judge
from evaluation_cases import KEYS, random_case, reference


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
    assert [each["kind"] for each in judge(truth, detections).summary["warnings"]] == ["not evaluated"]


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
