"""Bootstrap intervals: every resample is judged as pycocotools would, and the intervals hold what they promise."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from test_evaluation_exactness import random_case, reference

from detect.errors import DataError
from detect.evaluation import bootstrap, judge, paired_bootstrap
from detect.evaluation.intervals import Interval, difference_of, intervals_of, resample
from detect.evaluation.records import Evaluated, Found, JudgedImage, Matches, Truth
from detect.evaluation.resampling import draw_images, resampled_precision


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


def evaluated_of(truth: Any, detections: Any) -> Evaluated:
    return judge(truth, detections).evaluated


def figures(values: np.ndarray) -> list[float | None]:
    """AP, AP50 and AP75 of float[T, K]."""
    defined = values[:, np.isfinite(values[0])]
    return [float(defined.mean()), *map(float, defined[[0, 5]].mean(axis=1))] if defined.size else [None] * 3


class TestResampledPrecision:
    @pytest.mark.parametrize("seed", range(12))
    def test_equals_pycocotools_on_literal_copies(self, seed: int) -> None:
        """With crowds, images without boxes, a category never labelled, and equal scores (within an image too)."""
        truth, detections = random_case(seed, ties=seed % 3 != 0)
        counts = draw_images(len(truth["images"]), resamples=3, seed=seed)
        values = resampled_precision(evaluated_of(truth, detections), counts)
        for drawn, mine in zip(counts.tolist(), values):
            copied = literal_copies(truth, detections, drawn)
            assert figures(mine) == pytest.approx(reference(*copied)[:3], abs=1e-12)
            for k, category in enumerate(sorted(each["id"] for each in truth["categories"])):
                assert figures(mine[:, k : k + 1]) == pytest.approx(reference(*copied, category)[:3], abs=1e-12)

    def test_the_images_as_they_are_give_the_figures_of_the_judge(self) -> None:
        truth, detections = random_case(1, images=30)
        judgement = judge(truth, detections)
        values = resampled_precision(judgement.evaluated, np.ones((1, 30), np.int64))[0]
        assert figures(values) == pytest.approx([judgement.summary[key] for key in ("AP", "AP50", "AP75")], abs=1e-12)

    def test_a_class_without_detections_is_zero_and_one_without_boxes_undefined(self) -> None:
        truth, detections = random_case(2)
        labelled = sorted({each["category_id"] for each in truth["annotations"] if not each["iscrowd"]})
        position = sorted(each["id"] for each in truth["categories"]).index(labelled[0])
        others = [each for each in detections if each["category_id"] != labelled[0]]
        values = resampled_precision(evaluated_of(truth, others), np.ones((2, 6), np.int64))
        assert (values[:, :, position] == 0).all()
        unlabelled = {**truth, "annotations": []}
        assert np.isnan(resampled_precision(evaluated_of(unlabelled, detections), np.ones((2, 6), np.int64))).all()
        assert (resampled_precision(evaluated_of(truth, []), np.ones((1, 6), np.int64))[0, 0] <= 0).sum() >= 1

    def test_a_thousand_resamples_take_seconds(self) -> None:
        """360 images, 6 classes, 100 detections an image: about a second on one slow core."""
        rng = np.random.default_rng(0)
        evaluated = made(rng, images=360, classes=6, false_an_image=97)
        started = time.process_time()
        resampled_precision(evaluated, draw_images(360, resamples=1000, seed=0))
        assert time.process_time() - started < 10


class TestDrawing:
    def test_as_many_images_as_there_are(self) -> None:
        counts = draw_images(17, resamples=50, seed=0)
        assert counts.shape == (50, 17)
        assert (counts.sum(axis=1) == 17).all()
        assert (counts == draw_images(17, resamples=50, seed=0)).all()
        assert (counts != draw_images(17, resamples=50, seed=1)).any()

    def test_groups_are_drawn_whole(self) -> None:
        counts = draw_images(6, resamples=40, seed=0, groups=[7, 2, 7, 2, 9, 9])
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
        both, images = (intervals_of(resampled, seeds_too=each).overall["AP50"] for each in (True, False))
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
        truth_of = np.where(keep[matches.order], matches.truth_of, -1)
        b = Evaluated(
            a.truth, a.found, Matches(matches.order, truth_of, matches.ignored, matches.detection_of), *[a.recall] * 2
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

    def test_folds_are_averaged_and_a_class_may_be_missing_from_one(self) -> None:
        rng = np.random.default_rng(5)
        whole, part = made(rng, images=30), made(rng, images=20, labelled=1)
        found = intervals_of(resample([[whole, whole], [part, part]], resamples=100))
        each = [intervals_of(resample([[fold]], resamples=2)) for fold in (whole, part)]
        means = [
            np.mean([e.per_class["class 0"]["AP50"].value for e in each]),
            each[0].per_class["class 1"]["AP50"].value,
        ]
        assert [found.per_class[name]["AP50"].value for name in ("class 0", "class 1")] == pytest.approx(means)
        assert found.overall["AP50"].value == pytest.approx(np.mean([e.overall["AP50"].value for e in each]))

    def test_different_images_are_refused(self) -> None:
        a, b = (evaluated_of(*random_case(seed)) for seed in (0, 1))
        with pytest.raises(DataError, match="judged by different labels; judge all by the same"):
            bootstrap([a, b])
        with pytest.raises(
            DataError, match="judged by different labels, or their images drawn differently; judge both"
        ):
            paired_bootstrap([a], [b], resamples=2)
        with pytest.raises(DataError, match="no run to resample"):
            difference_of(resample([]), resample([]))


def made(
    rng: np.random.Generator, *, images: int, classes: int = 2, false_an_image: float = 2, labelled: int | None = None
) -> Evaluated:
    """A judged world made without boxes: images differ in how hard they are, the same at every IoU."""
    truth_rows: list[tuple[int, int]] = []
    found_rows: list[tuple[int, int, float, int]] = []
    for image in range(images):
        hard, category = rng.normal(), int(rng.integers(labelled or classes))
        for _ in range(1 + rng.poisson(1)):
            truth_rows.append((image, category))
            seen = 1.2 - hard + rng.normal()
            if seen > 0:
                found_rows.append((image, category, 1 / (1 + np.exp(1 - seen - rng.normal())), len(truth_rows) - 1))
        for _ in range(rng.poisson(false_an_image)):
            score = 1 / (1 + np.exp(1.2 - 1.2 * rng.normal()))
            found_rows.append((image, int(rng.integers(classes)), score, -1))
    at, kind, scores, hit = (np.array(column) for column in zip(*found_rows))
    order = np.lexsort((-scores, at, kind))
    label_image, label_kind = np.array(truth_rows).T
    labels, found = len(truth_rows), len(found_rows)
    truth = Truth(
        images=tuple(JudgedImage(i, f"{i}.png", 200, 200) for i in range(images)),
        category_ids=tuple(range(1, classes + 1)),
        categories=tuple(f"class {k}" for k in range(classes)),
        boxes_xywh=np.ones((labels, 4)),
        area=np.ones(labels),
        image=label_image,
        category=label_kind,
        crowd=np.zeros(labels, bool),
    )
    matches = Matches(
        order, np.tile(hit[order], (10, 1)), np.zeros((10, found), bool), np.zeros((10, labels), np.int64)
    )
    nothing = np.empty(0)
    return Evaluated(truth, Found(np.ones((found, 4)), scores, at, kind), matches, nothing, nothing)


def test_intervals_of_images_hold_the_true_value_about_as_often_as_they_say() -> None:
    """95 % are promised; with 80 images a little less holds, as AP is skewed."""
    rng = np.random.default_rng(11)
    large = made(rng, images=6000)
    true = resampled_precision(large, np.ones((1, 6000), np.int64))[0, 0].mean()
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
        both.append(difference_of(first, second).overall["AP50"].verdict())
        images.append(difference_of(first, second, seeds_too=False).overall["AP50"].verdict())
    assert both.count("cannot tell") >= 0.85 * len(both)
    assert images.count("cannot tell") < 0.85 * len(both)


def shaken(rng: np.random.Generator, world: Evaluated, *, lost: float = 0) -> Evaluated:
    """The same world seen by another network of the same kind: other scores, and a share of the hits lost."""
    found = world.found
    scores = found.scores * rng.uniform(0.4, 1, len(found.scores))
    order = np.lexsort((-scores, found.image, found.category))
    back = np.empty_like(order)
    back[world.matches.order] = np.arange(len(order))
    truth_of = world.matches.truth_of[:, back[order]]
    truth_of = np.where(rng.random(len(order)) < lost, -1, truth_of)
    matches = Matches(order, truth_of, world.matches.ignored, world.matches.detection_of)
    return Evaluated(
        world.truth,
        Found(found.boxes_xywh, scores, found.image, found.category),
        matches,
        world.precision,
        world.recall,
    )
