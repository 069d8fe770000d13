"""Localisation, thresholds, confusion and outcomes on small cases whose answer is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from detect.evaluation.records import Judgement
from detect.evaluation.summary import judge
from detect.report.tables import edge_bias_text
from evaluation_cases import NAMES, case


def judged(*args: Any, threshold: float | None = None, **kwargs: Any) -> Judgement:
    return judge(*case(*args, **kwargs), score_threshold=threshold)


def test_bias_of_each_edge_has_its_sign_and_its_words() -> None:
    labels = [(i, "scratches", (50.0, 60.0, 100.0, 160.0)) for i in (1, 2, 3)]
    found = [(i, "scratches", (52.0, 57.0, 100.2, 163.1), 0.9) for i in (1, 2, 3)]
    row = judged(labels, found).summary["per_class"]["scratches"]
    expected = {"left": 2.0, "top": -3.0, "right": 0.2, "bottom": 3.1}
    assert row["edge_bias_px"] == pytest.approx(expected)
    assert row["matched"] == 3
    assert row["mean_iou"] == pytest.approx(48 * 100 / (50 * 100 + 48.2 * 106.1 - 48 * 100))
    words = "ends 3.1 px too low at the bottom, starts 3.0 px too high at the top, starts 2.0 px too far right"
    assert edge_bias_text(row) == words


def test_scatter_is_no_bias() -> None:
    labels = [(i, "patches", (50.0, 50.0, 100.0, 100.0)) for i in (1, 2, 3)]
    found = [(i, "patches", (50.0 + d, 50.0, 100.0, 100.0), 0.9) for i, d in ((1, -4.0), (2, 0.0), (3, 6.0))]
    row = judged(labels, found).summary["per_class"]["patches"]
    assert row["edge_bias_px"]["left"] == pytest.approx(2 / 3)
    assert row["edge_sd_px"]["left"] == pytest.approx((152 / 9) ** 0.5)
    assert edge_bias_text(row) == "no edge has a significant bias of 0.5 px or more"


def test_a_class_without_matches_has_none() -> None:
    row = judged([(1, "patches", (50, 50, 100, 100))], []).summary["per_class"]["patches"]
    assert row["mean_iou"] is None
    assert row["edge_bias_px"] == dict.fromkeys(("left", "top", "right", "bottom"))
    assert row["AP"] == 0
    assert row["best_f1"]["threshold"] is None


HERE, THERE, ELSEWHERE = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 160.0, 150.0), (10.0, 120.0, 50.0, 180.0)


def test_best_f1_threshold_and_table() -> None:
    labels = [(1, "patches", HERE), (2, "patches", HERE), (3, "patches", HERE), (3, "patches", THERE)]
    found = [
        (1, "patches", HERE, 0.9),
        (2, "patches", HERE, 0.8),
        (2, "patches", THERE, 0.8),
        (3, "patches", HERE, 0.7),
    ]
    found += [(1, "patches", ELSEWHERE, s) for s in (0.3, 0.2)]
    summary = judged(labels, found).summary
    assert summary["best_f1"] == {"threshold": 0.7, "precision": 0.75, "recall": 0.75, "f1": 0.75}
    assert summary["per_class"]["patches"]["best_f1"] == summary["best_f1"]
    assert summary["score_threshold"] == 0.7
    row = next(r for r in summary["thresholds"] if r["threshold"] == 0.8)
    assert (row["found"], row["false"], row["missed"]) == (2, 1, 2)
    assert summary["thresholds"][-1]["precision"] is None  # no detection with a score of 0.95


def test_confusion_counts_classes_and_background() -> None:
    labels = [(1, "patches", HERE), (1, "scratches", THERE), (2, "inclusion", HERE), (2, "inclusion", THERE)]
    found = [
        (1, "patches", HERE, 0.9),
        (1, "patches", HERE, 0.8),  # a second box on the same defect
        (1, "inclusion", THERE, 0.7),  # the wrong class
        (2, "inclusion", HERE, 0.6),
        (3, "scratches", HERE, 0.6),
        (2, "inclusion", THERE, 0.1),  # below the threshold
    ]
    confusion = judged(labels, found, threshold=0.5).summary["confusion"]
    assert confusion["labels"] == [*NAMES, "background"]
    assert confusion["matrix"] == [[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
    assert (confusion["score_threshold"], confusion["iou_threshold"]) == (0.5, 0.5)


def test_the_higher_score_takes_the_label_and_equal_overlap_its_own_class() -> None:
    found = [(1, "scratches", HERE, 0.9), (1, "patches", HERE, 0.8)]
    one = judged([(1, "patches", HERE)], found, threshold=0.5).summary["confusion"]["matrix"]
    assert one == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    two = judged([(1, "patches", HERE), (1, "scratches", HERE)], found, threshold=0.5).summary["confusion"]["matrix"]
    assert two == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_crowd_regions_are_neither_missed_nor_false() -> None:
    labels = [(1, "patches", (0, 0, 200, 200)), (2, "patches", HERE)]
    found = [(1, "patches", HERE, 0.9), (1, "patches", THERE, 0.9), (2, "patches", HERE, 0.9)]
    result = judged(labels, found, crowd=(0,))
    assert result.summary["AP"] == pytest.approx(1)
    assert sum(map(sum, result.summary["confusion"]["matrix"])) == 1
    assert result.summary["at_threshold"]["false"] == 0
    assert result.outcomes[0].misses == result.outcomes[0].false_alarms == result.outcomes[0].hits == ()
    assert result.outcomes[0].crowd_xyxy == ((0, 0, 200, 200),)
    nothing = judged(labels, [], crowd=(0,))
    assert nothing.outcomes[0].misses == ()
    assert nothing.summary["at_threshold"]["missed"] == 1


def test_outcomes_name_hits_misses_and_false_alarms() -> None:
    labels = [(1, "patches", HERE), (1, "scratches", THERE), (2, "inclusion", HERE)]
    found = [
        (1, "patches", (10.0, 10.0, 60.0, 50.0), 0.9),
        (1, "inclusion", THERE, 0.7),
        (2, "inclusion", HERE, 0.2),
        (3, "patches", HERE, 0.6),
    ]
    first, second, third = judged(labels, found, threshold=0.5).outcomes
    assert [(h.category, h.score, h.iou) for h in first.hits] == [("patches", 0.9, pytest.approx(0.8))]
    assert [m.category for m in first.misses] == ["scratches"]
    alarm = first.false_alarms[0]
    assert (alarm.category, alarm.nearest, alarm.iou) == ("inclusion", "scratches", 1.0)
    assert [m.category for m in second.misses] == ["inclusion"]  # found, but below the threshold
    assert (third.false_alarms[0].nearest, third.false_alarms[0].iou) == (None, 0)


def test_outcomes_agree_with_the_counts_at_every_threshold() -> None:
    labels = [(i, n, b) for i in (1, 2, 3) for n, b in zip(NAMES, (HERE, THERE, ELSEWHERE))]
    found = [
        (1, "inclusion", HERE, 0.9),
        (1, "inclusion", (12.0, 10.0, 60.0, 60.0), 0.95),
        (2, "patches", HERE, 0.4),
        (2, "scratches", ELSEWHERE, 0.6),
        (3, "patches", THERE, 0.55),
    ]
    for threshold in (0.0, 0.5, 0.6, 0.92, 1.0):
        result = judged(labels, found, threshold=threshold)
        total = result.summary["at_threshold"]
        assert total["found"] == sum(len(o.hits) for o in result.outcomes)
        assert total["missed"] == sum(len(o.misses) for o in result.outcomes)
        assert total["false"] == sum(len(o.false_alarms) for o in result.outcomes)
        by_class = [c["at_threshold"] for c in result.summary["per_class"].values()]
        assert total["found"] == sum(c["found"] for c in by_class)
        matrix = result.summary["confusion"]["matrix"]
        assert sum(map(sum, matrix[:-1])) == len(labels)


def test_the_summary_is_json_and_has_the_documented_keys() -> None:
    result = judged([(1, "patches", HERE)], [(1, "patches", HERE, 0.9)])
    summary = json.loads(json.dumps(result.summary, allow_nan=False))
    keys = {"schema", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    keys |= {"images", "boxes", "detections", "per_class", "confusion", "pr_curves", "versions", "warnings"}
    assert keys <= summary.keys()
    assert summary["schema"] == 1
    assert list(summary["per_class"]) == list(NAMES)
    assert summary["per_class"]["scratches"]["AP"] is None
    assert set(summary["versions"]) == {"detect", "pycocotools", "numpy", "python"}
    assert len(summary["pr_curves"]["recall"]) == len(summary["pr_curves"]["per_class"]["patches"]["0.50"]) == 101
    assert summary["pr_curves"]["per_class"]["scratches"] is None
    assert result.detections == [
        {"image_id": 1, "category_id": 2, "bbox": [10.0, 10.0, 50.0, 50.0], "score": 0.9},
    ]
