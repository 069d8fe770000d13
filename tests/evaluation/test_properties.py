"""Whatever the labels and detections: the AP family is pycocotools' to the last bit, and what must not matter doesn't.

Boxes lie on a coarse grid and scores take few values, so that equal scores, equal boxes, IoUs of exactly 0.5 and areas
of exactly 32 x 32 and 96 x 96 pixels are common; a failing case shrinks to a few boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detect.evaluation.bootstrap import bootstrap_ap
from detect.evaluation.error_analysis import analyze_errors
from detect.evaluation.localisation import ap_by_iou
from detect.evaluation.olrp import olrp
from detect.evaluation.summary import average_precision, judge
from evaluation_cases import KEYS, reference

IMAGES, CATEGORIES = (2, 3, 11), (1, 5, 9)
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])

sides = st.sampled_from([0, 8, 16, 32, 64, 96, 128])
boxes = st.tuples(st.sampled_from([-8, 0, 8, 16, 48]), st.sampled_from([0, 8, 24]), sides, sides)
places = {"image_id": st.sampled_from(IMAGES), "category_id": st.sampled_from(CATEGORIES), "bbox": boxes.map(list)}
annotations = st.fixed_dictionaries(
    {**places, "iscrowd": st.sampled_from([0, 0, 0, 1]), "area": st.sampled_from([0, 500, 1024, 1025, 9216, 9217])}
)
scores = st.sampled_from([0.0, 0.25, 0.5, 0.5000000001, 1.0])
detections = st.fixed_dictionaries({**places, "score": scores})
cases = st.tuples(st.lists(annotations, max_size=8), st.lists(detections, max_size=12))
Case = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def make_truth(labels: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in reversed(IMAGES)],
        "annotations": [{**each, "id": n} for n, each in enumerate(labels, start=1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in reversed(CATEGORIES)],
    }


def box(image: int, category: int, *bbox: int, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


LABEL = box(2, 1, 0, 0, 32, 32, iscrowd=0, area=1024)
CROWD = box(2, 1, 0, 0, 96, 96, iscrowd=1, area=9216)
HIT = box(2, 1, 0, 0, 32, 32, score=0.5)


@quick
@given(cases)
@example(([], []))
@example(([LABEL], []))
@example(([], [HIT]))
@example(([CROWD], [HIT, HIT]))
@example(([CROWD, LABEL], [HIT, HIT]))  # the label is taken before the crowd, which takes the rest
@example(([LABEL, LABEL], [HIT, HIT, HIT]))
@example(([LABEL], [box(2, 1, 0, 0, 32, 16, score=0.5), HIT]))  # equal scores, the first at an IoU of exactly 0.5
def test_ap_and_ar_are_those_of_pycocotools(case: Case) -> None:
    truth, found = make_truth(case[0]), case[1]
    summary = judge(truth, found).summary
    assert [summary[key] for key in KEYS] == reference(truth, found)
    short = average_precision(truth, found)
    assert [short[key] for key in KEYS[:3]] == [summary[key] for key in KEYS[:3]]
    for category in CATEGORIES:
        mine = summary["per_class"][f"class {category}"]
        assert [mine[key] for key in KEYS] == reference(truth, found, category)


@quick
@given(cases)
def test_all_that_is_derived_agrees_with_it(case: Case) -> None:
    """AP by IoU, breakdown, resampling and oLRP each count hits anew from the matches."""
    judgement = judge(make_truth(case[0]), case[1])
    evaluated, summary = judgement.evaluated, judgement.summary
    by_iou = ap_by_iou(evaluated)
    assert (by_iou["0.50"], by_iou["0.75"]) == (summary["AP50"], summary["AP75"])
    ap50 = [np.nan if row["AP50"] is None else row["AP50"] for row in summary["per_class"].values()]
    assert analyze_errors(evaluated).ap50 == pytest.approx(ap50, abs=1e-12, nan_ok=True)
    resampled = bootstrap_ap(evaluated, np.ones((1, len(IMAGES)), np.int64))[0, 0]
    assert resampled == pytest.approx(ap50, abs=1e-12, nan_ok=True)
    for k, row in enumerate(summary["per_class"].values()):
        optimal, counted = olrp(evaluated, k), row["best_f1"]
        assert (optimal["oLRP"] is None) == (row["AP50"] is None)
        if counted["f1"] is not None:  # at no threshold are there fewer misses and false alarms in all than there
            assert optimal["oLRP"] >= 1 - counted["f1"] / (2 - counted["f1"]) - 1e-12


@quick
@given(cases, st.randoms(use_true_random=False))
def test_only_the_order_of_scores_matters(case: Case, random: Any) -> None:
    truth, found = make_truth(case[0]), case[1]
    expected = judge(truth, found).summary
    squeezed = [{**each, "score": 0.9 + each["score"] ** 3 / 10} for each in found]
    shuffled = {key: random.sample(truth[key], len(truth[key])) for key in ("images", "categories")}
    for one in (judge(truth, squeezed).summary, judge({**truth, **shuffled}, found).summary):
        assert [one[key] for key in KEYS] == [expected[key] for key in KEYS]


@quick
@given(cases)
def test_a_worse_scored_detection_costs_nothing_and_a_perfect_one_helps(case: Case) -> None:
    truth, found = make_truth(case[0]), [{**each, "score": 0.2 + each["score"] / 2} for each in case[1]]
    before = judge(truth, found).summary["per_class"]
    extra = [box(image, category, 150, 150, 8, 8, score=0.1) for image in IMAGES for category in CATEGORIES]
    after = judge(truth, found + extra).summary["per_class"]
    # What has no area overlaps with nothing, not even with itself.
    to_find = [a for a in truth["annotations"] if not a["iscrowd"] and a["bbox"][2] * a["bbox"][3]]
    exact = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 1.0} for a in to_find]
    best = judge(truth, exact + found).summary["per_class"]
    for name in before:
        assert [after[name][key] for key in ("AP", "AP50", "AP75")] == [
            before[name][key] for key in ("AP", "AP50", "AP75")
        ]
        if before[name]["AP50"] is not None:
            assert best[name]["AP"] >= before[name]["AP"] - 1e-12


def test_images_may_be_named_by_text() -> None:
    """Ties between images are broken in the order of their sorted ids, also where these are text."""
    labels = [{**LABEL, "image_id": name} for name in ("b", "a10", "a9")]
    found = [{**HIT, "image_id": name} for name in ("a9", "b")] + [box("a10", 1, 48, 48, 32, 32, score=0.5)]  # type: ignore[arg-type]
    truth = {**make_truth(labels), "images": [{"id": name, "file_name": name} for name in ("b", "a9", "a10")]}
    summary = judge(truth, found).summary
    assert [summary[key] for key in KEYS] == reference(truth, found)
    # a10's false alarm is ranked before both hits, though b and a9 come first in the lists.
    assert summary["AP50"] == pytest.approx(67 / 101 * 2 / 3)
