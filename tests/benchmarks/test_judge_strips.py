"""Evaluation on strips: the averaging baseline by hand, predictions of a perfect detector, tables, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import Outcome
from detect.config.schema import ModelConfig
from detect.data.dataset import DetectionDataset, read_dataset
from detect.datasets import coco
from detect.evaluation.summary import average_precision
from detect.images import write_image
from detect.inference.predictor import Predictor
from detect.models.checkpoint import Checkpoint, DetectorSpec, save_checkpoint
from detect.structures import Box, Dataset, Detections, Frame, Image
from judge_strips import (
    FrameTimes,
    by_condition,
    frame_times,
    ignore_new_objects,
    judge_strips,
    main,
    only,
    score_detections,
    score_difference,
)
from strip_systems import (
    AVERAGED_MOVED,
    COPIED,
    MOVED,
    PER_FRAME,
    AveragedDetections,
    FrameStep,
    average,
    propagate,
    run_key_frames,
    run_strips,
    steps_of,
)
from tiny import TINY_MODEL

Detect = Callable[..., Outcome]


@pytest.fixture
def judge(capfd: pytest.CaptureFixture[str]) -> Detect:
    """Run the script with arguments in this process."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # from argparse
            code = int(error.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


SIZE = (100, 100)
LIGHT = {"name": "csp", "stem": 8, "widths": (8, 8, 8, 8), "depths": (0, 0, 0, 0)}


def make_detections(*rows: tuple[Sequence[float], float, int]) -> Detections:
    """Detections from rows of (box, score, label)."""
    boxes, scores, labels = ([row[i] for row in rows] for i in range(3))
    as_arrays = np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    return Detections(*as_arrays, ("a", "b"))


def rows(known: AveragedDetections) -> list[tuple[list[float], float, int]]:
    each = known.detections
    return [(b.tolist(), round(float(s), 4), int(k)) for b, s, k in zip(each.boxes_xyxy, each.scores, each.labels)]


class TestAveraging:
    """The surface moves up by 10 pixels per frame, so rows 90 to 100 are new."""

    UP = (0.0, -10.0)
    FIRST = make_detections(([10, 40, 30, 60], 0.8, 1))

    def after(self, *frames: Detections) -> AveragedDetections:
        known = average(self.FIRST, None, (0, 0), SIZE)
        for frame in frames:
            known = average(frame, known, self.UP, SIZE)
        return known

    def test_first_frame_is_unchanged(self) -> None:
        assert rows(self.after()) == [([10, 40, 30, 60], 0.8, 1)]

    def test_match_has_the_mean_score_and_the_current_box(self) -> None:
        assert rows(self.after(make_detections(([11, 31, 31, 51], 0.4, 1)))) == [([11, 31, 31, 51], 0.6, 1)]

    def test_score_of_a_missed_object_falls_with_each_frame(self) -> None:
        assert rows(self.after(make_detections())) == [([10, 30, 30, 50], 0.4, 1)]
        assert rows(self.after(make_detections(), make_detections())) == [([10, 20, 30, 40], round(0.8 / 3, 4), 1)]

    def test_new_objects_keep_their_score_on_new_surface_only(self) -> None:
        new = make_detections(([50, 88, 70, 100], 0.9, 2), ([50, 50, 70, 70], 0.5, 2))
        assert rows(self.after(new)) == [
            ([50, 88, 70, 100], 0.9, 2),
            ([10, 30, 30, 50], 0.4, 1),
            ([50, 50, 70, 70], 0.25, 2),
        ]

    def test_other_categories_do_not_match(self) -> None:
        assert rows(self.after(make_detections(([10, 30, 30, 50], 0.4, 2)))) == [
            ([10, 30, 30, 50], 0.4, 1),
            ([10, 30, 30, 50], 0.2, 2),
        ]

    def test_earlier_box_matches_once_with_the_best_score(self) -> None:
        duplicates = make_detections(([10, 32, 30, 52], 0.3, 1), ([10, 30, 30, 50], 0.6, 1))
        assert rows(self.after(duplicates)) == [([10, 30, 30, 50], 0.7, 1), ([10, 32, 30, 52], 0.15, 1)]

    def test_boxes_are_clipped_at_the_border_and_removed_outside(self) -> None:
        cut = self.after(make_detections(), make_detections(), make_detections(), make_detections(), make_detections())
        assert rows(cut) == [([10, 0, 30, 10], round(0.8 / 6, 4), 1)]
        assert rows(average(make_detections(), cut, self.UP, SIZE)) == []

    def test_frames_without_common_surface_do_not_count(self) -> None:
        known = self.after(*[make_detections()] * 12)
        assert len(known.since_xy) == 10
        assert rows(average(make_detections(([10, 40, 30, 60], 0.5, 1)), known, (0, -100), SIZE)) == [
            ([10, 40, 30, 60], 0.5, 1)
        ]

    def test_propagation_keeps_scores(self) -> None:
        assert rows(propagate(self.after(), (5.0, -10.0), SIZE)) == [([15, 30, 35, 50], 0.8, 1)]

    def test_scores_are_at_most_1_for_growing_boxes(self) -> None:
        grown = average(make_detections(([10, 30, 30, 100], 0.9, 1)), self.after(), self.UP, SIZE)
        assert all(score <= 1 for _, score, _ in rows(grown))

    def test_number_of_detections_is_limited(self) -> None:
        known = average(make_detections(([50, 50, 70, 70], 0.9, 2)), self.after(), self.UP, SIZE, max_detections=1)
        assert rows(known) == [([50, 50, 70, 70], 0.45, 2)]


class Perfect(nn.Module):
    """Detector that identifies a frame by its gray level and returns its true boxes."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.known = DetectionDataset(dataset, channels=1)
        self.weight = nn.Parameter(torch.zeros(1))
        self.transform = type("Transform", (), {"image_mean": [0.5]})()
        self.calls = 0

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        self.calls += 1
        samples = [self.known[round(float(image[0, 0, 0]) * 255)] for image in images]
        return [
            {"boxes": torch.tensor(s.boxes_xyxy), "labels": torch.tensor(s.labels), "scores": torch.ones(len(s.labels))}
            for s in samples
        ]


@pytest.fixture
def filmed(tmp_path: Path) -> Dataset:
    """Two equal strips of six 100 x 100 frames with five 20 x 20 objects that move up by 30 pixels per frame.

    Of the 11 boxes after the first frame of a strip, 3 are on new surface: objects 110 and 160, and the upper 15 rows
    of object 205, which is complete one frame later. Two frames of the second strip are degraded.
    """
    images = []
    conditions = {8: "blurred", 10: "dropped"}
    for position in range(12):
        strip, number = divmod(position, 6)
        boxes = []
        for top in (10, 60, 110, 160, 205):
            y1, y2 = max(top - 30 * number, 0), min(top + 20 - 30 * number, 100)
            if y2 > y1:
                boxes.append(Box("a", (40, y1, 60, y2)))
        path = tmp_path / f"{position}.png"
        write_image(path, np.full(SIZE, position, np.uint8))
        frame = Frame("xy"[strip], number, (0, 30 * number), conditions.get(position, "clean"))
        images.append(Image(path, *SIZE, tuple(boxes), frame))
    return Dataset(tuple(images), ("a",))


def setup(dataset: Dataset) -> tuple[Perfect, DetectionDataset, list[list[FrameStep]]]:
    images = DetectionDataset(dataset, channels=1)
    return Perfect(dataset), images, steps_of(images, read_motion=False)


class TestPerfectDetector:
    def test_predictions_are_right_where_the_surface_was_visible(self, filmed: Dataset) -> None:
        model, images, strips = setup(filmed)
        detections = run_strips(model, ("a",), images, strips)  # type: ignore[arg-type]
        truth = coco.to_dict(filmed, Path())
        later = only(truth, [i for i in range(12) if i % 6])
        truths = {"all": later, "seen before": ignore_new_objects(truth, strips)}
        strip_of = [0] * 6 + [1] * 6

        def ap50(mode: str) -> dict[str, float]:
            scores = score_detections([detections[mode]], truths, strip_of, resamples=20).as_dict(0.95)
            return {part: metrics["AP50"]["mean"] for part, metrics in scores.items()}

        assert ap50(PER_FRAME) == pytest.approx({"all": 1, "seen before": 1})
        # 8 of 11 objects and no false positives: precision 1 at the 73 of 101 recalls from 0 to 8 / 11
        assert ap50(MOVED) == pytest.approx({"all": 73 / 101, "seen before": 1})
        assert ap50(AVERAGED_MOVED) == pytest.approx({"all": 73 / 101, "seen before": 1})
        assert ap50(COPIED) == pytest.approx({"all": 0, "seen before": 0})

    def test_new_objects_are_ignored(self, filmed: Dataset) -> None:
        _, _, strips = setup(filmed)
        truth = ignore_new_objects(coco.to_dict(filmed, Path()), strips)
        assert [image["id"] for image in truth["images"]] == [i + 1 for i in range(12) if i % 6]
        ignored = [(a["image_id"], a["bbox"][1]) for a in truth["annotations"] if a["iscrowd"]]
        assert ignored == [(2, 80), (4, 70), (5, 85), (8, 80), (10, 70), (11, 85)]

    def test_only_key_frames_are_processed(self, filmed: Dataset) -> None:
        model, images, strips = setup(filmed)
        three = run_key_frames(model, ("a",), images, strips, 3, "boxes moved")  # type: ignore[arg-type]
        assert model.calls == 4
        assert sorted(three) == list(range(12))
        assert three[3].boxes_xyxy[:, 1].tolist() == [20, 70]
        assert three[2].boxes_xyxy[:, 1].tolist() == [0]  # moved from frame 0, without new objects

    def test_missing_frame_is_skipped_by_motion(self, filmed: Dataset) -> None:
        incomplete = Dataset(tuple(image for i, image in enumerate(filmed.images) if i % 6 != 1), ("a",))
        images = DetectionDataset(incomplete, channels=1)
        strips = steps_of(images, read_motion=False)
        steps = [(step.gap, step.motion_xy, step.total_xy, step.expected_xy) for step in strips[0][:2]]
        assert steps == [(0, (0, 0), (0, 0), (0, 0)), (2, (0, -30), (0, -60), (0, -30))]
        detections = run_strips(Perfect(filmed), ("a",), images, strips)  # type: ignore[arg-type]
        assert detections[MOVED][1].boxes_xyxy.tolist() == [[40, 0, 60, 20]]
        assert len(detections[COPIED][1]) == 2

    def test_estimated_motion_is_not_known_before_the_frame(self, tmp_path: Path) -> None:
        steel = np.kron(np.random.default_rng(0).normal(128, 30, (100, 32)), np.ones((4, 4)))
        images = []
        for number, top in ((0, 0), (1, 20), (2, 50), (4, 100)):
            write_image(tmp_path / f"{number}.png", np.clip(steel[top : top + 128], 0, 255).astype(np.uint8))
            images.append(Image(tmp_path / f"{number}.png", 128, 128, (), Frame("x", number)))
        (strip,) = steps_of(DetectionDataset(Dataset(tuple(images), ("a",)), channels=1), read_motion=True)

        def motions(*motions_y: float) -> list[Any]:
            return [pytest.approx((0, y), abs=0.5) for y in motions_y]

        assert [step.motion_xy for step in strip] == motions(0, -20, -30, -25)
        assert [step.expected_xy for step in strip] == motions(0, 0, -20, -30)
        # The missing frame 3 was skipped with 30 pixels, so 20 of the 50 pixels up to frame 4 remain.
        assert [step.remaining_xy for step in strip] == motions(0, -20, -30, -20)

    def test_parts_by_condition(self, filmed: Dataset) -> None:
        parts = by_condition(coco.to_dict(filmed, Path()), filmed)
        ids = {name: [image["id"] for image in part["images"]] for name, part in parts.items()}
        assert list(ids) == ["all", "clean", "blurred", "dropped", "degraded"]
        assert (ids["blurred"], ids["degraded"], len(ids["clean"])) == ([9], [9, 11], 10)
        assert {a["image_id"] for a in parts["blurred"]["annotations"]} == {9}

    def test_differences_have_verdicts(self, filmed: Dataset) -> None:
        model, images, strips = setup(filmed)
        detections = run_strips(model, ("a",), images, strips)  # type: ignore[arg-type]
        truth = {"all": coco.to_dict(filmed, Path())}
        nothing = {i: make_detections() for i in range(12)}
        good, bad = (
            score_detections([each], truth, [0] * 6 + [1] * 6, resamples=50)
            for each in (detections[PER_FRAME], nothing)
        )
        assert score_difference(good, bad, 0.95)["all"]["AP50"] == {
            "value": 1,
            "low": 1,
            "high": 1,
            "verdict": "better",
        }
        assert score_difference(bad, good, 0.95)["all"]["AP50"]["verdict"] == "worse"

    def test_times_of_key_frames_and_frames_between(self, filmed: Dataset) -> None:
        assert FrameTimes(10, 2).frames_per_second(1) == pytest.approx(100)
        assert FrameTimes(10, 2).frames_per_second(3) == pytest.approx(3000 / 14)
        model, _, strips = setup(filmed)
        threads = torch.get_num_threads()
        times = frame_times(
            {"x": model},  # type: ignore[dict-item]
            filmed,
            strips[0],
            whites={"x": None},
            read_motion=True,
            threads=threads + 1,
        )
        assert set(times) == {("x", "new region"), ("x", "boxes moved")}
        assert times["x", "boxes moved"].key_ms > 0
        # two rounds over six frames: half are key frames, and one mode processes the others too
        assert model.calls == 2 * (6 + 3)
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("motion", ["recorded", "read"])
def test_16_bit_frames_use_the_white_level_of_the_training(
    motion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12-bit frames: every function that reads them must use the white level 4095."""
    rng = np.random.default_rng(0)
    steel, images = rng.integers(0, 4095, (120, 64)).astype(np.uint16), []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        write_image(path, np.ascontiguousarray(steel[10 * number : 10 * number + 64]))
        images.append(Image(path, 64, 64, (Box("a", (8, 20, 40, 50)),), Frame("s", number, (0, 10 * number))))
    coco.write({"val": Dataset(tuple(images), ("a", "b"))}, tmp_path)
    write_run(tmp_path / "plain", 0, max_value=4095)
    write_run(tmp_path / "memory", 0, max_value=4095, kind="gru")
    whites: dict[str, set[int | None]] = {}
    for module, name in (
        ("detect.inference.stream", "unit_range"),
        ("detect.inference.detection", "unit_range"),
        ("strip_systems", "estimate_motion"),
        ("judge_strips", "estimate_motion"),
    ):
        use = getattr(import_module(module), name)

        def recorded(*arguments: Any, use: Any = use, name: str = f"{module}.{name}") -> Any:
            whites.setdefault(name, set()).add(arguments[-1])
            return use(*arguments)

        monkeypatch.setattr(f"{module}.{name}", recorded)
    judge_strips(
        [tmp_path / "plain", tmp_path / "memory"],
        tmp_path / "val.json",
        every=(2,),
        read_motion=motion == "read",
        threads=1,
        resamples=2,
    )
    assert set().union(*whites.values()) == {4095}
    assert len(whites) == (4 if motion == "read" else 2)


def write_run(
    folder: Path, seed: int, categories: tuple[str, ...] = ("a", "b"), max_value: int | None = None, **memory: Any
) -> Path:
    """Write an untrained run."""
    tree = {**TINY_MODEL, "roi": {**TINY_MODEL["roi"], "score_threshold": 0.0, "max_detections": 10}}
    model = ModelConfig.model_validate(tree | ({"memory": memory} if memory else {}))
    shapes = [[(12.0, 12.0), (24.0, 12.0)]] * 4
    detector = DetectorSpec(model, categories, 1, (0.5,), (0.2,), shapes, max_value)
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    save_checkpoint(folder / "last.pt", Checkpoint(detector, detector.build().state_dict(), epoch=3))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strips of four frames of 64 x 64 pixels in val.json; the systems plain (two seeds) and memory."""
    folder = tmp_path_factory.mktemp("strips")
    rng = np.random.default_rng(0)
    images = []
    for strip in range(3):
        steel = rng.normal(128, 25, (160, 64))
        for number in range(4):
            path = folder / f"{strip}_{number}.png"
            dropped = number == 2
            pixels = np.clip(steel[10 * number : 10 * number + 64], 0, 255).astype(np.uint8)
            write_image(path, np.zeros_like(pixels) if dropped else pixels)
            boxes = (Box("a", (8, 20, 40, 50)), Box("b", (30, 10, 60, 30)))
            frame = Frame(f"s{strip}", number, (0, 10 * number), "dropped" if dropped else "clean")
            images.append(Image(path, 64, 64, boxes, frame))
    coco.write({"val": Dataset(tuple(images), ("a", "b"))}, folder)
    write_run(folder / "plain" / "seed0", 0)
    write_run(folder / "plain" / "seed1", 1)
    write_run(folder / "memory", 2, kind="gru", light=LIGHT)
    return folder


@pytest.fixture(scope="module")
def out(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    runs = [str(inputs / "plain"), str(inputs / "memory")]
    data = ["--data", str(inputs / "val.json"), "--every", "2", "--threads", "1"]
    assert main([*runs, *data, "--out", str(out)]) == 0
    return out


class TestCommand:
    def test_json_is_complete(self, out: Path, inputs: Path) -> None:
        results = json.loads((out / "strips.json").read_text())
        assert (results["against"], results["motion"], results["interval_covers"]) == ("plain", "recorded", "strips")
        assert results["data"]["conditions"] == {"clean": 9, "dropped": 3}
        plain, memory = results["systems"]
        assert (plain["memory"], memory["memory"]) == (None, True)
        assert [run["epoch"] for run in plain["runs"]] == [3, 3]
        bad = {row["name"]: row for row in results["bad_frames"]}
        assert list(bad) == ["plain", "plain, averaged over frames", "memory", "memory, averaged over frames"]
        assert list(bad["plain"]["scores"]) == ["all", "clean", "dropped", "degraded"]
        assert list(bad["memory"]["differences"]) == ["plain", "plain, averaged over frames"]
        gain = bad["memory"]["differences"]["plain"]["degraded"]["AP50"]
        means = [bad[name]["scores"]["degraded"]["AP50"]["mean"] for name in ("memory", "plain")]
        assert gain["value"] == pytest.approx(means[0] - means[1])
        assert gain["verdict"] in ("better", "worse", "cannot tell")
        assert [(row["system"], row["every"], row["between"]) for row in results["key_frames"]] == [
            ("plain", 1, None),
            ("plain", 2, "new region"),
            ("plain", 2, "boxes moved"),
            ("memory", 1, None),
            ("memory", 2, "light network"),
            ("memory", 2, "new region"),
            ("memory", 2, "predicted"),
        ]
        assert results["key_frames"][3]["relative_frame_rate"] == 1
        assert results["key_frames"][2]["relative_frame_rate"] > 1
        references = ["plain, new region, key frames every 2", "plain, boxes moved, key frames every 2"]
        assert list(results["key_frames"][4]["differences"]) == ["memory", *references]
        predictions = {row["name"]: row for row in results["frame_prediction"]}
        assert "plain, predicted" not in predictions
        assert len(predictions["memory, predicted"]["differences"]) == 6

    def test_scores_are_means_over_seeds_of_the_coco_evaluation(self, out: Path, inputs: Path) -> None:
        results = json.loads((out / "strips.json").read_text())
        truth, dataset = coco.load(inputs / "val.json"), read_dataset(inputs / "val.json", role="data")
        scores = [
            average_precision(
                truth, Predictor.load(inputs / "plain" / f"seed{k}", device="cpu").detect_dataset(dataset)
            )
            for k in (0, 1)
        ]
        row = results["bad_frames"][0]["scores"]["all"]["AP50"]
        assert row["mean"] == pytest.approx(np.mean([each["AP50"] for each in scores]), abs=1e-6)
        assert row["sd"] == pytest.approx(np.std([each["AP50"] for each in scores], ddof=1), abs=1e-6)

    def test_markdown_has_all_three_sections(self, out: Path) -> None:
        text = (out / "strips.md").read_text()
        assert "12 frames (9 clean, 3 dropped) of 3 strips with 24 boxes." in text
        for heading in ("## Bad frames", "## Speed", "## Frame prediction"):
            assert heading in text
        assert text.count("\n| memory, predicted ") == 6
        assert "one run gives no variation between seeds" in text

    def test_motion_is_estimated_without_recorded_positions(self, inputs: Path, tmp_path: Path, judge: Detect) -> None:
        labels = json.loads((inputs / "val.json").read_text())
        for image in labels["images"]:
            del image["origin_xy"]
            image["file_name"] = str(inputs / image["file_name"])
        path = tmp_path / "unplaced.json"
        path.write_text(json.dumps(labels))
        arguments = [inputs / "plain" / "seed0", "--data", path, "--every", "2", "--out", tmp_path]
        outcome = judge(*arguments)
        assert outcome.code == 2
        assert "has no position on its strip, so its motion is unknown; give frames origin_xy" in outcome.err
        assert judge(*arguments, "--motion", "read", "--threads", "1").code == 0
        assert "The motion between frames is estimated from the frames" in (tmp_path / "strips.md").read_text()


class TestErrors:
    def error_of(self, judge: Detect, inputs: Path, tmp_path: Path, *arguments: object) -> str:
        outcome = judge("--data", inputs / "val.json", "--out", tmp_path / "out", *arguments)
        assert outcome.code == 2
        assert not (tmp_path / "out").exists()
        return outcome.err

    def test_settings(self, inputs: Path, tmp_path: Path, judge: Detect) -> None:
        run = inputs / "memory"
        assert "--every is 0; give 1 or more" in self.error_of(judge, inputs, tmp_path, run, "--every", "2,0")
        assert "no list of numbers" in self.error_of(judge, inputs, tmp_path, run, "--every", "two")
        assert "--threads is 0; give 1 or more" in self.error_of(judge, inputs, tmp_path, run, "--threads", "0")

    def test_runs(self, inputs: Path, tmp_path: Path, judge: Detect) -> None:
        run = inputs / "memory"
        assert "given twice; name each once" in self.error_of(judge, inputs, tmp_path, run, run)
        assert "neither last.pt nor a folder seed0" in self.error_of(judge, inputs, tmp_path, inputs)
        (tmp_path / "half" / "seed0").mkdir(parents=True)
        assert "the run has no last.pt yet" in self.error_of(judge, inputs, tmp_path, tmp_path / "half")
        other = write_run(tmp_path / "other", 0, categories=("a", "c"))
        assert "the detector has the categories a, c, the data a, b" in self.error_of(
            judge, inputs, tmp_path, run, other
        )

    def test_data_without_strips(self, inputs: Path, tmp_path: Path, judge: Detect) -> None:
        for name, keys, sentence in (
            ("stills", ("id", "file_name", "width", "height"), "12 of 12 images don't belong to a strip"),
            ("single", (), "no strip has two frames"),
        ):
            labels = json.loads((inputs / "val.json").read_text())
            for image in labels["images"]:
                image["file_name"] = str(inputs / image["file_name"])
            if keys:
                labels["images"] = [{key: image[key] for key in keys} for image in labels["images"]]
            else:
                labels["images"] = labels["images"][:1]
                labels["annotations"] = [a for a in labels["annotations"] if a["image_id"] == 1]
            (tmp_path / f"{name}.json").write_text(json.dumps(labels))
            outcome = judge(inputs / "memory", "--data", tmp_path / f"{name}.json")
            assert outcome.code == 2
            assert sentence in outcome.err
