"""Calibration: reliability figures by hand, and fits that find the temperature and shift that made the data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detect.errors import DataError
from detect.evaluation.calibration import apply_calibration, calibration_errors, fit_calibration, reliability
from detect.evaluation.costs import ClassCosts, Costs
from detect.evaluation.operating_point import operating_point
from detect.evaluation.records import CocoEvaluation, DetectionArrays, GroundTruth, GroundTruthImage, Matches
from detect.evaluation.summary import judge
from evaluation_cases import steel


def log_odds(scores: np.ndarray) -> np.ndarray:
    return np.log(scores / (1 - scores))


def miscalibrated(
    *, temperature: float = 1.0, shift: float = 0.0, detections: int = 6000, images: int = 300, seed: int = 0
) -> CocoEvaluation:
    """One category whose scores, divided by a temperature and moved by a shift, are the chance of a hit."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 0.99, detections)
    hit = rng.random(detections) < apply_calibration(scores, temperature, shift)
    at = np.sort(rng.integers(images, size=detections))
    labels = int(hit.sum())
    label_of = np.where(hit, np.cumsum(hit) - 1, -1)
    order = np.lexsort((-scores, at))
    truth = GroundTruth(
        images=tuple(GroundTruthImage(i, f"{i}.png", 200, 200) for i in range(images)),
        category_ids=(1,),
        categories=("a",),
        boxes_xywh=np.ones((labels, 4)),
        area=np.ones(labels),
        image=at[hit],
        category=np.zeros(labels, np.int64),
        crowd=np.zeros(labels, bool),
    )
    found = DetectionArrays(np.ones((detections, 4)), scores, at, np.zeros(detections, np.int64))
    matched_label, ignored = np.tile(label_of[order], (10, 1)), np.zeros((10, detections), bool)
    matches = Matches(order, matched_label, ignored, np.zeros((10, labels), np.int64))
    return CocoEvaluation(truth, found, matches, np.empty(0), np.empty(0))


class TestReliability:
    def test_bins_and_errors_by_hand(self) -> None:
        scores = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
        hits = np.array([True, False, True, True, False, False])
        figures = reliability(scores, hits, bins=2)
        low, high = figures["bins"]
        assert [low[key] for key in ("count", "from", "to", "hit_rate")] == [3, 0.1, 0.3, pytest.approx(1 / 3)]
        assert (low["mean_score"], high["mean_score"]) == (pytest.approx(0.2), pytest.approx(0.8))
        assert 0 < low["low"] < 1 / 3 < low["high"] < 1
        assert figures["ece"] == pytest.approx((abs(1 / 3 - 0.2) + abs(2 / 3 - 0.8)) / 2)
        within = [scores[scores < 0.5], scores[scores > 0.5]]
        chance = np.mean([np.sqrt(2 / np.pi * (each * (1 - each)).sum()) / 3 for each in within])
        assert figures["ece_by_chance"] == pytest.approx(chance)
        assert figures["debiased_error"] == 0  # two of three are no evidence against 0.8
        right = np.where(hits, scores, 1 - scores)
        assert figures["nll"] == pytest.approx(-np.log(right).mean())
        assert (figures["detections"], figures["hits"]) == (6, 3)

    def test_the_order_given_does_not_matter(self) -> None:
        rng = np.random.default_rng(0)
        scores, hits = rng.integers(1, 9, 200) / 10, rng.random(200) < 0.4
        mixed = rng.permutation(200)
        first, again = reliability(scores, hits), reliability(scores[mixed], hits[mixed])
        assert [each["hit_rate"] for each in first["bins"]] == [each["hit_rate"] for each in again["bins"]]
        assert first["ece"] == pytest.approx(again["ece"], abs=1e-12)
        assert all(low["to"] < high["from"] for low, high in zip(first["bins"], first["bins"][1:]))

    def test_one_score_for_all_is_one_bin(self) -> None:
        figures = reliability(np.full(50, 0.5), np.arange(50) < 20)
        assert [(each["count"], each["hit_rate"]) for each in figures["bins"]] == [(50, 0.4)]
        assert figures["ece"] == pytest.approx(0.1)

    def test_right_scores_have_the_error_that_chance_gives(self) -> None:
        rng = np.random.default_rng(1)
        found = []
        for _ in range(100):
            scores = rng.random(600)
            found.append(calibration_errors(scores, rng.random(600) < scores))
        assert np.mean([each["ece"] for each in found]) == pytest.approx(found[0]["ece_by_chance"], rel=0.1)
        assert np.mean([each["debiased_error"] for each in found]) < np.mean([each["ece"] for each in found])

    def test_a_known_distance_is_found_without_the_bias_of_chance(self) -> None:
        rng = np.random.default_rng(2)
        scores = rng.uniform(0.3, 0.9, 3000)
        figures = calibration_errors(scores, rng.random(3000) < scores - 0.2)
        assert figures["debiased_error"] == pytest.approx(0.2, abs=0.03)
        assert figures["ece"] == pytest.approx(0.2, abs=0.03)

    def test_nothing_is_none(self) -> None:
        figures = reliability(np.empty(0), np.empty(0, bool))
        assert (figures["bins"], figures["ece"], figures["nll"]) == ([], None, None)


class TestCalibrated:
    def test_keeps_the_order_and_the_ends(self) -> None:
        scores = np.array([0, 1e-9, 0.01, 0.3, 0.5, 0.999, 1.0])
        for temperature, shift in ((0.3, -2.0), (5.0, 1.0), (0.05, 40.0)):
            new = apply_calibration(scores, temperature, shift)
            assert (np.diff(new) >= 0).all()
            assert ((new >= 0) & (new <= 1)).all()
        assert apply_calibration(scores, 1.0, 0.0) == pytest.approx(scores, abs=1e-11)
        assert apply_calibration(np.array([0.5]), 3.0, 0.0)[0] == 0.5
        assert apply_calibration(np.array([0.8]), 2.0, 0.0)[0] == pytest.approx(2 / 3)


class TestFit:
    def test_finds_the_temperature_that_made_the_data(self) -> None:
        figures = fit_calibration(miscalibrated(temperature=2.0))
        own = figures["per_class"]["a"]
        assert own["temperature"] == pytest.approx(2.0, rel=0.1)
        assert own["shift"] == pytest.approx(0, abs=0.1)
        assert own["left"] is None
        assert own["cross_validated"]["temperature"]["ece"] < 0.5 * own["ece"]

    def test_finds_the_shift_where_a_temperature_alone_does_not_help(self) -> None:
        figures = fit_calibration(miscalibrated(temperature=0.7, shift=-2.0))
        own = figures["per_class"]["a"]
        assert figures["method"] == "temperature and shift"
        assert own["temperature"] == pytest.approx(0.7, rel=0.1)
        assert own["shift"] == pytest.approx(-2.0, abs=0.2)
        both, alone = (own["cross_validated"][each] for each in ("temperature and shift", "temperature"))
        assert both["ece"] < 0.03 < alone["ece"] < own["ece"]
        assert both["nll"] < alone["nll"] < own["nll"]
        assert figures["overall"]["cross_validated"] == own["cross_validated"]
        json.dumps(figures, allow_nan=False)

    def test_scores_that_are_right_stay(self) -> None:
        own = fit_calibration(miscalibrated())["per_class"]["a"]
        assert own["temperature"] == pytest.approx(1, abs=0.1)
        assert own["shift"] == pytest.approx(0, abs=0.1)

    def test_is_the_least_likelihood_of_a_fine_grid(self) -> None:
        evaluated = miscalibrated(temperature=1.6, detections=400, seed=5)
        own = fit_calibration(evaluated, min_score=0)["per_class"]["a"]
        hits = evaluated.matches.matched_label[0] >= 0
        odds = log_odds(evaluated.found.scores[evaluated.matches.order])

        def loss(temperature: float, shift: float) -> float:
            z = odds / temperature + shift
            return float((np.logaddexp(0, z) - hits * z).sum())

        best = loss(own["temperature"], own["shift"])
        for change in (0.99, 1.01):
            assert loss(own["temperature"] * change, own["shift"]) > best - 1e-3
            if own["shift"]:
                assert loss(own["temperature"], own["shift"] + change - 1) > best - 1e-3

    @pytest.mark.parametrize("hits", [0, 3, 60])
    def test_too_few_of_either_kind_are_left(self, hits: int) -> None:
        defects = [([("a", 0.9)] if i < hits else [], [("a", 0.2)] if i >= hits else []) for i in range(60)]
        figures = fit_calibration(steel(defects, ["a"]))
        own = figures["per_class"]["a"]
        assert (own["temperature"], own["shift"]) == (1, 0)
        assert own["left"] == f"{hits} hits and {60 - hits} false alarms are too few for a fit"

    def test_scores_that_part_hits_fully_or_not_at_all_are_left(self) -> None:
        backwards = [([("a", 0.2 + i / 1000)], [("a", 0.7 + i / 1000)]) for i in range(40)]
        own = fit_calibration(steel(backwards, ["a"]))["per_class"]["a"]
        assert (own["temperature"], own["shift"]) == (1, 0)
        assert own["left"].startswith("its scores do not separate hits")

    def test_nothing_detected(self) -> None:
        figures = fit_calibration(steel([([("a", None)], [])]))
        assert figures["overall"]["ece"] is None
        assert figures["per_class"]["b"]["temperature"] == 1
        json.dumps(figures, allow_nan=False)

    def test_low_scores_and_crowds_are_not_looked_at(self) -> None:
        evaluated = steel([([("a", 0.9)], [("a", 0.8)]), ([], [("a", 0.04), ("a", 0.5)])], ["a"], crowds=[(1, "a")])
        assert fit_calibration(evaluated)["overall"]["detections"] == 2
        assert fit_calibration(evaluated, min_score=0.0)["overall"]["detections"] == 3

    def test_groups_must_be_one_an_image(self) -> None:
        with pytest.raises(DataError, match="2 groups for 300 images"):
            fit_calibration(miscalibrated(), groups=[1, 2])


def test_calibrating_moves_thresholds_and_changes_nothing_else() -> None:
    evaluated = miscalibrated(temperature=0.7, shift=-2.0, detections=2000)
    fitted = fit_calibration(evaluated)
    costs = Costs({"a": ClassCosts(10, 1, priced=True)})
    plain, moved = operating_point(evaluated, costs), operating_point(evaluated, costs, calibration=fitted)
    before, after = plain["per_class"]["a"], moved["per_class"]["a"]
    assert after["uncalibrated_threshold"] == before["threshold"] == before["uncalibrated_threshold"]
    assert after["holdout"] == before["holdout"]
    own = fitted["per_class"]["a"]
    by_hand = apply_calibration(np.array([before["threshold"]]), own["temperature"], own["shift"])[0]
    assert after["threshold"] == moved["thresholds"]["a"] == pytest.approx(by_hand)
    # where a score is the chance of a hit, showing pays from the chance at which a hit saves what an alarm costs
    assert after["threshold"] == pytest.approx(1 / 11, abs=0.03)


def test_ap_of_each_class_stays() -> None:
    rng = np.random.default_rng(7)
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(1, 21)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
            for i in range(1, 21)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    found = [
        {"image_id": i, "category_id": 1, "bbox": [10 + 9 * rng.random(), 10, 50, 50], "score": float(rng.random())}
        for i in rng.integers(1, 21, 80).tolist()
    ]
    moved = [{**each, "score": float(apply_calibration(np.array([each["score"]]), 0.5, -1.5)[0])} for each in found]
    assert judge(truth, moved).summary["AP"] == judge(truth, found).summary["AP"]
