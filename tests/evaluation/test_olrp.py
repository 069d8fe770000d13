"""oLRP on cases whose answer is known by hand, and against its definition, threshold by threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detect.evaluation.olrp import olrp
from detect.evaluation.summary import judge
from evaluation_cases import AWAY, PART, WHOLE, case, scattered_case, slow_iou, slow_kinds

PATCHES = 1
GOOD = (0.0, 0.0, 100.0, 80.0)  # IoU 0.8 with WHOLE


def of_patches(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return olrp(judge(*case(*args, **kwargs)).evaluated, PATCHES)


def row(
    value: float | None, threshold: float | None, parts: tuple[float | None, ...], adds: tuple[float | None, ...]
) -> dict[str, Any]:
    names = ("localisation", "false_positives", "false_negatives")
    flat = dict(zip(names, parts)) | {f"adds {name}": add for name, add in zip(names, adds)}
    return {"oLRP": value, "threshold": threshold} | flat


def flat(result: dict[str, Any]) -> dict[str, Any]:
    assert list(result) == ["oLRP", "threshold", "localisation", "false_positives", "false_negatives", "adds"]
    adds = {f"adds {name}": value for name, value in result["adds"].items()}
    return {key: value for key, value in result.items() if key != "adds"} | adds


ONE, TWO = [(1, "patches", WHOLE)], [(1, "patches", WHOLE), (2, "patches", WHOLE)]


@pytest.mark.parametrize(
    ("labels", "found", "expected"),
    [
        pytest.param(ONE, [(1, "patches", WHOLE, 0.7)], row(0, 0.7, (0, 0, 0), (0, 0, 0)), id="perfect"),
        # An IoU of 0.8 is 0.4 of the way from 1 to 0.5.
        pytest.param(ONE, [(1, "patches", GOOD, 0.7)], row(0.4, 0.7, (0.2, 0, 0), (0.4, 0, 0)), id="inexact"),
        pytest.param(TWO, [(1, "patches", WHOLE, 0.7)], row(0.5, 0.7, (0, 0, 0.5), (0, 0, 0.5)), id="missed"),
        pytest.param(
            ONE,
            [(1, "patches", AWAY, 0.9), (1, "patches", WHOLE, 0.7)],
            row(0.5, 0.7, (0, 0.5, 0), (0, 0.5, 0)),
            id="false alarm before the hit",
        ),
        pytest.param(
            TWO,
            [(1, "patches", WHOLE, 0.9), (1, "patches", AWAY, 0.8), (2, "patches", GOOD, 0.7)],
            # At 0.9: one of two missed, 1 / 2. At 0.7: (0.4 + 1) / 3, a little better.
            row(1.4 / 3, 0.7, (0.1, 1 / 3, 0), (0.4 / 3, 1 / 3, 0)),
            id="all three",
        ),
        pytest.param(
            TWO,
            [
                (1, "patches", WHOLE, 0.9),
                (1, "patches", AWAY, 0.8),
                (1, "patches", AWAY, 0.7),
                (2, "patches", GOOD, 0.6),
            ],
            row(0.5, 0.9, (0, 0, 0.5), (0, 0, 0.5)),
            id="the second hit is not worth its two false alarms",
        ),
        pytest.param(
            TWO,
            [(1, "patches", WHOLE, 0.9), (1, "patches", AWAY, 0.9)],
            row(2 / 3, 0.9, (0, 0.5, 0.5), (0, 1 / 3, 1 / 3)),
            id="a threshold can't part equal scores",
        ),
        pytest.param(
            ONE, [(1, "patches", AWAY, 0.9)], row(1, None, (None, None, 1), (0, 0, 1)), id="only false alarms"
        ),
        pytest.param(ONE, [], row(1, None, (None, None, 1), (0, 0, 1)), id="nothing found"),
        pytest.param(
            ONE,
            [(1, "patches", (0.0, 0.0, 100.0, 50.0), 0.9)],
            row(1, None, (None, None, 1), (0, 0, 1)),
            id="an IoU of 0.5 is as bad as silence",
        ),
        pytest.param([], [(1, "patches", WHOLE, 0.9)], row(None, None, (None,) * 3, (None,) * 3), id="no label"),
    ],
)
def test_by_hand(labels: Any, found: Any, expected: dict[str, Any]) -> None:
    assert flat(of_patches(labels, found)) == pytest.approx(expected)


def test_crowd_regions_cost_nothing() -> None:
    found = [(1, "patches", PART, 0.9), (2, "patches", WHOLE, 0.8)]
    assert of_patches(TWO, found, crowd=(0,))["oLRP"] == 0


def test_the_mean_is_over_classes_with_labels() -> None:
    labels = [*TWO, (3, "scratches", WHOLE)]
    found = [(1, "patches", GOOD, 0.9), (2, "patches", WHOLE, 0.9), (3, "inclusion", WHOLE, 0.9)]
    result = olrp(judge(*case(labels, found)).evaluated)
    # patches: (0.4 + 0) / 2; scratches, not found: 1; inclusion has no label.
    assert flat(result) == pytest.approx(row(0.6, None, (0.1, 0, 0.5), (0.1, 0, 0.5)))
    assert olrp(judge(*case([], [])).evaluated)["oLRP"] is None


@pytest.mark.parametrize("seed", range(8))
def test_is_the_least_over_all_thresholds(seed: int) -> None:
    truth, detections = scattered_case(seed)
    evaluated = judge(truth, detections).evaluated
    for category in (1, 2, 3):
        boxes = sum(a["category_id"] == category and not a["iscrowd"] for a in truth["annotations"])
        costs = [1.0] if boxes else []
        for threshold in {each["score"] for each in detections} if boxes else ():
            shown = [each for each in detections if each["score"] >= threshold and each["category_id"] == category]
            kinds, hits = slow_kinds(truth, shown)
            pairs = [(shown[d]["bbox"], truth["annotations"][g]["bbox"]) for g, d in hits.items()]
            inexact = sum((1 - slow_iou(*pair)) / 0.5 for pair in pairs)
            false = len(kinds["false_positives"])
            costs.append((inexact + false + boxes - len(hits)) / (boxes + false))
        mine = olrp(evaluated, category - 1)
        assert mine["oLRP"] == (pytest.approx(min(costs)) if costs else None)
        if boxes:
            assert sum(mine["adds"].values()) == pytest.approx(mine["oLRP"])
    assert np.isfinite(olrp(evaluated)["oLRP"])
