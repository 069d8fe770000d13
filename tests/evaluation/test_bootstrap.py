"""Bootstrap intervals: every resample is judged as pycocotools would, and the intervals have their stated coverage.

Run as a script, it prints how often they do, for few images and many: the table of docs/compare.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detect.errors import DataError
from detect.evaluation.bootstrap import (
    Interval,
    bootstrap,
    bootstrap_ap,
    bootstrap_counts,
    bootstrap_interval,
    confidence_intervals,
    paired_bootstrap,
    paired_difference_intervals,
    report_figures,
    report_intervals,
    resample,
)
from detect.evaluation.coco_eval import at_threshold
from detect.evaluation.records import CocoEvaluation, DetectionArrays, GroundTruth, GroundTruthImage, Matches
from detect.evaluation.summary import judge
from evaluation_cases import evaluated_of, made, random_case, reference, shaken


def literal_copies(truth: dict[str, Any], detections: list[dict[str, Any]], counts: list[int]) -> tuple[Any, Any]:
    """The data set with each image ``counts`` times, under new ids in the order of the old ones."""
    copied: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    found: list[dict[str, Any]] = []
    for image_id, count in zip(sorted(image["id"] for image in truth["images"]), counts):
        for _ in range(count):
            new = len(copied["images"]) + 1
            copied["images"].append({"id": new})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image_id:
                    number = len(copied["annotations"]) + 1
                    copied["annotations"].append({**annotation, "image_id": new, "id": number})
            found += [{**each, "image_id": new} for each in detections if each["image_id"] == image_id]
    return copied, found


def figures(values: np.ndarray) -> list[float | None]:
    """AP, AP50 and AP75 of float[T, K]."""
    defined = values[:, np.isfinite(values[0])]
    return [float(defined.mean()), *map(float, defined[[0, 5]].mean(axis=1))] if defined.size else [None] * 3


class TestResampledPrecision:
    @pytest.mark.parametrize("seed", range(12))
    def test_equals_pycocotools_on_literal_copies(self, seed: int) -> None:
        """With crowds, images without boxes, a category never labelled, and equal scores (within an image too)."""
        truth, detections = random_case(seed, ties=seed % 3 != 0)
        counts = bootstrap_counts(len(truth["images"]), resamples=3, seed=seed)
        values = bootstrap_ap(evaluated_of(truth, detections), counts)
        for drawn, mine in zip(counts.tolist(), values):
            copied = literal_copies(truth, detections, drawn)
            assert figures(mine) == pytest.approx(reference(*copied)[:3], abs=1e-12)
            for k, category in enumerate(sorted(each["id"] for each in truth["categories"])):
                assert figures(mine[:, k : k + 1]) == pytest.approx(reference(*copied, category)[:3], abs=1e-12)

    def test_the_images_as_they_are_give_the_figures_of_the_judge(self) -> None:
        truth, detections = random_case(1, images=30)
        judgement = judge(truth, detections)
        values = bootstrap_ap(judgement.evaluated, np.ones((1, 30), np.int64))[0]
        assert figures(values) == pytest.approx([judgement.summary[key] for key in ("AP", "AP50", "AP75")], abs=1e-12)

    def test_a_class_without_detections_is_zero_and_one_without_boxes_undefined(self) -> None:
        truth, detections = random_case(2)
        labelled = sorted({each["category_id"] for each in truth["annotations"] if not each["iscrowd"]})
        position = sorted(each["id"] for each in truth["categories"]).index(labelled[0])
        others = [each for each in detections if each["category_id"] != labelled[0]]
        values = bootstrap_ap(evaluated_of(truth, others), np.ones((2, 6), np.int64))
        assert (values[:, :, position] == 0).all()
        unlabelled = {**truth, "annotations": []}
        assert np.isnan(bootstrap_ap(evaluated_of(unlabelled, detections), np.ones((2, 6), np.int64))).all()
        assert (bootstrap_ap(evaluated_of(truth, []), np.ones((1, 6), np.int64))[0, 0] <= 0).sum() >= 1

    def test_a_thousand_resamples_take_seconds(self) -> None:
        """360 images, 6 classes, 100 detections an image: about a second on one slow core."""
        rng = np.random.default_rng(0)
        evaluated = made(rng, images=360, classes=6, false_an_image=97)
        started = time.process_time()
        bootstrap_ap(evaluated, bootstrap_counts(360, resamples=1000, seed=0))
        assert time.process_time() - started < 10


class TestReportFigures:
    COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

    @pytest.mark.parametrize("seed", range(6))
    def test_equal_those_of_the_judge_on_literal_copies(self, seed: int) -> None:
        truth, detections = random_case(seed, ties=seed % 2 == 0)
        evaluated = evaluated_of(truth, detections)
        counts = bootstrap_counts(len(truth["images"]), resamples=3, seed=seed)
        figures = report_figures(evaluated, counts, 0.45)
        for row, drawn in enumerate(counts.tolist()):
            copied = judge(*literal_copies(truth, detections, drawn), score_threshold=0.45).summary
            for category, told in {None: copied, **copied["per_class"]}.items():
                expected = {key: told[key] for key in self.COCO_KEYS}
                expected |= {key: told["at_threshold"][key] for key in ("precision", "recall", "f1")}
                for key, value in expected.items():
                    mine = figures[key, category][row]
                    assert (None if np.isnan(mine) else mine) == pytest.approx(value, abs=1e-12), (key, category)

    def test_the_best_f1_is_that_of_its_own_threshold_which_is_held_fast(self) -> None:
        truth, detections = random_case(3, images=12, ties=False)
        evaluated = evaluated_of(truth, detections)
        best = judge(truth, detections).summary
        counts = bootstrap_counts(12, resamples=3, seed=0)
        figures = report_figures(evaluated, np.concatenate([np.ones_like(counts[:1]), counts]), 0.1)
        for k, (category, told) in enumerate({**best["per_class"], None: best}.items()):
            if told["best_f1"]["threshold"] is None:
                assert np.isnan(figures["best_f1", category]).all()
                continue
            assert figures["best_f1", category][0] == pytest.approx(told["best_f1"]["f1"], abs=1e-12)
            for row, drawn in enumerate(counts.tolist(), start=1):
                copied = evaluated_of(*literal_copies(truth, detections, drawn))
                at = at_threshold(copied, told["best_f1"]["threshold"], None if category is None else k)
                assert figures["best_f1", category][row] == pytest.approx(at["f1"], abs=1e-12)

    @pytest.mark.parametrize("seed", range(4))
    def test_olrp_is_counted_at_its_own_threshold_which_is_held_fast(self, seed: int) -> None:
        truth, detections = random_case(seed, images=12, ties=False)
        evaluated = evaluated_of(truth, detections)
        best = judge(truth, detections).summary
        counts = bootstrap_counts(12, resamples=3, seed=seed)
        figures = report_figures(evaluated, np.concatenate([np.ones_like(counts[:1]), counts]), 0.1)
        seen = [best, *best["per_class"].values()]
        for category, told in zip((None, *best["per_class"]), seen):
            value = figures["oLRP", category][0]
            assert (None if np.isnan(value) else value) == pytest.approx(told["olrp"]["oLRP"], abs=1e-9)
        for row, drawn in enumerate(counts.tolist(), start=1):
            copied = literal_copies(truth, detections, drawn)
            expected = [self.lrp(*copied, name, of["olrp"]["threshold"]) for name, of in best["per_class"].items()]
            mine = [figures["oLRP", name][row] for name in best["per_class"]]
            assert mine == pytest.approx(expected, abs=1e-9, nan_ok=True)
            assert figures["oLRP", None][row] == pytest.approx(np.nanmean(expected), abs=1e-9)

    @staticmethod
    def lrp(truth: dict[str, Any], detections: list[dict[str, Any]], name: str, threshold: float | None) -> float:
        """Counted one by one."""
        told = judge(truth, detections, score_threshold=1.0 if threshold is None else threshold).outcomes
        hits = [hit.iou for each in told for hit in each.hits if hit.category == name] if threshold else []
        misses = sum(miss.category == name for each in told for miss in each.misses)
        false = sum(alarm.category == name for each in told for alarm in each.false_alarms) if threshold else 0
        if threshold is None:
            misses += sum(hit.category == name for each in told for hit in each.hits)
        if not len(hits) + misses:
            return float("nan")
        return (sum((1 - iou) / 0.5 for iou in hits) + misses + false) / (len(hits) + misses + false)


class TestReportIntervals:
    KEYS = (*TestReportFigures.COCO_KEYS, "precision", "recall", "f1", "best_f1", "oLRP")

    def test_every_figure_has_its_interval_around_it(self) -> None:
        truth, detections = random_case(3, images=40, ties=False)
        summary = judge(truth, detections).summary
        told = report_intervals(evaluated_of(truth, detections), resamples=300)
        assert told["threshold"] == summary["score_threshold"]
        assert (told["resamples"], told["seed"], told["confidence"], told["groups"]) == (300, 0, 0.95, 40)
        assert list(told["per_class"]) == list(summary["per_class"])
        for of, figures in (
            (told["overall"], summary),
            *zip(told["per_class"].values(), summary["per_class"].values()),
        ):
            assert tuple(of) == self.KEYS
            values = {**figures, **figures["at_threshold"], "best_f1": figures["best_f1"]["f1"]}
            values["oLRP"] = figures["olrp"]["oLRP"]
            for key in self.KEYS:
                if values[key] is None or not figures["boxes"]:  # a precision may be 0 without a box to find
                    assert of[key] == {"low": None, "high": None}
                else:
                    assert 0 <= of[key]["low"] < values[key] < of[key]["high"] <= 1

    def test_it_agrees_with_the_bootstrap_of_one_run(self) -> None:
        truth, detections = random_case(3, images=20)
        evaluated = evaluated_of(truth, detections)
        told = report_intervals(evaluated, resamples=100, seed=5, groups=[i // 2 for i in range(20)])
        expected = bootstrap([evaluated], resamples=100, seed=5, groups=[i // 2 for i in range(20)])
        assert told["groups"] == 10
        for key, interval in expected.overall.items():
            assert told["overall"][key] == {"low": interval.low, "high": interval.high}
        for name, of_class in expected.per_class.items():
            assert told["per_class"][name]["AP"] == {"low": of_class["AP"].low, "high": of_class["AP"].high}

    def test_seed_and_threshold_are_obeyed(self) -> None:
        truth, detections = random_case(3, images=20, ties=False)
        evaluated = evaluated_of(truth, detections)
        first, again, other = (report_intervals(evaluated, resamples=100, seed=seed) for seed in (0, 0, 1))
        assert first == again
        assert first["overall"] != other["overall"]
        strict = report_intervals(evaluated, resamples=100, threshold=0.9)
        assert strict["threshold"] == 0.9
        assert strict["overall"]["recall"]["high"] < first["overall"]["recall"]["low"]
        assert strict["overall"]["best_f1"] == first["overall"]["best_f1"]

    def test_where_there_is_nothing_there_is_no_interval(self) -> None:
        truth, detections = random_case(3, images=20)
        none = {"low": None, "high": None}
        nothing_found = report_intervals(evaluated_of(truth, []), resamples=20)
        assert nothing_found["threshold"] == 0.5
        assert nothing_found["overall"]["AP50"] == {"low": 0, "high": 0}
        assert nothing_found["overall"]["precision"] == nothing_found["overall"]["best_f1"] == none
        unlabelled = report_intervals(evaluated_of({**truth, "annotations": []}, detections), resamples=20)
        assert unlabelled["overall"]["AP"] == unlabelled["overall"]["recall"] == none

    def test_a_class_that_one_group_alone_holds_has_none(self) -> None:
        truth, detections = random_case(3, images=20)
        first = truth["annotations"][0]["category_id"]
        position = sorted(each["id"] for each in truth["categories"]).index(first)
        alone = [
            each
            for each in truth["annotations"]
            if each["category_id"] != first or each["image_id"] == truth["annotations"][0]["image_id"]
        ]
        alone[0]["iscrowd"] = 0
        told = report_intervals(evaluated_of({**truth, "annotations": alone}, detections), resamples=20)
        assert list(told["per_class"].values())[position]["AP50"] == {"low": None, "high": None}
        assert told["overall"]["AP50"]["low"] is not None

    def test_five_thousand_images_of_eighty_classes_take_seconds(self) -> None:
        """With 36,000 labels, 300,000 detections and a twentieth of the 1,000 resamples; all take some ten seconds."""
        evaluated, _ = plant(np.random.default_rng(0), groups=5000, classes=80, boxes=7.2, false=53)
        started = time.process_time()
        report_intervals(evaluated, resamples=50)
        assert time.process_time() - started < 6


class TestEnds:
    def test_few_groups_reach_farther_than_many(self) -> None:
        values = np.linspace(0, 1, 10_001)
        plain = [(1 - 0.95) / 2, (1 + 0.95) / 2]
        assert bootstrap_interval(values, [100_000], 0.95) == pytest.approx(plain, abs=1e-4)
        # 9 degrees of freedom: t is 2.262, times the root of 10 / 9 it is 2.385, beyond which 0.85 % lie
        assert bootstrap_interval(values, [10], 0.95) == pytest.approx([0.0085, 0.9915], abs=1e-4)
        assert bootstrap_interval(values, [2], 0.95) == pytest.approx([0, 1], abs=1e-4)
        assert bootstrap_interval(values, [100_000], 0.8) == pytest.approx([0.1, 0.9], abs=1e-4)

    def test_folds_of_few_groups_reach_as_far_as_each_has_too_few(self) -> None:
        """Five of ten groups show 9 / 10 of the variance, as one of ten does, and have 45 degrees of freedom."""
        values = np.linspace(0, 1, 10_001)
        assert bootstrap_interval(values, [10] * 5, 0.95) == pytest.approx([0.0169, 0.9831], abs=2e-4)
        low, high = bootstrap_interval(values, [2] * 5, 0.95)
        assert low < 0.001
        assert high > 0.999

    @pytest.mark.parametrize("groups", [[10] * 5, [3, 40, 40], [2, 20, 20, 20, 20]])
    def test_folds_of_unlike_size_hold_the_true_mean_about_as_often_as_they_say(self, groups: list[int]) -> None:
        rng = np.random.default_rng(7)
        inside = 0
        for _ in range(400):
            drawn = np.zeros(400)
            for number in groups:
                values = rng.normal(size=number)
                drawn += rng.multinomial(number, np.full(number, 1 / number), size=400) @ values / number / len(groups)
            low, high = bootstrap_interval(drawn, groups, 0.95)
            inside += low <= 0 <= high
        assert 0.87 <= inside / 400 <= 0.98, "counted as one, the unlike ones hold it 65 to 85 times in a hundred"

    def test_resamples_that_lie_above_the_figure_are_moved_down(self) -> None:
        values = np.linspace(0, 1, 10_001)
        low, high = bootstrap_interval(
            values, [100_000], 0.95, above=0.3085
        )  # half a standard deviation below the middle
        assert (low, high) == pytest.approx([0.0015, 0.8315], abs=2e-4)  # so all move by a whole one
        assert bootstrap_interval(values, [100_000], 0.95, above=0.5) == pytest.approx([0.025, 0.975], abs=1e-4)
        capped = bootstrap_interval(values, [100_000], 0.95, above=0.01)
        assert capped == bootstrap_interval(values, [100_000], 0.95, above=0.1)
        assert bootstrap_interval(np.full(50, 0.4), [10], 0.95, above=0.4) == (0.4, 0.4)


class TestDrawing:
    def test_as_many_images_as_there_are(self) -> None:
        counts = bootstrap_counts(17, resamples=50, seed=0)
        assert counts.shape == (50, 17)
        assert (counts.sum(axis=1) == 17).all()
        assert (counts == bootstrap_counts(17, resamples=50, seed=0)).all()
        assert (counts != bootstrap_counts(17, resamples=50, seed=1)).any()

    def test_groups_are_drawn_whole(self) -> None:
        counts = bootstrap_counts(6, resamples=40, seed=0, groups=[7, 2, 7, 2, 9, 9])
        assert (counts[:, [0, 1, 4]] == counts[:, [2, 3, 5]]).all()
        assert (counts[:, [0, 1, 4]].sum(axis=1) == 3).all()


class TestIntervals:
    def test_the_values_are_the_means_over_seeds(self) -> None:
        truth, first = random_case(3, images=12)
        second = [{**each, "score": each["score"] / (1 + each["image_id"] % 3)} for each in first]
        summaries = [judge(truth, each).summary for each in (first, second)]
        found = bootstrap([evaluated_of(truth, each) for each in (first, second)], resamples=200)
        for key, interval in found.overall.items():
            assert interval.value == pytest.approx(np.mean([each[key] for each in summaries]), abs=1e-12)
            assert interval.low < interval.value < interval.high
        for name, intervals in found.per_class.items():
            expected = [each["per_class"][name]["AP50"] for each in summaries]
            if None in expected:
                assert intervals["AP50"] == Interval(None, None, None)
            else:
                assert intervals["AP50"].value == pytest.approx(np.mean(expected), abs=1e-12)
        assert found.covers == "images and seeds"
        assert bootstrap([evaluated_of(truth, first)], resamples=20).covers == "images"

    def test_seeds_widen_the_interval(self) -> None:
        truth, first = random_case(3, images=12)
        runs = [evaluated_of(truth, each) for each in (first, [])]
        resampled = resample([runs], resamples=300)
        both, images = (confidence_intervals(resampled, include_seeds=each).overall["AP50"] for each in (True, False))
        assert both.value == images.value
        assert both.high - both.low > 1.3 * (images.high - images.low)

    def test_the_same_system_twice_does_not_differ(self) -> None:
        truth, detections = random_case(4, images=12)
        evaluated = evaluated_of(truth, detections)
        found = paired_bootstrap([evaluated], [evaluated], resamples=50)
        assert found.overall["AP"] == Interval(0.0, 0.0, 0.0)
        assert found.overall["AP"].verdict() == "cannot tell"

    def test_pairing_tells_what_two_intervals_cannot(self) -> None:
        rng = np.random.default_rng(2)
        a, b = made(rng, images=60), None
        keep = np.arange(len(a.found.scores)) % 12 != 0  # b misses a few of what a finds
        matches = a.matches
        matched_label = np.where(keep[matches.order], matches.matched_label, -1)
        b = CocoEvaluation(
            a.truth,
            a.found,
            Matches(matches.order, matched_label, matches.ignored, matches.matched_detection),
            *[a.recall] * 2,
        )
        alone = [bootstrap([each], resamples=300).overall["AP50"] for each in (a, b)]
        assert alone[1].high > alone[0].low
        assert paired_bootstrap([a], [b], resamples=300).overall["AP50"].verdict() == "better"
        assert paired_bootstrap([b], [a], resamples=300).overall["AP50"].verdict() == "worse"

    def test_one_scene_tells_nothing_about_others(self) -> None:
        evaluated = evaluated_of(*random_case(4, images=12))
        interval = bootstrap([evaluated], resamples=20, groups=[5] * 12).overall["AP"]
        assert interval.value is not None
        assert (interval.low, interval.high, interval.verdict()) == (None, None, "cannot tell")

    def test_folds_of_one_scene_each_tell_nothing_either(self) -> None:
        runs = [judge(*random_case(seed, images=10)).evaluated for seed in (0, 1)]
        told = confidence_intervals(resample([[runs[0]], [runs[1]]], resamples=100, groups=[[0] * 5 + [1] * 5] * 2))
        assert told.overall["AP"].low is not None
        silent = confidence_intervals(
            resample([[runs[0]], [runs[1]]], resamples=100, groups=[[0] * 10, [0] * 5 + [1] * 5])
        )
        assert (silent.overall["AP"].low, silent.overall["AP"].high) == (None, None)
        assert silent.overall["AP"].value == told.overall["AP"].value

    def test_folds_are_averaged_and_a_class_may_be_missing_from_one(self) -> None:
        rng = np.random.default_rng(5)
        whole, part = made(rng, images=30), made(rng, images=20, labelled=1)
        found = confidence_intervals(resample([[whole, whole], [part, part]], resamples=100))
        each = [confidence_intervals(resample([[fold]], resamples=2)) for fold in (whole, part)]
        means = [
            np.mean([e.per_class["class 0"]["AP50"].value for e in each]),
            each[0].per_class["class 1"]["AP50"].value,
        ]
        assert [found.per_class[name]["AP50"].value for name in ("class 0", "class 1")] == pytest.approx(means)
        assert found.overall["AP50"].value == pytest.approx(np.mean([e.overall["AP50"].value for e in each]))

    def test_different_images_are_refused(self) -> None:
        a, b = (evaluated_of(*random_case(seed)) for seed in (0, 1))
        with pytest.raises(DataError, match="evaluated against different labels; evaluate all against the same labels"):
            bootstrap([a, b])
        with pytest.raises(
            DataError, match="evaluated against different labels, or resampled differently; evaluate both"
        ):
            paired_bootstrap([a], [b], resamples=2)
        with pytest.raises(DataError, match="no run to resample"):
            paired_difference_intervals(resample([]), resample([]))


def test_intervals_of_images_hold_the_true_value_about_as_often_as_they_say() -> None:
    """95 % are promised; with 80 images a little less holds, as AP is skewed."""
    rng = np.random.default_rng(11)
    large = made(rng, images=6000)
    true = bootstrap_ap(large, np.ones((1, 6000), np.int64))[0, 0].mean()
    found = [bootstrap([made(rng, images=80)], resamples=150).overall["AP50"] for _ in range(60)]
    assert 0.85 <= np.mean([each.low <= true <= each.high for each in found]) <= 0.995


def test_intervals_of_differences_call_equal_systems_different_about_one_time_in_twenty() -> None:
    rng = np.random.default_rng(12)
    told = []
    for _ in range(60):
        world = made(rng, images=80)
        a, b = (shaken(rng, world) for _ in range(2))
        told.append(paired_bootstrap([a], [b], resamples=150).overall["AP50"].verdict())
    assert 0.86 <= told.count("cannot tell") / len(told) <= 0.995


def test_luck_of_seeds_is_not_taken_for_a_better_system() -> None:
    """Two systems of one kind, three seeds each, some seeds good and some bad."""
    rng = np.random.default_rng(13)
    both, images = [], []
    for _ in range(40):
        world = made(rng, images=60)
        a, b = ([shaken(rng, world, lost=rng.uniform(0, 0.1)) for _ in range(3)] for _ in range(2))
        first, second = (resample([runs], resamples=100) for runs in (a, b))
        both.append(paired_difference_intervals(first, second).overall["AP50"].verdict())
        images.append(paired_difference_intervals(first, second, include_seeds=False).overall["AP50"].verdict())
    assert both.count("cannot tell") >= 0.85 * len(both)
    assert images.count("cannot tell") < 0.85 * len(both)


def test_frames_of_a_coil_are_not_taken_for_that_many_images() -> None:
    """Intervals over images are far too narrow there, intervals over coils have about their stated coverage."""
    rng = np.random.default_rng(21)
    large, _ = plant(rng, groups=1000, each=8, false=1)
    true = report_figures(large, np.ones((1, 8000), np.int64), 0.5)["recall", None][0]
    held = {"coils": 0, "images": 0}
    for _ in range(40):
        evaluated, coils = plant(rng, groups=20, each=8, false=1)
        for over, groups in (("coils", coils), ("images", None)):
            ends = report_intervals(evaluated, groups=groups, resamples=80, threshold=0.5)["overall"]["recall"]
            held[over] += ends["low"] <= true <= ends["high"]
    assert held["coils"] >= 34
    assert held["images"] <= held["coils"] - 4


def plant(
    rng: np.random.Generator,
    *,
    groups: int,
    each: int = 1,
    classes: int = 6,
    boxes: float = 2.4,
    false: float = 15.0,
) -> tuple[CocoEvaluation, list[int]]:
    """A judged world without boxes, much like NEU-DET: images of one class, AP 0.19 and AP50 0.48, many false alarms.

    Images of a group share their class and half of what makes them hard.

    Returns:
        What was judged, and the group of each image.
    """
    images = groups * each
    group = np.repeat(np.arange(groups), each)
    hard, kind = rng.normal(size=images), rng.integers(classes, size=groups)[group]
    if each > 1:
        hard = np.sqrt(0.5) * (hard + rng.normal(size=groups)[group])
    at = np.repeat(np.arange(images), 1 + rng.poisson(boxes - 1, size=images))
    quality = logistic(0.75 - 0.5 * hard[at] + 0.75 * rng.normal(size=len(at)) - 0.1 * kind[at])
    score = logistic(0.2 - 0.6 * hard[at] + 2.5 * (quality - 0.65) + 1.2 * rng.normal(size=len(at)))
    seen = np.flatnonzero(quality > 0.5)
    false_at = np.repeat(np.arange(images), rng.poisson(false * np.exp(0.3 * hard)))
    alike = rng.random(len(false_at)) < 0.6
    false_kind = np.where(alike, kind[false_at], rng.integers(classes, size=len(false_at)))
    found = DetectionArrays(
        boxes_xywh=np.ones((len(seen) + len(false_at), 4)),
        scores=np.concatenate([score[seen], logistic(-2.2 + 1.3 * rng.normal(size=len(false_at)))]),
        image=np.concatenate([at[seen], false_at]),
        category=np.concatenate([kind[at[seen]], false_kind]),
    )
    order = np.lexsort((-found.scores, found.image, found.category))
    label = np.concatenate([seen, np.full(len(false_at), -1)])[order]
    good = np.concatenate([quality[seen], np.zeros(len(false_at))])[order]
    matched_label = np.where(good >= np.linspace(0.5, 0.95, 10)[:, None], label, -1)
    truth = GroundTruth(
        images=tuple(GroundTruthImage(i, f"{i}.png", 200, 200) for i in range(images)),
        category_ids=tuple(range(1, classes + 1)),
        categories=tuple(f"class {k}" for k in range(classes)),
        boxes_xywh=np.ones((len(at), 4)),
        area=np.ones(len(at)),
        image=at,
        category=kind[at],
        crowd=np.zeros(len(at), bool),
    )
    matches = Matches(order, matched_label, np.zeros(matched_label.shape, bool), np.zeros((10, len(at)), np.int64))
    return CocoEvaluation(truth, found, matches, np.empty(0), np.empty(0)), group.tolist()


def logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


SHOWN = (("AP", None), ("AP50", None), ("AP75", None), ("AP50", "class 0"), ("AR100", None), ("f1", None))


def coverage(groups: int, each: int, *, worlds: int = 500, resamples: int = 400, seed: int = 1) -> Iterator[float]:
    """Shares of intervals that hold the true value: of ``SHOWN``, then of AP50 and AP of one system minus its twin."""
    rng = np.random.default_rng(seed)
    large = [plant(rng, groups=24_000 // each, each=each)[0] for _ in range(8)]
    ones = np.ones((1, 24_000 // each * each), np.int64)
    figures = [report_figures(evaluated, ones, 0.5) for evaluated in large]
    true = {key: np.mean([each_of[key][0] for each_of in figures]) for key in SHOWN}
    held: dict[tuple[str, str | None], list[bool]] = {}
    for _ in range(worlds):
        evaluated, of = plant(rng, groups=groups, each=each)
        drawn = int(rng.integers(2**31))
        told = report_intervals(evaluated, groups=of, resamples=resamples, seed=drawn, threshold=0.5)
        for name, category in SHOWN:
            ends = (told["overall"] if category is None else told["per_class"][category])[name]
            if ends["low"] is not None:
                inside = ends["low"] <= true[name, category] <= ends["high"]
                held.setdefault((name, category), []).append(inside)
        systems = (shaken(rng, evaluated) for _ in range(2))
        apart = paired_bootstrap(*([system] for system in systems), groups=of, resamples=resamples, seed=drawn).overall
        for name in ("AP50", "AP"):
            held.setdefault((name, "difference"), []).append(apart[name].verdict() == "cannot tell")
    return (float(np.mean(held[key])) for key in (*SHOWN, ("AP50", "difference"), ("AP", "difference")))


if __name__ == "__main__":
    columns = ["AP", "AP50", "AP75", "AP50 of a class", "AR100", "F1", "AP50 difference", "AP difference"]
    print("| images |", " | ".join(columns), "|\n|", " | ".join(["---"] * (1 + len(columns))), "|")
    for groups, each in ((20, 1), (40, 1), (80, 1), (160, 1), (240, 1), (480, 1), (10, 8), (20, 8), (40, 8)):
        row = " | ".join(f"{share:.2f}" for share in coverage(groups, each))
        print(f"| {groups}{f' groups of {each}' if each > 1 else ''} | {row} |", flush=True)
