"""The six kinds of error: tiny pictures whose answer is known by hand, and a slow fix judged by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.evaluation.error_analysis import MAIN_ERRORS, SPECIAL_ERRORS, ErrorAnalysis, analyze_errors
from detect.evaluation.records import CocoEvaluation, DetectionArrays, GroundTruth, GroundTruthImage, Matches
from detect.evaluation.summary import judge
from evaluation_cases import AWAY, NAMES, PART, SIX, SLIVER, WHOLE, Corners, case, scattered_case, slow_kinds


def broken_down(*args: Any, **kwargs: Any) -> ErrorAnalysis:
    return analyze_errors(judge(*case(*args, **kwargs)).evaluated)


def counts(result: ErrorAnalysis) -> dict[str, int]:
    """What occurs, of the six kinds."""
    kinds = result.summary()["kinds"]
    return {name: kinds[name]["count"] for name in SIX if kinds[name]["count"]}


def gains(result: ErrorAnalysis, category: str) -> dict[str, float]:
    """What a category gains, of all kinds that change anything."""
    kinds = result.summary()["per_class"][category]["kinds"]
    return {name: row["gain"] for name, row in kinds.items() if abs(row["gain"]) > 1e-12}


class TestOneErrorOfOneKind:
    def test_classification(self) -> None:
        labels = [(1, "patches", WHOLE), (2, "scratches", WHOLE)]
        result = broken_down(labels, [(1, "patches", WHOLE, 0.8), (2, "patches", WHOLE, 0.9)])
        assert counts(result) == {"classification": 1}
        # A false alarm before the only hit halves the precision of patches; scratches have nothing.
        assert result.summary()["AP50"] == pytest.approx((0.5 + 0) / 2)
        assert gains(result, "patches") == pytest.approx({"classification": 0.5, "false_positives": 0.5})
        assert gains(result, "scratches") == pytest.approx({"classification": 1, "false_negatives": 1})
        kinds = result.summary()["kinds"]
        assert [kinds[name]["gain"] for name in ("classification", "false_positives", "false_negatives")] == [
            pytest.approx(gain) for gain in (0.75, 0.25, 0.5)
        ]
        assert (kinds["false_positives"]["count"], kinds["false_negatives"]["count"]) == (1, 1)

    def test_localisation(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", PART, 0.9)])
        assert counts(result) == {"localisation": 1}
        assert gains(result, "patches") == pytest.approx({"localisation": 1, "false_negatives": 1})

    def test_both_also_leaves_its_label_missed(self) -> None:
        labels = [(1, "patches", WHOLE), (2, "scratches", WHOLE)]
        result = broken_down(labels, [(1, "patches", WHOLE, 0.8), (2, "patches", PART, 0.9)])
        assert counts(result) == {"both": 1, "missed": 1}
        assert gains(result, "patches") == pytest.approx({"both": 0.5, "false_positives": 0.5})
        assert gains(result, "scratches") == pytest.approx({"missed": 1, "false_negatives": 1})

    @pytest.mark.parametrize(("kind", "box"), [("duplicate", WHOLE), ("background", AWAY), ("background", SLIVER)])
    def test_a_false_alarm_between_two_hits(self, kind: str, box: Corners) -> None:
        labels = [(1, "patches", WHOLE), (2, "patches", WHOLE)]
        found = [(1, "patches", WHOLE, 0.9), (1, "patches", box, 0.8), (2, "patches", WHOLE, 0.7)]
        result = broken_down(labels, found)
        assert counts(result) == {kind: 1}
        # Precision is 1 at the 51 recalls up to 0.5 and 2 / 3 at the other 50.
        gain = 1 - (51 + 50 * 2 / 3) / 101
        assert gains(result, "patches") == pytest.approx({kind: gain, "false_positives": gain})

    def test_missed(self) -> None:
        result = broken_down([(1, "patches", WHOLE), (2, "patches", WHOLE)], [(1, "patches", WHOLE, 0.9)])
        assert counts(result) == {"missed": 1}
        assert gains(result, "patches") == pytest.approx({"missed": 50 / 101, "false_negatives": 50 / 101})

    def test_none(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", WHOLE, 0.9)])
        assert counts(result) == gains(result, "patches") == {}


class TestEdges:
    @pytest.mark.parametrize(
        ("height", "expected"), [(50.0, {}), (49.0, {"localisation": 1}), (10.0, {"localisation": 1})]
    )
    def test_an_iou_of_a_half_is_right_and_of_a_tenth_localisation(
        self, height: float, expected: dict[str, int]
    ) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", (0.0, 0.0, 100.0, height), 0.9)])
        assert counts(result) == expected

    @pytest.mark.parametrize(("height", "kind"), [(50.0, "classification"), (49.0, "both"), (10.0, "both")])
    def test_the_same_on_another_class(self, height: float, kind: str) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "scratches", (0.0, 0.0, 100.0, height), 0.9)])
        assert counts(result) == {kind: 1} | ({"missed": 1} if kind == "both" else {})

    def test_a_tenth_missed_by_a_hair_is_background(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", (0.0, 0.0, 100.0, 9.99), 0.9)])
        assert counts(result) == {"background": 1, "missed": 1}

    def test_the_label_covered_best_decides_and_of_equals_the_own_class(self) -> None:
        here, beside = (0.0, 0.0, 100.0, 100.0), (0.0, 30.0, 100.0, 130.0)
        found = (0.0, 20.0, 100.0, 120.0)  # IoU 2 / 3 with the one, 9 / 11 with the other
        labels = [(1, "patches", here), (1, "scratches", beside)]
        hits = [(1, "patches", here, 0.9), (1, "scratches", beside, 0.9)]
        assert counts(broken_down(labels, [*hits, (1, "patches", found, 0.8)])) == {"classification": 1}
        assert counts(broken_down(labels, [*hits, (1, "scratches", found, 0.8)])) == {"duplicate": 1}
        same = [(1, "patches", here), (1, "scratches", here)]
        on_both = [(1, "patches", here, 0.9), (1, "scratches", here, 0.9), (1, "scratches", here, 0.8)]
        assert counts(broken_down(same, on_both)) == {"duplicate": 1}

    def test_one_fixed_detection_is_enough_for_a_label(self) -> None:
        """Two wrong classes on one label: the better one finds it, the other is taken away, and it isn't missed."""
        found = [(1, "patches", WHOLE, 0.9), (1, "inclusion", WHOLE, 0.8), (1, "scratches", PART, 0.7)]
        result = broken_down([(1, "scratches", WHOLE)], found)
        assert counts(result) == {"classification": 2, "localisation": 1}
        # Nothing is found as it is. Mended, the classes come out as one hit at 0.9 before the badly placed one.
        expected = {"classification": 1, "localisation": 1, "false_negatives": 1}
        assert gains(result, "scratches") == pytest.approx(expected)

    def test_a_better_scored_one_takes_the_place_of_the_hit(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", PART, 0.9), (1, "patches", WHOLE, 0.8)])
        assert counts(result) == {"localisation": 1}
        assert gains(result, "patches") == pytest.approx({"localisation": 0.5, "false_positives": 0.5})

    def test_a_worse_scored_one_gains_nothing_and_the_hit_stays(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", PART, 0.8), (1, "patches", WHOLE, 0.9)])
        assert counts(result) == {"localisation": 1}
        assert gains(result, "patches") == {}

    def test_crowd_regions_are_no_labels_and_what_lies_on_them_no_error(self) -> None:
        labels = [(1, "patches", WHOLE), (2, "patches", WHOLE)]
        found = [(1, "patches", PART, 0.9), (1, "scratches", WHOLE, 0.8), (2, "patches", WHOLE, 0.7)]
        result = broken_down(labels, found, crowd=(0,))
        assert counts(result) == {"background": 1}  # of another class than the crowd
        assert result.summary()["AP50"] == pytest.approx(1)

    def test_nothing_found(self) -> None:
        result = broken_down([(1, "patches", WHOLE), (2, "scratches", WHOLE)], [])
        assert counts(result) == {"missed": 2}
        assert result.summary()["AP50"] == 0
        assert result.summary()["kinds"]["missed"]["gain"] == 1

    def test_nothing_to_find(self) -> None:
        result = broken_down([], [(1, "patches", WHOLE, 0.9)])
        assert counts(result) == {"background": 1}
        summary = result.summary()
        assert summary["AP50"] is None
        assert all(row["gain"] is None for row in summary["kinds"].values())
        assert counts(broken_down([], [])) == {}

    def test_a_class_without_labels_has_errors_but_no_gain(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "inclusion", WHOLE, 0.9)])
        row = result.summary()["per_class"]["inclusion"]
        assert row["AP50"] is None
        assert row["kinds"]["classification"] == {"count": 1, "gain": None}
        assert gains(result, "patches")["classification"] == pytest.approx(1)

    def test_the_hundred_and_first_detection_is_no_error(self) -> None:
        result = broken_down([(1, "patches", WHOLE)], [(1, "patches", AWAY, 0.1 + i / 1000) for i in range(103)])
        assert counts(result) == {"background": 100, "missed": 1}


class TestRows:
    def test_each_error_names_its_detection_and_its_label(self) -> None:
        labels = [(1, "patches", WHOLE), (2, "scratches", WHOLE), (3, "inclusion", WHOLE), (3, "inclusion", AWAY)]
        found = [
            (3, "patches", PART, 0.2),
            (2, "patches", WHOLE, 0.3),
            (1, "patches", WHOLE, 0.9),
            (1, "patches", WHOLE, 0.5),
            (1, "patches", AWAY, 0.6),
            (1, "patches", PART, 0.7),
        ]
        errors = broken_down(labels, found).errors
        rows = {name: list(zip(errors[name].detections.tolist(), errors[name].labels.tolist())) for name in errors}
        assert rows == {
            "classification": [(1, 1)],
            "localisation": [(5, 0)],
            "both": [(0, 2)],
            "duplicate": [(3, 0)],
            "background": [(4, -1)],
            "missed": [(-1, 2), (-1, 3)],
            "false_positives": [(5, 0), (4, -1), (3, 0), (1, 1), (0, 2)],
            "false_negatives": [(-1, 1), (-1, 2), (-1, 3)],
        }
        assert errors["localisation"].iou == pytest.approx([0.4])
        assert np.isnan(errors["background"].iou).all()
        assert np.isnan(errors["missed"].iou).all()

    def test_counts_above_a_threshold_are_those_of_the_detections_above_it(self) -> None:
        for seed in range(4):
            truth, detections = scattered_case(seed)
            whole = analyze_errors(judge(truth, detections).evaluated)
            for threshold in (0.0, 0.4, 0.7):
                kept = [each for each in detections if each["score"] >= threshold]
                alone = analyze_errors(judge(truth, kept).evaluated).counts()
                assert {name: row.tolist() for name, row in whole.counts(threshold).items()} == {
                    name: row.tolist() for name, row in alone.items()
                }

    def test_the_summary_is_json_with_the_same_keys_everywhere(self) -> None:
        summary = broken_down([(1, "patches", WHOLE)], [(1, "scratches", WHOLE, 0.9)]).summary(0.5)
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        assert set(summary) == {"AP50", "foreground_iou", "background_iou", "score_threshold", "kinds", "per_class"}
        assert list(summary["kinds"]) == [kind.name for kind in (*MAIN_ERRORS, *SPECIAL_ERRORS)]
        assert list(summary["per_class"]) == list(NAMES)
        for row in summary["per_class"].values():
            assert list(row["kinds"]) == list(summary["kinds"])


# What follows does the same again, slowly: boxes are paired by loops, detections fixed one by one, pycocotools run.


def ap50_of_classes(truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[int, float]:
    """AP50 of each class by a run of pycocotools; -1 where nothing is to find."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = truth
        labels.createIndex()
        results = COCO()
        area = [each["bbox"][2] * each["bbox"][3] for each in detections]
        rows = [{**each, "id": i + 1, "area": area[i], "iscrowd": 0} for i, each in enumerate(detections)]
        results.dataset = {**truth, "annotations": rows}
        results.createIndex()
        coco_eval = COCOeval(labels, results, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
    return {k: float(coco_eval.eval["precision"][0, :, i, 0, 2].mean()) for i, k in enumerate(coco_eval.params.catIds)}


def slow_mended(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    name: str,
    cases: list[tuple[Any, Any]],
    hits: dict[int, int],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    labels = truth["annotations"]
    if name in ("missed", "false_negatives"):
        gone = {g for _, g in cases}
        return {**truth, "annotations": [a for g, a in enumerate(labels) if g not in gone]}, detections
    fixed: dict[int, dict[str, Any]] = dict(enumerate(detections))
    if name in ("classification", "localisation"):
        rivals = {g: [hits[g]] if g in hits else [] for _, g in cases}
        for d, g in cases:
            key = "category_id" if name == "classification" else "bbox"
            fixed[d] = {**detections[d], key: labels[g][key]}
            rivals[g].append(d)
        for on_one in rivals.values():
            best = min(on_one, key=lambda d: (-detections[d]["score"], d))
            for d in on_one:
                if d != best:
                    del fixed[d]
    else:
        for d, _ in cases:
            del fixed[d]
    return truth, list(fixed.values())


@pytest.mark.parametrize("seed", range(15))
def test_equals_fixing_one_by_one_and_running_pycocotools_again(seed: int) -> None:
    truth, detections = scattered_case(seed)
    judgement = judge(truth, detections)
    result = analyze_errors(judgement.evaluated)
    kinds, hits = slow_kinds(truth, detections)
    before = ap50_of_classes(truth, detections)
    labelled = {a["category_id"] for a in truth["annotations"] if not a["iscrowd"]}
    assert result.ap50[[k - 1 for k in labelled]] == pytest.approx([before[k] for k in labelled], abs=1e-12)
    assert result.summary()["AP50"] == pytest.approx(judgement.summary["AP50"], abs=1e-12)
    for name, cases in kinds.items():
        errors = result.errors[name]
        mine = [(None if d < 0 else d, None if g < 0 else g) for d, g in zip(errors.detections, errors.labels)]
        assert sorted(mine, key=str) == sorted(cases, key=str), name
        after = ap50_of_classes(*slow_mended(truth, detections, name, cases, hits))
        for k in range(1, 5):
            if k in labelled:
                expected = (1 if after[k] < 0 else after[k]) - before[k]
                assert errors.gain[k - 1] == pytest.approx(expected, abs=1e-12), (name, k)
            else:
                assert np.isnan(errors.gain[k - 1])


def test_every_false_alarm_has_one_kind_and_no_fix_lowers_ap50() -> None:
    seen = dict.fromkeys(SIX, 0)
    for seed in range(100, 110):
        result = analyze_errors(judge(*scattered_case(seed, images=12)).evaluated)
        of_kinds = np.concatenate([result.errors[name].detections for name in SIX[:5]])
        assert sorted(of_kinds) == sorted(result.errors["false_positives"].detections)
        for name, errors in result.errors.items():
            assert (errors.gain[np.isfinite(errors.gain)] >= -1e-12).all()
            scores = result.evaluated.found.scores[errors.detections[errors.detections >= 0]]
            assert (np.diff(scores) <= 0).all()
            if name in seen:
                seen[name] += len(errors.labels)
    assert min(seen.values()) > 5, "the cases show every kind"


def test_five_thousand_images_and_eighty_classes_take_seconds() -> None:
    """36,000 labels and 116,000 detections: half a second on one slow core."""
    rng = np.random.default_rng(0)
    images, classes, labels, found = 5000, 80, 36_000, 116_000
    boxes = np.concatenate([rng.uniform(0, 500, (labels, 2)), rng.uniform(10, 140, (labels, 2))], axis=1)
    image, category = rng.integers(images, size=labels), rng.integers(classes, size=labels)
    truth = GroundTruth(
        images=tuple(GroundTruthImage(i, f"{i}.png", 640, 640) for i in range(images)),
        category_ids=tuple(range(classes)),
        categories=tuple(f"class {k}" for k in range(classes)),
        boxes_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        image=image,
        category=category,
        crowd=np.zeros(labels, bool),
    )
    source = rng.integers(labels, size=found)
    moved = boxes[source] + rng.normal(0, 8, (found, 4)) * [1, 1, 0, 0]
    named = np.where(rng.random(found) < 0.8, category[source], rng.integers(classes, size=found))
    detections = DetectionArrays(moved, rng.random(found), image[source], named)
    order = np.lexsort((-detections.scores, image[source], named))
    takers = np.full(labels, -1)
    hits = rng.permutation(found)[: labels // 2]
    takers[source[hits]] = hits
    label = np.full(found, -1)
    label[takers[takers >= 0]] = np.flatnonzero(takers >= 0)
    matches = Matches(order, np.tile(label[order], (10, 1)), np.zeros((10, found), bool), np.tile(takers, (10, 1)))
    started = time.process_time()
    analyze_errors(CocoEvaluation(truth, detections, matches, np.empty(0), np.empty(0))).summary(0.5)
    assert time.process_time() - started < 5  # less than one on a slow core
