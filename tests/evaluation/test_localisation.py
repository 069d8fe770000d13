"""Localisation accuracy: histogram, centre and edges by hand, AP at each IoU, and the coverage of intervals."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.evaluation.localisation import EDGES, ap_by_iou, clustered_interval, localisation
from detect.evaluation.summary import judge
from detect.report.tables import edge_bias_text
from evaluation_cases import AWAY, PART, WHOLE, case, random_case

PATCHES = 1
Corners = tuple[float, float, float, float]


def of_patches(pairs: list[tuple[int, Corners, Corners]], **kwargs: Any) -> dict[str, Any]:
    """Of (image, true, found) rows."""
    labels = [(image, "patches", true) for image, true, _ in pairs]
    found = [(image, "patches", box, 0.9) for image, _, box in pairs]
    return localisation(judge(*case(labels, found)).evaluated, PATCHES, **kwargs)


def moved(left: float = 0, top: float = 0, right: float = 0, bottom: float = 0, at: Corners = WHOLE) -> Corners:
    return at[0] + left, at[1] + top, at[2] + right, at[3] + bottom


class TestOverlap:
    def test_histogram_and_quartiles(self) -> None:
        heights = [50, 54, 55, 72, 99.9, 100]  # IoU 0.5, 0.54, ...
        places = [(1, 0.0), (1, 100.0), (2, 0.0), (2, 100.0), (3, 0.0), (3, 100.0)]
        pairs = [(image, (0.0, y, 100.0, y + 100), (0.0, y, 100.0, y + h)) for (image, y), h in zip(places, heights)]
        result = of_patches(pairs)
        edges = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
        assert result["iou_histogram"] == {"edges": edges, "counts": [2, 1, 0, 0, 1, 0, 0, 0, 0, 2]}
        assert result["iou_quartiles"] == pytest.approx([0.5425, 0.635, 0.92925])
        assert result["mean_iou"] == pytest.approx(np.mean(heights) / 100)

    def test_every_pair_is_in_the_histogram(self) -> None:
        for seed in range(4):
            result = localisation(judge(*random_case(seed, images=10)).evaluated)
            assert sum(result["iou_histogram"]["counts"]) == result["matched"] > 0
            assert result["iou_quartiles"] == sorted(result["iou_quartiles"])


class TestCentre:
    def test_offset_has_its_sign_and_the_distance_does_not_cancel(self) -> None:
        to_the_right = (1, WHOLE, moved(left=4, right=4))
        result = of_patches([to_the_right, (2, WHOLE, moved(left=-4, top=6, right=-4))])
        assert result["centre_offset_px"] == pytest.approx({"x": 0, "y": 1.5, "distance": (4 + 5) / 2})


class TestEdges:
    def test_interval_by_hand(self) -> None:
        """Mean 8 / 3; 4 without image 1 and 2 without image 2: variance 1 / 2 * (16 / 9 + 4 / 9), 1 degree."""
        far = (100.0, 100.0, 200.0, 200.0)
        pairs = [(1, WHOLE, moved(left=1)), (1, far, moved(left=3, at=far)), (2, WHOLE, moved(left=4))]
        result = of_patches(pairs)
        low, high = result["edge_bias_interval_px"]["left"]
        assert (low + high) / 2 == pytest.approx(8 / 3)
        assert (high - low) / 2 == pytest.approx(12.7062 * (10 / 9) ** 0.5, rel=1e-5)
        assert result["edge_bias_interval_px"]["top"] == [0, 0]
        assert not any(result["edge_bias_clear"].values())

    def test_one_image_tells_nothing_about_others(self) -> None:
        far = (100.0, 100.0, 200.0, 200.0)
        result = of_patches([(1, WHOLE, moved(left=5)), (1, far, moved(left=5, at=far))])
        assert result["edge_bias_px"]["left"] == 5
        assert result["edge_bias_interval_px"] == dict.fromkeys(EDGES)
        assert edge_bias_text(result) == "no edge has a significant bias of 0.5 px or more"

    def test_images_of_one_group_are_one_piece_of_evidence(self) -> None:
        pairs = [(i, WHOLE, moved(bottom=offset)) for i, offset in ((1, -3.0), (2, -3.2), (3, -3.1))]
        assert edge_bias_text(of_patches(pairs)) == "ends 3.1 px too high at the bottom"
        grouped = of_patches(pairs, groups=[7, 7, 7])
        assert grouped["edge_bias_interval_px"]["bottom"] is None
        assert grouped["edge_bias_clear"]["bottom"] is False

    def test_a_clear_but_tiny_bias_is_not_worth_saying(self) -> None:
        pairs = [(i, WHOLE, moved(right=offset)) for i, offset in ((1, 0.4), (2, 0.4), (3, 0.4))]
        result = of_patches(pairs)
        assert result["edge_bias_interval_px"]["right"] == pytest.approx([0.4, 0.4])
        assert result["edge_bias_clear"]["right"] is False

    def test_all_categories_together(self) -> None:
        labels = [(1, "patches", WHOLE), (2, "scratches", WHOLE)]
        found = [(1, "patches", moved(left=2), 0.9), (2, "scratches", moved(left=4), 0.9)]
        evaluated = judge(*case(labels, found)).evaluated
        assert localisation(evaluated)["edge_bias_px"]["left"] == 3
        assert localisation(evaluated)["matched"] == 2

    def test_without_a_match_all_keys_are_there_and_empty(self) -> None:
        evaluated = judge(
            *case([(1, "patches", WHOLE)], [(1, "patches", PART, 0.9), (2, "patches", AWAY, 0.8)])
        ).evaluated
        nothing, something = localisation(evaluated, PATCHES), of_patches([(1, WHOLE, WHOLE)])
        assert list(nothing) == list(something)
        assert (nothing["matched"], nothing["iou_quartiles"]) == (0, None)
        assert sum(nothing["iou_histogram"]["counts"]) == 0
        assert json.loads(json.dumps([nothing, something], allow_nan=False)) == [nothing, something]


class TestClusteredInterval:
    @pytest.mark.parametrize("images", [8, 40])
    def test_holds_the_true_mean_about_as_often_as_it_says(self, images: int) -> None:
        """Boxes of one image err together, and images hold from one to nine of them."""
        rng = np.random.default_rng(5)
        inside = plain = 0
        for _ in range(600):
            cluster = np.repeat(np.arange(images), rng.integers(1, 10, images))
            values = (rng.normal(size=images)[cluster] + rng.normal(size=len(cluster)))[:, None]
            low, high = clustered_interval(values, cluster)[:, 0]
            inside += low <= 0 <= high
            plain += abs(values.mean()) <= 1.96 * values.std() / len(values) ** 0.5
        assert 0.93 <= inside / 600 <= 0.98
        assert plain / 600 < 0.8, "taken as independent the interval is too narrow"

    def test_one_value_a_cluster_is_the_usual_interval_of_a_mean(self) -> None:
        values = np.random.default_rng(0).normal(2, 3, (25, 2))
        low, high = clustered_interval(values, np.arange(25)[::-1])
        assert (low + high) / 2 == pytest.approx(values.mean(axis=0))
        error = values.std(axis=0, ddof=1) / 5
        assert (high - low) / 2 == pytest.approx(2.063899 * error, rel=1e-4)

    @pytest.mark.parametrize(("clusters", "t"), [(2, 12.7062), (3, 4.30265), (4, 3.18245), (5, 2.77645), (11, 2.22814)])
    def test_few_clusters_have_students_t(self, clusters: int, t: float) -> None:
        values = np.arange(clusters, dtype=float)[:, None]
        low, high = clustered_interval(values, np.arange(clusters))[:, 0]
        assert (high - low) / 2 == pytest.approx(t * values.std(ddof=1) / clusters**0.5, rel=2e-3)

    def test_one_cluster_has_none(self) -> None:
        assert clustered_interval(np.ones((4, 1)), np.zeros(4)) is None


def pycocotools_at_each_iou(truth: dict[str, Any], detections: list[dict[str, Any]], category: int | None) -> list[Any]:
    """What COCOeval.summarize would print at each IoU over all sizes and 100 detections; None for -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = truth
        labels.createIndex()
        coco_eval = COCOeval(labels, labels.loadRes(detections), "bbox")
        if category is not None:
            coco_eval.params.catIds = [category]
        coco_eval.evaluate()
        coco_eval.accumulate()
    values = []
    for iou in coco_eval.params.iouThrs:
        at_iou = coco_eval.eval["precision"][np.where(iou == coco_eval.params.iouThrs)[0]][:, :, :, [0], [2]]
        values.append(float(np.mean(at_iou[at_iou > -1])) if (at_iou > -1).any() else None)
    return values


class TestApByIou:
    @pytest.mark.parametrize("seed", range(4))
    def test_equals_pycocotools_bit_for_bit(self, seed: int) -> None:
        truth, detections = random_case(seed)
        judgement = judge(truth, detections)
        overall = ap_by_iou(judgement.evaluated)
        assert list(overall) == ["0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]
        assert list(overall.values()) == pycocotools_at_each_iou(truth, detections, None)
        assert (overall["0.50"], overall["0.75"]) == (judgement.summary["AP50"], judgement.summary["AP75"])
        for k, category in enumerate(sorted(each["id"] for each in truth["categories"])):
            mine = list(ap_by_iou(judgement.evaluated, k).values())
            assert mine == pycocotools_at_each_iou(truth, detections, category)
