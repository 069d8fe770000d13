"""Systems held against the first: verdicts, how many images would tell, and the images on which they differ."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from detect.errors import DataError
from detect.evaluation.bootstrap import Interval, paired_bootstrap
from detect.evaluation.compare import METRICS, ImageDifference, compare, image_differences, required_images
from detect.evaluation.records import CocoEvaluation
from detect.report.compare import explanation, reason_text, verdict_cell, warnings
from evaluation_cases import evaluated_of, made, random_case, shaken


def label(image: int, x: float, category: int = 1) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, 0.0, 10.0, 10.0]}


def found(image: int, x: float, score: float = 0.9, category: int = 1) -> dict[str, Any]:
    return {**label(image, x, category), "score": score}


TRUTH = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 50} for i in (1, 2, 3)],
    "annotations": [label(1, 0), label(1, 50), label(1, 100), label(2, 0), {**label(3, 0), "iscrowd": 1}],
    "categories": [{"id": 1, "name": "pit"}, {"id": 2, "name": "scale"}],
}


class TestImages:
    def test_labels_gained_and_lost_and_false_alarms_are_counted(self) -> None:
        first = evaluated_of(TRUTH, [found(1, 0), found(1, 150), found(2, 100), found(3, 0)])
        other = evaluated_of(TRUTH, [found(1, 50), found(1, 100), found(1, 0, category=2), found(2, 0), found(3, 100)])
        assert image_differences(first, other, score_thresholds=(0.5, 0.5)) == [
            ImageDifference(0, gained=2, lost=1, false=(1, 1)),
            ImageDifference(1, gained=1, lost=0, false=(1, 0)),
            ImageDifference(2, gained=0, lost=0, false=(0, 1)),  # on the crowd region nothing is false
        ]
        assert [each.net for each in image_differences(first, other, score_thresholds=(0.5, 0.5))] == [1, 2, -1]
        back = image_differences(other, first, score_thresholds=(0.5, 0.5))
        assert [each.net for each in back] == [-1, -2, 1]

    def test_each_has_its_own_threshold(self) -> None:
        first, other = (evaluated_of(TRUTH, [found(1, 0, score), found(1, 150, score)]) for score in (0.3, 0.8))
        same = ImageDifference(0, 0, 0, (1, 1))
        assert image_differences(first, other, score_thresholds=(0.2, 0.5))[0] == same
        assert image_differences(first, other, score_thresholds=(0.3, 0.8))[0] == same  # from the score itself on
        assert image_differences(first, other, score_thresholds=(0.5, 0.5))[0] == ImageDifference(0, 1, 0, (0, 1))

    def test_other_labels_are_refused(self) -> None:
        fewer = {**TRUTH, "annotations": TRUTH["annotations"][1:]}
        with pytest.raises(DataError, match="evaluated against different labels"):
            image_differences(evaluated_of(TRUTH, []), evaluated_of(fewer, []), score_thresholds=(0.5, 0.5))


class TestImagesToTell:
    def test_the_spread_falls_with_the_root_of_their_number(self) -> None:
        """A difference of 0.02 that reaches 0.04 down: to be seen four times in five it must fall to 0.02 / 1.43."""
        interval = Interval(0.02, -0.02, 0.07)
        assert required_images(interval, interval, 100) == 820  # 100 * (1.4294 * 0.04 / 0.02)²
        assert required_images(interval, interval, 10) == 82
        mirrored = Interval(-0.02, -0.07, 0.02)
        assert required_images(mirrored, mirrored, 100) == 820

    def test_what_seeds_add_does_not_fall(self) -> None:
        of_images = Interval(0.02, -0.01, 0.05)
        assert required_images(of_images, of_images, 100) == 460
        a_little = Interval(0.02, 0.02 - float(np.hypot(0.03, 0.01)), 0.06)
        assert required_images(a_little, of_images, 100) == 940
        assert required_images(Interval(0.02, -0.03, 0.06), of_images, 100) is None

    @pytest.mark.parametrize(
        "interval",
        [
            Interval(0.02, 0.01, 0.03),  # clear already
            Interval(0.0, -0.01, 0.01),
            Interval(0.0005, -0.01, 0.01),  # out of reach
            Interval(0.02, None, None),
            Interval(None, None, None),
        ],
    )
    def test_none_where_no_number_would(self, interval: Interval) -> None:
        assert required_images(interval, interval, 100) is None

    def test_so_many_do_tell_about_four_times_in_five(self) -> None:
        rng = np.random.default_rng(3)
        few = [paired(*two_systems(rng, images=40, lost=0.08)) for _ in range(20)]
        value, low, high = (float(np.mean([getattr(each, end) for each in few])) for end in ("value", "low", "high"))
        assert low < value < 0 < high
        needed = required_images(Interval(value, low, high), Interval(value, low, high), 40)
        assert needed is not None
        assert needed > 80
        told = [paired(*two_systems(rng, images=needed, lost=0.08)).verdict() for _ in range(30)]
        assert 0.6 <= told.count("worse") / len(told) <= 0.97


class TestCompare:
    def test_the_figures_are_those_of_the_paired_bootstrap(self) -> None:
        truth, detections = random_case(3, images=12)
        a, b = evaluated_of(truth, detections), evaluated_of(truth, detections[::2])
        told = compare({"a": [[a]], "b": [[b]]}, resamples=100, seed=4)
        expected = paired_bootstrap([b], [a], resamples=100, seed=4)
        row = told["systems"][1]
        for key in METRICS:
            assert {end: row["difference"][key][end] for end in ("value", "low", "high")} == asdict(
                expected.overall[key]
            )
            assert row["difference"][key]["verdict"] == expected.overall[key].verdict()
            assert row["difference"][key]["value"] == pytest.approx(
                row[key]["value"] - told["systems"][0][key]["value"], abs=1e-12
            )
        for name, of_class in expected.per_class.items():
            assert row["difference"]["per_class"][name]["AP"]["high"] == of_class["AP"].high
        assert told["systems"][0]["difference"] is None
        assert (told["against"], told["images"], told["groups"], told["folds"]) == ("a", 12, None, 1)
        assert told["boxes"] == sum(told["boxes_by_class"].values())
        assert warnings(told) == ["With fewer than 40 images, intervals of scores are often too narrow."]
        json.dumps(told, allow_nan=False)

    def test_worse_seen_from_the_other_side_is_better(self) -> None:
        rng = np.random.default_rng(0)
        a, b = two_systems(rng, images=80, lost=0.5)
        assert difference(compare({"a": [[a]], "b": [[b]]}, resamples=150))["verdict"] == "worse"
        assert difference(compare({"b": [[b]], "a": [[a]]}, resamples=150))["verdict"] == "better"

    def test_a_system_does_not_differ_from_itself(self) -> None:
        rng = np.random.default_rng(0)
        world = made(rng, images=30)
        told = difference(compare({"a": [[world]], "b": [[world]]}, resamples=100))
        assert (told["value"], told["verdict"], told["required_images"]) == (0, "cannot tell", None)
        assert verdict_cell(told) == "cannot tell: the difference is too small for any practical number of images"

    def test_the_words_say_how_many_images_would_tell(self) -> None:
        rng = np.random.default_rng(6)
        a, b = two_systems(rng, images=30, lost=0.05)
        told = difference(compare({"a": [[a]], "b": [[b]]}, resamples=150))
        assert reason_text(told, grouped=False) == (
            f"about {told['required_images']:,} images are needed if the difference is as large as measured"
        )
        assert verdict_cell(told) == f"cannot tell; about {told['required_images']:,} images needed"
        grouped = compare({"a": [[a]], "b": [[b]]}, resamples=150, groups=[[i // 2 for i in range(30)]])
        assert grouped["groups"] == 15
        assert "images in groups like these are needed" in reason_text(difference(grouped), grouped=True)

    def test_seeds_may_be_what_hides_a_difference(self) -> None:
        rng = np.random.default_rng(8)
        world = made(rng, images=150)
        a = [shaken(rng, world, lost=each) for each in (0.0, 0.3)]
        b = [shaken(rng, world, lost=each) for each in (0.2, 0.5)]
        told = compare({"a": [a], "b": [b]}, resamples=200)
        words = reason_text(difference(told), grouped=False)
        assert told["systems"][1]["difference"]["covers"] == "images and seeds"
        assert "train with more seeds" in words

    def test_a_class_in_one_image_alone_is_not_told(self) -> None:
        truth = {**TRUTH, "annotations": [*TRUTH["annotations"], label(2, 100, category=2)]}
        a, b = evaluated_of(truth, [found(2, 100, category=2)]), evaluated_of(truth, [])
        told = compare({"a": [[a]], "b": [[b]]}, resamples=100)["systems"][1]["difference"]
        scale = told["per_class"]["scale"]["AP50"]
        assert scale["value"] == pytest.approx(-1)
        assert scale["low"] is None
        assert verdict_cell(scale) == "cannot tell: fewer than two images contain a box"
        assert verdict_cell(scale, grouped=True) == "cannot tell: fewer than two groups contain a box"
        unlabelled = evaluated_of({**TRUTH, "annotations": []}, [])
        empty = compare({"a": [[unlabelled]], "b": [[unlabelled]]}, resamples=100)
        assert verdict_cell(difference(empty)) == "nothing to measure"
        assert "is tested separately" not in explanation(empty)

    def test_luck_is_named(self) -> None:
        truth, detections = random_case(3, images=12)
        told = compare({name: [[evaluated_of(truth, detections)]] for name in "abc"}, resamples=100)
        differences = 2 * 3 * (1 + 3)  # the fourth category is never labelled
        assert f"Each of the {differences} differences is tested separately" in explanation(told)
        assert "one in 20 " in explanation(told)

    def test_folds_are_compared_fold_by_fold(self) -> None:
        rng = np.random.default_rng(9)
        folds = [two_systems(rng, images=n, lost=0.5) for n in (30, 40)]
        told = compare({"a": [[a] for a, _ in folds], "b": [[b] for _, b in folds]}, resamples=150)
        assert (told["folds"], told["images"]) == (2, 70)
        assert difference(told)["verdict"] == "worse"
        with pytest.raises(DataError, match="a was evaluated on 2 folds and b on 1"):
            compare({"a": [[a] for a, _ in folds], "b": [[folds[0][1]]]})

    def test_what_can_not_be_compared_is_refused(self) -> None:
        a, b = (evaluated_of(*random_case(seed)) for seed in (0, 1))
        with pytest.raises(
            DataError, match="a and b were evaluated against different labels; evaluate both against the same"
        ):
            compare({"a": [[a]], "b": [[b]]})
        with pytest.raises(DataError, match="1 system can't be compared; give two or more"):
            compare({"a": [[a]]})


def difference(told: dict[str, Any]) -> dict[str, Any]:
    of: dict[str, Any] = told["systems"][1]["difference"]["AP50"]
    return of


def paired(a: CocoEvaluation, b: CocoEvaluation) -> Interval:
    return paired_bootstrap([b], [a], resamples=100).overall["AP50"]


def two_systems(rng: np.random.Generator, *, images: int, lost: float) -> tuple[CocoEvaluation, CocoEvaluation]:
    """Two networks of one kind in one world; the second loses a share of the hits."""
    world = made(rng, images=images)
    return shaken(rng, world), shaken(rng, world, lost=lost)
