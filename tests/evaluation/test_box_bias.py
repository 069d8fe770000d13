"""The shift that all boxes share: found in the midst of boxes that read a place otherwise, told where it is clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean

from conftest import Outcome
from detect.evaluation.localisation import box_bias, clustered_interval, interquartile_mean, localisation
from detect.evaluation.summary import judge
from detect.report.page import write_report
from detect.report.tables import box_bias_sentence, box_bias_text
from evaluation_cases import case

Moves = list[tuple[float, float]]


def judged(moves: Moves, *, images: int = 60, boxes: int = 1) -> Any:
    """Boxes of each image, found as far to the right and below as the moves say in turn."""
    size = {"width": 900, "height": 200}
    truth: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.bmp", **size} for i in range(1, images + 1)],
        "annotations": [],
        "categories": [{"id": 1, "name": "patches"}, {"id": 2, "name": "scratches"}],
    }
    found = []
    for i in range(1, images + 1):
        (x, y), kind = moves[i % len(moves)], {"image_id": i, "category_id": 1 + i % 2}
        for j in range(boxes):
            left = 20 + 95 * j
            number = len(truth["annotations"]) + 1
            truth["annotations"].append({"id": number, **kind, "bbox": [left, 50, 80, 80], "iscrowd": 0})
            found.append({**kind, "bbox": [left + x, 50 + y, 80, 80], "score": 0.9})
    return judge(truth, found)


class TestDisplacement:
    def test_few_boxes_that_read_a_place_otherwise_have_no_say(self) -> None:
        """Ten in sixty reach 20 pixels too far up, which the ordinary mean follows."""
        result = judged([(1.0, 0.8), (1.2, 0.9), (0.8, 1.0), (1.1, 1.1), (0.9, 1.2), (1.0, -20)])
        assert result.summary["box_bias"] == box_bias(result.evaluated)
        assert result.summary["box_bias"]["px"]["y"] == pytest.approx(1.0, abs=0.1)
        assert localisation(result.evaluated)["centre_offset_px"]["y"] < -2
        assert result.summary["box_bias"]["px"]["x"] == pytest.approx(1.0, abs=0.05)
        assert box_bias_text(result.summary["box_bias"]) == (
            "overall, the boxes are 1.0 px right of and 1.0 px below their labels"
        )

    def test_all_classes_have_their_say(self) -> None:
        """Odd images are of one class and right, even ones of the other and four pixels off."""
        found = judged([(4.0, 0.0), (0.0, 0.0)]).summary["box_bias"]
        assert found["matched"] == 60
        assert found["px"] == pytest.approx({"x": 2, "y": 0})

    def test_each_axis_has_its_sign_and_its_word(self) -> None:
        found = judged([(-0.7, -0.4), (-0.8, -0.4)]).summary["box_bias"]
        assert box_bias_text(found) == "overall, the boxes are 0.8 px left of and 0.4 px above their labels"
        assert found["clear"] == {"x": True, "y": True}
        low, high = found["interval_px"]["x"]
        assert -0.8 < low < -0.75 < high < -0.7

    @pytest.mark.parametrize("moves", [[(0.2, -0.2)], [(5.0, 9.0), (-5.0, -8.0)]], ids=["tiny", "scattered"])
    def test_what_is_tiny_or_chance_is_not_told(self, moves: Moves) -> None:
        found = judged(moves).summary["box_bias"]
        assert found["clear"] == {"x": False, "y": False}
        assert box_bias_text(found) == "the boxes have no significant common offset of 0.3 px or more"

    def test_few_images_tell_nothing_about_others(self) -> None:
        found = judged([(2.0, 2.0)], images=1).summary["box_bias"]
        assert (found["px"], found["interval_px"]) == ({"x": 2, "y": 2}, {"x": None, "y": None})
        assert not any(found["clear"].values())
        nine, ten = (judged([(2.0, 2.0)], images=count).summary["box_bias"]["clear"]["x"] for count in (9, 10))
        assert (nine, ten) == (False, True)

    def test_boxes_of_one_image_or_group_are_one_piece_of_evidence(self) -> None:
        """Half of the images are off by 3 pixels, all their boxes together; as single boxes they would be certain."""
        moves = [(3.0, 0.0), (0.0, 0.0), (3.0, 0.0), (-1.0, 0.0)]
        result = judged(moves, images=40, boxes=9)
        low, high = box_bias(result.evaluated)["interval_px"]["x"]
        alone = clustered_interval(np.array([moves[i % 4][0] for i in range(360)])[:, None], np.arange(360))
        assert high - low > 2.5 * (alone[1] - alone[0])[0]
        coils = box_bias(result.evaluated, groups=[i % 4 for i in range(40)])
        assert coils["interval_px"]["x"][1] - coils["interval_px"]["x"][0] > high - low
        assert coils["clear"]["x"] is False

    def test_detections_on_crowds_have_no_say(self) -> None:
        labels = [(i, "patches", (50.0, 50.0, 90.0, 90.0)) for i in (1, 2, 3)]
        found = [(i, "patches", (50.0 + 4 * (i == 3), 50.0, 90.0 + 4 * (i == 3), 90.0), 0.9) for i in (1, 2, 3)]
        told = judge(*case(labels, found, crowd=(2,))).summary["box_bias"]
        assert (told["matched"], told["px"]["x"]) == (2, 0)

    def test_without_a_match_all_keys_are_there_and_empty(self) -> None:
        nothing = judge(*case([(1, "patches", (50, 50, 90, 90))], [])).summary["box_bias"]
        assert list(nothing) == list(judged([(1, 1)]).summary["box_bias"])
        assert (nothing["matched"], nothing["px"]) == (0, {"x": None, "y": None})
        assert json.loads(json.dumps(nothing, allow_nan=False)) == nothing


class TestInterquartileMean:
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 100])
    def test_it_is_the_trimmed_mean_and_the_mean_of_what_stands_for_it(self, count: int) -> None:
        values = np.random.default_rng(count).normal(3, 2, (count, 2))
        middle, standing_for = interquartile_mean(values)
        assert middle == pytest.approx(trim_mean(values, 0.25))
        assert standing_for.mean(axis=0) == pytest.approx(middle)

    def test_intervals_hold_the_truth_about_as_often_as_they_say(self) -> None:
        """Boxes of an image err together, and one in seven reads its place otherwise."""
        rng = np.random.default_rng(3)
        inside, widths = 0, []
        for _ in range(600):
            cluster = np.repeat(np.arange(60), rng.integers(1, 6, 60))
            wild = rng.random(len(cluster)) < 1 / 7
            values = rng.normal(size=60)[cluster] + rng.normal(size=len(cluster)) * np.where(wild, 25, 1)
            low, high = clustered_interval(interquartile_mean(values[:, None])[1], cluster)[:, 0]
            inside += low <= 0 <= high
            plain = clustered_interval(values[:, None], cluster)
            widths.append((high - low) / (plain[1] - plain[0])[0])
        assert 0.92 <= inside / 600 <= 0.98
        assert np.median(widths) < 0.5, "that of the ordinary mean is more than twice as wide"


class TestReport:
    def test_a_clear_shift_is_told_with_its_interval_and_what_it_may_come_from(self, tmp_path: Path) -> None:
        found = judged([(0.9, 0.1), (1.1, -0.1), (1.0, 0.0)])
        told = box_bias_sentence(found.summary)
        assert told.startswith("Overall, the boxes are 1.0 px right of their labels (95\N{NO-BREAK SPACE}%: ")
        assert "+1.0 to +1.0 px to the right)" in told
        assert "labels are offset from the objects" in told
        assert "downwards" not in told, "nothing is said of the axis that is right"
        paths = write_report(found, tmp_path, images_root=None)
        assert told in unescape(paths.html.read_text(encoding="utf-8"))
        assert "Overall, the boxes are 1.0 px right" in paths.markdown.read_text(encoding="utf-8")

    def test_the_command_counts_groups(self, tmp_path: Path, detect: Callable[..., Outcome]) -> None:
        """Twelve images of two coils: clear by itself, and no more where a coil counts once."""
        result = judged([(2.0, 0.0)], images=12)
        labels, found = tmp_path / "labels.json", tmp_path / "found.json"
        boxes = result.evaluated.truth.boxes_xywh.tolist()
        images = [{"id": i, "file_name": f"{i}.png", "width": 900, "height": 200, "coil": i % 2} for i in range(1, 13)]
        kinds = [{"image_id": i, "category_id": 1 + i % 2} for i in range(1, 13)]
        annotations = [{"id": i, **kind, "bbox": box} for i, (kind, box) in enumerate(zip(kinds, boxes), 1)]
        categories = [{"id": 1, "name": "patches"}, {"id": 2, "name": "scratches"}]
        labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        found.write_text(json.dumps(result.detections))
        arguments = ["evaluate", "--detections", found, "--data", labels, "--out", tmp_path / "out"]

        def edge_intervals() -> dict[str, Any]:
            report = json.loads((tmp_path / "out" / "report.json").read_text())
            return {name: each["edge_bias_interval_px"]["left"] for name, each in report["per_class"].items()}

        assert "overall, the boxes are 2.0 px right of their labels" in detect(*arguments).out
        assert edge_intervals() == {"patches": [2, 2], "scratches": [2, 2]}
        assert "overall, the boxes are" not in detect(*arguments, "--group-key", "coil").out
        assert edge_intervals() == {"patches": None, "scratches": None}  # all boxes of a class are of one coil

    def test_none_is_told_as_none(self) -> None:
        told = box_bias_sentence(judged([(0.0, 0.0)]).summary)
        assert told == "The boxes have no significant common offset of 0.3 px or more."
