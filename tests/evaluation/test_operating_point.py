"""The operating point: bounds, thresholds by price and limit, their guarantee, escapes, FROC, recall by size."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from detect.errors import DataError
from detect.evaluation.coco_eval import at_threshold
from detect.evaluation.costs import ClassCosts, Costs
from detect.evaluation.operating_point import choose_threshold, escape_rates, froc, operating_point, recall_by_size
from detect.evaluation.records import CocoEvaluation
from detect.evaluation.threshold_counts import (
    ThresholdCounts,
    clopper_pearson_bounds,
    fold_ids,
    garwood_bounds,
    rate_design_effect,
    rate_within_limit,
    required_cases,
    required_images_for_rate,
    sampling_units,
    share_design_effect,
    share_estimate,
    share_within_limit,
    threshold_counts,
    tuning_images,
)
from detect.report.tables import escape_notes, operating_sentences
from evaluation_cases import made, steel


def counts_of(defects: Sequence[float | None], alarms: Sequence[float], images: int = 10) -> ThresholdCounts:
    """One category, each defect and false alarm in an image of its own as far as there are enough."""
    scores = np.sort([-np.inf if each is None else each for each in defects])
    return ThresholdCounts(
        scores.astype(np.float64),
        np.arange(len(scores)) % images,
        np.sort(np.asarray(alarms, dtype=np.float64)),
        np.arange(len(alarms)) % images,
        np.ones(images, dtype=np.int64),
    )


class TestBounds:
    @pytest.mark.parametrize(("count", "of"), [(0, 10), (3, 200), (50, 100), (99, 100), (1, 1), (7, 3000)])
    def test_a_share_s_bounds_are_where_the_binomial_tails_are_five_percent(self, count: int, of: int) -> None:
        def chance(p: float, counts: range) -> float:
            return sum(math.comb(of, i) * p**i * (1 - p) ** (of - i) for i in counts)

        low, high = clopper_pearson_bounds(count, of, 0.95)
        assert chance(high, range(count + 1)) == pytest.approx(0.05, abs=1e-8) or (count == of and high == 1)
        if count:
            assert 1 - chance(low, range(count)) == pytest.approx(0.05, abs=1e-8)
        else:
            assert low == 0

    @pytest.mark.parametrize("count", [0, 1, 12, 300])
    def test_a_rate_s_bounds_are_where_the_poisson_tails_are_five_percent(self, count: int) -> None:
        def chance(mean: float, counts: range) -> float:
            return sum(math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in counts)

        low, high = (20 * bound for bound in garwood_bounds(count, 20, 0.95))
        assert chance(high, range(count + 1)) == pytest.approx(0.05, abs=1e-8)
        assert (low == 0) if not count else (1 - chance(low, range(count)) == pytest.approx(0.05, abs=1e-8))

    def test_a_limit_is_kept_where_the_bound_is_within_it(self) -> None:
        assert share_within_limit(0, 149, 0.02, 0.95)
        assert not share_within_limit(0, 148, 0.02, 0.95)
        assert rate_within_limit(0, 30, 0.1, 0.95)
        assert not rate_within_limit(0, 29, 0.1, 0.95)
        assert not share_within_limit(5, 5, 0.5, 0.95)

    def test_a_guarantee_needs_about_three_over_the_limit_cases(self) -> None:
        assert [required_cases(limit, 0.95) for limit in (0.02, 0.1, 0.5)] == [149, 29, 5]
        assert required_images_for_rate(0.1, 0.95) == 30
        more = required_cases(0.02, 0.95, 0.01)
        assert more is not None
        assert clopper_pearson_bounds(0.01 * more, more, 0.95)[1] == pytest.approx(0.02, abs=1e-4)
        assert required_cases(0.02, 0.95, 0.02) is None
        assert required_images_for_rate(0.1, 0.95, 0.2) is None

    def test_bunches_count_for_less(self) -> None:
        alone, together = np.array([1, 0, 1, 0, 1, 0]), np.array([3, 0, 3, 0, 3, 0])
        assert share_design_effect(alone, np.ones(6, np.int64)) == pytest.approx(6 / 5)
        assert share_design_effect(together, np.full(6, 3)) == pytest.approx(3 * 6 / 5)
        assert share_design_effect(np.array([1, 1]), np.array([2, 2])) == 1
        assert rate_design_effect(np.array([10, 0, 0, 0]), np.ones(4, np.int64)) == pytest.approx(10)
        assert share_design_effect(np.zeros(0, np.int64), np.zeros(0, np.int64)) == 1
        narrow, wide = share_estimate(5, 100, 0.95), share_estimate(5, 100, 0.95, 2.0)
        assert wide["rate"] == narrow["rate"] == 0.05
        assert wide["low"] < narrow["low"] < 0.05 < narrow["high"] < wide["high"]
        assert share_estimate(0, 0, 0.95)["high"] is None


class TestTally:
    def test_counts_what_each_threshold_misses_and_raises(self) -> None:
        evaluated = steel(
            [([("a", 0.9), ("a", 0.3)], [("a", 0.6)]), ([("a", None), ("b", 0.5)], []), ([], [("a", 0.2), ("b", 0.9)])]
        )
        a, b = threshold_counts(evaluated, np.ones(3, bool), np.arange(3))
        assert a.defect_scores.tolist() == [-np.inf, 0.3, 0.9]
        assert a.defect_units.tolist() == [1, 0, 0]
        assert a.false_scores.tolist() == [0.2, 0.6]
        assert a.false_units.tolist() == [2, 0]
        at = np.array([0.1, 0.3, 0.5, 0.7, 0.95])
        assert a.missed(at).tolist() == [1, 1, 2, 2, 3]
        assert a.false_alarms(at).tolist() == [2, 1, 1, 0, 0]
        assert a.thresholds() == pytest.approx([0.2, 0.25, 0.45, 0.75, 0.95])
        assert (len(b.defect_scores), len(b.false_scores)) == (1, 1)
        first, _ = threshold_counts(evaluated, np.array([True, False, False]), np.arange(3))
        assert (first.defect_scores.tolist(), first.images.tolist()) == ([0.3, 0.9], [1, 0, 0])

    def test_crowds_are_neither_missed_nor_raised(self) -> None:
        evaluated = steel([([("a", 0.9)], [("a", 0.8)])], crowds=[(1, "a")])
        a, _ = threshold_counts(evaluated, np.ones(1, bool), np.arange(1))
        assert (a.defect_scores.tolist(), a.false_scores.tolist()) == ([0.9], [])

    def test_agrees_with_the_judge_at_every_threshold(self) -> None:
        rng = np.random.default_rng(0)
        images = [
            ([("a", rng.integers(1, 9) / 10) for _ in range(rng.integers(3))], [("a", rng.integers(1, 9) / 10)])
            for _ in range(20)
        ]
        evaluated = steel(images, ["a"])
        (counts,) = threshold_counts(evaluated, np.ones(20, bool), np.arange(20))
        for threshold in counts.thresholds():
            expected = at_threshold(evaluated, float(threshold))
            assert int(counts.missed(np.array([threshold]))[0]) == expected["missed"]
            assert int(counts.false_alarms(np.array([threshold]))[0]) == expected["false"]


class TestChoosing:
    def test_the_cheapest_threshold(self) -> None:
        counts = counts_of([0.9, 0.5, 0.3], [0.7, 0.6, 0.4, 0.35, 0.2])
        for missed, false, expected in ((1, 1, 0.8), (3, 1, 0.25), (2.5, 1, 0.25), (1.5, 1, 0.8), (1, 100, 0.8)):
            choice = choose_threshold(counts, ClassCosts(missed, false, priced=True), 0.95)
            assert choice.threshold == pytest.approx(expected), (missed, false)
        assert choose_threshold(counts, ClassCosts(0, 1, priced=True), 0.95).threshold > 0.7
        assert choose_threshold(counts, ClassCosts(1, 0, priced=True), 0.95).threshold <= 0.3

    def test_showing_nothing_can_be_cheapest(self) -> None:
        choice = choose_threshold(counts_of([0.3], [0.8, 0.7]), ClassCosts(1, 5, priced=True), 0.95)
        assert 0.8 < choice.threshold <= 1

    def test_a_limit_on_misses_is_kept_with_confidence(self) -> None:
        """Of 100 defects 5 may be missed for at most 10.2 %, so the threshold lies between the fifth and the sixth."""
        scores = np.linspace(0.01, 1, 100)
        counts = counts_of(scores, np.linspace(0.005, 0.995, 100), images=100)
        choice = choose_threshold(counts, ClassCosts(missed_limit=0.103, missed_price=0.01, priced=True), 0.95)
        assert choice.meets_missed_limit
        assert int(counts.missed(np.array([choice.threshold]))[0]) == 5
        tight = choose_threshold(counts, ClassCosts(missed_limit=0.102, missed_price=0.01, priced=True), 0.95)
        assert int(counts.missed(np.array([tight.threshold]))[0]) == 4

    def test_a_limit_on_false_alarms_is_kept_with_confidence(self) -> None:
        """Four alarms on 100 images may be up to 9.15 a hundred, five up to 10.5."""
        counts = counts_of(np.linspace(0.01, 1, 100), np.linspace(0.005, 0.995, 100), images=100)
        choice = choose_threshold(counts, ClassCosts(false_alarm_limit=0.1), 0.95)
        assert choice.meets_false_alarm_limit
        assert int(counts.false_alarms(np.array([choice.threshold]))[0]) == 4

    def test_a_price_decides_within_the_limits(self) -> None:
        counts = counts_of(np.linspace(0.5, 1, 100), np.linspace(0.01, 0.4, 50), images=100)
        choice = choose_threshold(counts, ClassCosts(missed_limit=0.2), 0.95)
        assert 0.4 < choice.threshold < 0.5

    def test_too_few_defects_aim_at_the_counted_rate(self) -> None:
        counts = counts_of([0.9] * 18 + [0.5, 0.2], [0.95, 0.6, 0.3, 0.1], images=20)
        choice = choose_threshold(counts, ClassCosts(missed_limit=0.05, missed_price=0.1, priced=True), 0.95)
        assert choice.meets_missed_limit is False
        assert int(counts.missed(np.array([choice.threshold]))[0]) == 1

    def test_a_detector_that_cannot_keep_the_limit_comes_as_near_as_it_can(self) -> None:
        counts = counts_of([0.9, 0.4, None, None], [0.8, 0.3])
        choice = choose_threshold(counts, ClassCosts(missed_limit=0.1, missed_price=0.001, priced=True), 0.95)
        assert choice.meets_missed_limit is False
        assert choice.threshold == pytest.approx(0.35)
        assert (choice.problem, choice.never_detected) == ("never detected", 2)

    def test_of_two_limits_that_clash_the_misses_go_first(self) -> None:
        counts = counts_of(np.linspace(0.01, 0.5, 100), np.linspace(0.2, 0.9, 100), images=100)
        choice = choose_threshold(counts, ClassCosts(missed_limit=0.1, false_alarm_limit=0.1), 0.95)
        assert (choice.meets_missed_limit, choice.meets_false_alarm_limit) == (True, False)
        assert choice.problem == "limits conflict"
        assert int(counts.missed(np.array([choice.threshold]))[0]) == 4

    def test_without_a_defect_or_a_detection_there_is_only_a_default(self) -> None:
        for counts in (counts_of([], []), counts_of([], [0.3, 0.2])):
            choice = choose_threshold(counts, ClassCosts(10, 1, missed_limit=0.1, priced=True), 0.95)
            assert (choice.threshold, choice.meets_missed_limit) == (0.5, False)
            assert choice.problem == "no defects"
        assert choose_threshold(counts_of([], [0.9] * 9), ClassCosts(false_alarm_limit=0.5), 0.95).threshold > 0.9
        nothing = choose_threshold(counts_of([None, None], []), ClassCosts(10, 1, priced=True), 0.95)
        assert nothing.threshold == 0.5
        assert (nothing.problem, nothing.never_detected) == ("never detected", 2)


def fresh(rng: np.random.Generator, images: int, bunched: float) -> ThresholdCounts:
    """A world where an image's defects are hard together and its false alarms come together."""
    hard, gloss = rng.normal(size=images) * bunched, rng.normal(size=images) * bunched
    image = np.repeat(np.arange(images), rng.poisson(2, images))
    seen = 2.2 - hard[image] + rng.normal(size=len(image))
    scores = np.where(seen < -1.5, -np.inf, 1 / (1 + np.exp(-seen)))
    place = np.repeat(np.arange(images), rng.poisson(2 * np.exp(gloss - bunched**2 / 2)))
    false = 1 / (1 + np.exp(1 + rng.normal(size=len(place))))
    rising, false_rising = np.argsort(scores), np.argsort(false)
    return ThresholdCounts(
        scores[rising], image[rising], false[false_rising], place[false_rising], np.ones(images, np.int64)
    )


@pytest.mark.parametrize("bunched", [0.0, 1.0])
@pytest.mark.parametrize("limited", ["misses", "false alarms"])
def test_guaranteed_limits_hold_on_new_data_with_the_stated_confidence(limited: str, bunched: float) -> None:
    """The price pulls against the limit, so each threshold lies at the very end of what is allowed."""
    misses = limited == "misses"
    costs = ClassCosts(0.001, 1, 0.15, priced=True) if misses else ClassCosts(1, 0.001, None, 0.2, priced=True)
    world = fresh(np.random.default_rng(10**6), 40_000, bunched)
    kept = []
    for seed in range(150):
        choice = choose_threshold(fresh(np.random.default_rng(seed), 100, bunched), costs, 0.95)
        at = np.array([choice.threshold])
        assert choice.meets_missed_limit if misses else choice.meets_false_alarm_limit
        missed, false = world.missed(at)[0] / len(world.defect_scores), world.false_alarms(at)[0] / 40_000
        kept.append(missed <= 0.15 if misses else false <= 0.2)
    assert np.mean(kept) >= 0.92


def both_alike(images: int = 40) -> CocoEvaluation:
    """Every second image has a hit and an alarm of a, the others of b."""
    rng = np.random.default_rng(3)
    return steel(
        [
            ([("ab"[i % 2], float(0.5 + rng.random() / 2))], [("ab"[i % 2], float(rng.random() / 2))])
            for i in range(images)
        ]
    )


class TestOperatingPoint:
    def test_each_class_by_its_own_costs_on_both_parts(self) -> None:
        costs = Costs({"a": ClassCosts(10, 1, priced=True), "b": ClassCosts(missed_limit=0.3)}, "EUR")
        point = operating_point(both_alike(), costs)
        assert point["thresholds"] == {name: each["threshold"] for name, each in point["per_class"].items()}
        assert point["parts"]["tuning"] == point["parts"]["holdout"] == 20
        for name in "ab":
            for part in ("tuning", "holdout"):
                rates = point["per_class"][name][part]
                assert (rates["missed"]["of"], rates["false_alarms"]["of"]) == (10, 20)
                assert rates["missed"]["low"] <= rates["missed"]["rate"] <= rates["missed"]["high"]
        a, b = point["per_class"]["a"], point["per_class"]["b"]
        assert a["price"] == {"missed": 10, "false_alarm": 1}
        assert b["price"] is None
        missed, false = (a["holdout"][key]["count"] for key in ("missed", "false_alarms"))
        assert a["holdout"]["cost_per_image"] == (10 * missed + false) / 20
        assert point["holdout"]["cost_per_image"] == a["holdout"]["cost_per_image"]
        assert b["limits"]["missed"] == {
            "limit": 0.3,
            "guaranteed": True,
            "verdict": "confirmed",
            "needed": 9,
            "needed_at_this_rate": 9,
        }
        json.dumps(point, allow_nan=False)

    def test_the_same_seed_divides_alike(self) -> None:
        evaluated = both_alike()
        costs = {"a": ClassCosts(), "b": ClassCosts()}
        first, again, other = (operating_point(evaluated, Costs(costs, seed=seed)) for seed in (0, 0, 1))
        assert first == again
        assert first["per_class"] != other["per_class"]

    def test_a_limit_that_needs_more_defects_is_not_guaranteed(self) -> None:
        costs = Costs({"a": ClassCosts(missed_limit=0.02), "b": ClassCosts(missed_limit=0.02)})
        of_class = operating_point(both_alike(), costs)["per_class"]["a"]
        limit, (sentence,) = of_class["limits"]["missed"], operating_sentences(of_class, 0.95)
        assert (limit["guaranteed"], limit["verdict"], limit["needed"]) == (False, "cannot tell", 149)
        assert "can't be guaranteed by 10 defects; even without a miss, 149 are needed" in sentence
        assert "too few to confirm it, about 149 are needed" in sentence

    def test_a_limit_that_no_number_of_defects_guarantees(self) -> None:
        costs = Costs({"a": ClassCosts(missed_limit=1e-10), "b": ClassCosts(missed_limit=0.5)})
        of_class = operating_point(both_alike(), costs)["per_class"]["a"]
        assert of_class["limits"]["missed"]["needed"] is None
        assert "can't be guaranteed by any practical number of defects" in operating_sentences(of_class, 0.95)[0]

    def test_limits_that_hold_together_are_each_held_to_more(self) -> None:
        """4 limits at 95 % together are 98.75 % each; without a miss, 3 % takes 99 or 144 defects (binomial tails)."""
        for defects, alone, together in ((98, False, False), (99, True, False), (143, True, False), (144, True, True)):
            images = [([("a", 0.9), ("b", 0.9)], []) for _ in range(defects * 2)]
            for joint, guaranteed in ((False, alone), (True, together)):
                limits = ClassCosts(missed_limit=0.03, false_alarm_limit=0.5)
                point = operating_point(steel(images), Costs({name: limits for name in "ab"}, joint=joint))
                assert point["parts"]["confidence"] == pytest.approx(0.9875 if joint else 0.95)
                assert point["parts"]["joint"] == ({"limits": 4, "confidence": 0.95} if joint else None)
                words = operating_sentences(point["per_class"]["a"], point["parts"]["confidence"])[0]
                said = f"at most 3 % missed: guaranteed with {98.75 if joint else 95} % confidence"
                assert words.startswith(said) == guaranteed, (defects, words)

    def test_a_failed_confirmation_is_said_plainly(self) -> None:
        """All that is missed lies where the thresholds weren't chosen."""
        images = [([("a", 0.9)], []) for _ in range(60)]
        evaluated = steel(images, ["a"])
        first = tuning_images(evaluated.truth, np.arange(60), share=0.5, seed=0)
        evaluated = steel([([("a", 0.9 if mine else None)], []) for mine in first], ["a"])
        of_class = operating_point(evaluated, Costs({"a": ClassCosts(missed_limit=0.1)}))["per_class"]["a"]
        limit = of_class["limits"]
        assert (limit["missed"]["guaranteed"], limit["missed"]["verdict"]) == (True, "refuted")
        assert "THE CONFIRMATION FAILS with 30 of 30 defects" in operating_sentences(of_class, 0.95)[0]
        assert limit["missed"]["needed_at_this_rate"] is None

    def test_groups_stay_together_and_widen_bounds(self) -> None:
        rng = np.random.default_rng(0)
        hard = np.repeat(rng.random(10) < 0.4, 8)
        evaluated = steel([([("a", None if each else 0.9)], []) for each in hard], ["a"])
        costs, groups = Costs({"a": ClassCosts()}), np.repeat(np.arange(10), 8)
        alone, grouped = operating_point(evaluated, costs), operating_point(evaluated, costs, groups=groups.tolist())
        assert (grouped["parts"]["by"], grouped["parts"]["tuning_groups"]) == ("group", 5)
        assert (alone["parts"]["by"], alone["parts"]["tuning_groups"]) == ("image", None)
        effects = [each["per_class"]["a"]["holdout"]["missed"]["design_effect"] for each in (alone, grouped)]
        assert effects[0] < 1.2
        assert effects[1] > 5
        assert grouped["holdout"]["groups"]["count"] == 5
        with pytest.raises(DataError, match="3 groups for 80 images"):
            operating_point(evaluated, costs, groups=[1, 2, 3])

    @pytest.mark.parametrize("image", [([], []), ([("a", 0.5)], []), ([], [("b", 0.5)])])
    def test_one_image_leaves_a_part_empty(self, image: Any) -> None:
        evaluated = steel([image])
        costs = Costs({name: ClassCosts(10, 1, 0.1, 0.1, priced=True) for name in "ab"})
        point = operating_point(evaluated, costs)
        json.dumps(point, allow_nan=False)
        assert point["parts"]["tuning"] + point["parts"]["holdout"] == 1
        assert set(point["thresholds"]) == {"a", "b"}

    def test_many_images_and_classes_take_seconds(self) -> None:
        """5,000 images, 80 classes and 36,000 labels take some five seconds of one slow core."""
        evaluated = made(np.random.default_rng(0), images=600, classes=20, false_an_image=20)
        costs = Costs({name: ClassCosts(10, 1, 0.3, 0.2, priced=True) for name in evaluated.truth.categories})
        started = time.process_time()
        operating_point(evaluated, costs)
        froc(evaluated)
        assert time.process_time() - started < 4


class TestParts:
    def test_classes_are_even_and_groups_whole(self) -> None:
        evaluated = steel([([("abc"[i % 3], 0.5)], []) for i in range(60)], "abc")
        units = sampling_units(60, [i // 2 for i in range(60)])
        first = tuning_images(evaluated.truth, units, share=0.5, seed=4)
        assert (first[::2] == first[1::2]).all()
        alone = tuning_images(evaluated.truth, np.arange(60), share=0.25, seed=4)
        assert alone.sum() == 15
        assert all(5 - 1 <= alone[k::3].sum() <= 5 + 1 for k in range(3))
        folds = fold_ids(evaluated.truth, np.arange(60), folds=5, seed=0)
        assert np.bincount(folds).tolist() == [12] * 5
        assert all(np.bincount(folds[k::3], minlength=5).min() >= 3 for k in range(3))

    def test_every_image_is_chosen_as_often_as_the_share_says(self) -> None:
        evaluated = steel([([("a", 0.5)] if i % 3 else [], []) for i in range(12)], "a")
        parts = [tuning_images(evaluated.truth, np.arange(12), share=0.3, seed=s) for s in range(400)]
        assert np.mean(parts, axis=0) == pytest.approx(np.full(12, 0.3), abs=0.08)


class TestEscapes:
    def test_each_rate_by_hand(self) -> None:
        evaluated = steel(
            [
                ([("a", 0.9)], []),  # found
                ([("a", 0.9), ("b", 0.1)], []),  # one of two found
                ([("a", 0.1)], [("b", 0.9)]),  # stopped for another reason, so it doesn't escape
                ([("a", 0.1)], []),  # escapes
                ([], [("a", 0.9)]),  # stopped for nothing
                ([], [("a", 0.1)]),
                ([], []),
            ]
        )
        figures = escape_rates(evaluated, np.array([0.5, 0.5]))
        assert figures["groups"] is None
        images = figures["images"]
        assert (images["count"], images["defective"], images["clean"]) == (7, 4, 3)
        assert [(images[key]["count"], images[key]["of"]) for key in ("escape", "incomplete", "overkill")] == [
            (1, 4),
            (3, 4),
            (1, 3),
        ]
        assert escape_notes(images, "image") == []
        assert escape_rates(evaluated, np.array([0.5, 0.95]))["images"]["escape"]["count"] == 2
        plates = escape_rates(evaluated, np.array([0.5, 0.5]), groups=[1, 1, 2, 3, 3, 4, 4])["groups"]
        assert (plates["count"], plates["defective"], plates["clean"]) == (4, 3, 1)
        assert [plates[key]["count"] for key in ("escape", "incomplete", "overkill")] == [0, 3, 0]
        part = escape_rates(evaluated, np.array([0.5, 0.5]), images=np.arange(7) < 2)["images"]
        assert (part["count"], part["clean"], part["escape"]["count"]) == (2, 0, 0)

    def test_without_clean_images_overkill_is_none_and_says_why(self) -> None:
        images = escape_rates(steel([([("a", 0.9)], [])]), np.array([0.5, 0.5]))["images"]
        assert images["overkill"]["rate"] is None
        assert escape_notes(images, "image") == ["no overkill rate, because every image has a label"]
        clean = escape_rates(steel([([], [])]), np.array([0.5, 0.5]))["images"]
        assert clean["escape"]["rate"] is None
        assert escape_notes(clean, "image") == ["no escape rate, because no image has a defect"]

    def test_an_image_with_crowds_alone_is_neither(self) -> None:
        images = escape_rates(steel([([], [("a", 0.9)])], crowds=[(1, "a")]), np.array([0.5, 0.5]))["images"]
        assert (images["count"], images["defective"], images["clean"]) == (1, 0, 0)


class TestFroc:
    def test_each_point_by_hand(self) -> None:
        """Two images: 1/2 an image is one false alarm, 1/8 and 1/4 are none."""
        evaluated = steel([([("a", 0.9), ("a", 0.6)], [("a", 0.8)]), ([("a", 0.4), ("b", None)], [("a", 0.5)])])
        figures = froc(evaluated)
        points = figures["per_class"]["a"]["points"]
        assert [each["false_alarms_per_image"] for each in points] == [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
        third = 1 / 3
        sensitivities = [third, third, 2 * third, 1, 1, 1, 1]
        assert [each["sensitivity"] for each in points] == pytest.approx(sensitivities)
        assert [each["threshold"] for each in points] == [0.9, 0.9, 0.6, 0.4, 0.4, 0.4, 0.4]
        assert [each["reached"] for each in points] == [True] * 4 + [False] * 3
        assert figures["per_class"]["a"]["mean_sensitivity"] == pytest.approx(np.mean(sensitivities))
        assert [each["sensitivity"] for each in figures["overall"]["points"]][:4] == [0.25, 0.25, 0.5, 0.75]
        b = figures["per_class"]["b"]
        assert [each["sensitivity"] for each in b["points"]] == [0] * 7
        curve = figures["per_class"]["a"]["curve"]
        assert curve["false_alarms_per_image"] == [0, 0.5, 1]
        assert curve["sensitivity"] == pytest.approx([third, 2 * third, 1])

    def test_equal_scores_come_together(self) -> None:
        evaluated = steel([([("a", 0.5)], [("a", 0.5)])])
        points = froc(evaluated)["per_class"]["a"]["points"]
        assert [each["sensitivity"] for each in points] == [0, 0, 0, 1, 1, 1, 1]
        assert points[0]["threshold"] is None

    def test_nothing_to_find_is_none(self) -> None:
        figures = froc(steel([([], [("a", 0.5)])]))
        for each in (figures["overall"], *figures["per_class"].values()):
            assert each["mean_sensitivity"] is None
            assert {point["sensitivity"] for point in each["points"]} == {None}
        json.dumps(figures, allow_nan=False)


class TestRecallBySize:
    def test_quantiles_and_fixed_sizes_by_hand(self) -> None:
        sides = [10.0, 20.0, 30.0, 40.0, 100.0, 200.0, 96.0, 32.0]
        scores = [None, 0.9, None, 0.9, 0.9, 0.2, 0.9, 0.9]
        evaluated = steel([([("a", score)], []) for score in scores], sides_px=sides)
        figures = recall_by_size(evaluated, np.array([0.5, 0.5]), bins=2)
        small, large = figures["per_class"]["a"]["quantiles"]
        assert (small["from_px"], small["to_px"], large["to_px"]) == (10, 36, 200)
        assert [(each["count"], each["of"]) for each in (small, large)] == [(2, 4), (3, 4)]
        coco = figures["per_class"]["a"]["coco"]
        assert [(coco[name]["count"], coco[name]["of"]) for name in ("small", "medium", "large")] == [
            (1, 3),
            (2, 2),
            (2, 3),
        ]
        assert coco["large"]["to_px"] is None
        assert figures["per_class"]["b"]["quantiles"] == []
        assert figures["per_class"]["b"]["coco"]["small"]["rate"] is None
        assert figures["overall"] == figures["per_class"]["a"]
        json.dumps(figures, allow_nan=False)

    def test_all_of_one_size_are_one_part(self) -> None:
        evaluated = steel([([("a", 0.9)], []) for _ in range(5)])
        (only,) = recall_by_size(evaluated, np.array([0.5, 0.5]))["per_class"]["a"]["quantiles"]
        assert (only["from_px"], only["to_px"], only["count"], only["of"]) == (10, 10, 5, 5)
