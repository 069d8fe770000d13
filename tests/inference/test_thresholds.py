"""thresholds.json: reading, applying and errors; detect infer applies and reports it, and so does the Predictor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.datasets import coco
from detect.errors import DataError
from detect.fileio import sha256_of
from detect.images import read_image
from detect.inference.predictor import Predictor
from detect.inference.thresholds import Thresholds, read_thresholds, thresholds_for_weights, write_thresholds
from detect.structures import Detections
from labelled_data import picture
from tiny import write_tiny
from tiny_detector import untrained

Run = Callable[..., Any]
CATEGORIES = ("patches", "scratches")


def detections_of(*scores_and_labels: tuple[float, int]) -> Detections:
    scores = np.array([score for score, _ in scores_and_labels], np.float32)
    labels = np.array([label for _, label in scores_and_labels], np.int64)
    return Detections(np.arange(4 * len(scores), dtype=np.float32).reshape(-1, 4), scores, labels, CATEGORIES)


def chosen(folder: Path, weights: Path | None = None, **content: Any) -> Path:
    """A thresholds.json for the weights."""
    made = {} if weights is None else {"weights": {"file": weights.name, "epoch": 3, "sha256": sha256_of(weights)}}
    values = {"thresholds": {"patches": 0.5, "scratches": 0.3}, "calibration": None, "made": made, **content}
    write_thresholds(folder / "thresholds.json", values)
    return folder / "thresholds.json"


class TestValue:
    def test_each_category_has_its_own_threshold(self, tmp_path: Path) -> None:
        thresholds = read_thresholds(chosen(tmp_path))
        kept = thresholds.apply(detections_of((0.9, 1), (0.49, 1), (0.31, 2), (0.3, 2), (0.29, 2)))
        assert kept.scores.tolist() == pytest.approx([0.9, 0.31, 0.3])
        assert kept.labels.tolist() == [1, 2, 2]
        assert thresholds.in_words() == "patches 0.5, scratches 0.3"
        assert len(thresholds.apply(detections_of())) == 0

    def test_calibration_is_applied_first_and_sorts_again(self, tmp_path: Path) -> None:
        fitted = {"patches": {"temperature": 1.0, "shift": -2.0}, "scratches": {"temperature": 2.0, "shift": 0.0}}
        thresholds = read_thresholds(chosen(tmp_path, calibration={"method": "any", "per_class": fitted}))
        given = detections_of((0.9, 1), (0.8, 2), (0.6, 1))
        new = thresholds.calibrated(given)
        odds = np.array([np.log(4) / 2, np.log(9) - 2, np.log(1.5) - 2])
        assert new.scores.tolist() == pytest.approx((1 / (1 + np.exp(-odds))).tolist())
        assert new.labels.tolist() == [2, 1, 1]
        assert new.boxes_xyxy[0].tolist() == given.boxes_xyxy[1].tolist()
        assert new.scores.dtype == np.float32
        assert given.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])
        assert thresholds.apply(new).labels.tolist() == [2, 1]
        assert len(thresholds.calibrated(detections_of())) == 0

    def test_a_category_that_the_file_lacks_is_named(self, tmp_path: Path) -> None:
        thresholds = read_thresholds(chosen(tmp_path, thresholds={"patches": 0.5}))
        with pytest.raises(DataError, match=r"thresholds\.json: there is no threshold for 'scratches'; choose them"):
            thresholds.apply(detections_of((0.9, 1)))

    def test_thresholds_match_the_evaluated_weights(self, tmp_path: Path) -> None:
        weights, others = tmp_path / "best.pt", tmp_path / "last.pt"
        weights.write_bytes(b"weights")
        others.write_bytes(b"others")
        assert thresholds_for_weights(weights) is None
        chosen(tmp_path, weights)
        thresholds = thresholds_for_weights(weights)
        assert isinstance(thresholds, Thresholds)
        assert thresholds.match_weights(weights)
        assert not thresholds.match_weights(others)
        assert not read_thresholds(chosen(tmp_path)).match_weights(weights)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{", "the file is not valid JSON"),
            ("[]", "the thresholds have schema None, this version reads 1"),
            ('{"schema": 2}', "the thresholds have schema 2"),
            ('{"schema": 1}', "the file holds no thresholds of this library"),
            ('{"schema": 1, "thresholds": [1], "calibration": null, "made": {}}', "holds no thresholds"),
            ('{"schema": 1, "thresholds": {"a": 2}, "calibration": null, "made": {}}', "threshold of 'a' is 2.0"),
            ('{"schema": 1, "thresholds": {"a": NaN}, "calibration": null, "made": {}}', "threshold of 'a' is nan"),
            ('{"schema": 1, "thresholds": {}, "calibration": {"per_class": {"a": 1}}, "made": {}}', "no thresholds"),
            (
                '{"schema": 1, "thresholds": {}, "made": {}, "calibration": '
                '{"per_class": {"a": {"temperature": 0, "shift": 0}}}}',
                "the calibration of 'a' is not a temperature above 0 and a finite shift",
            ),
        ],
    )
    def test_an_invalid_thresholds_file_raises(self, text: str, sentence: str, tmp_path: Path) -> None:
        (tmp_path / "thresholds.json").write_text(text)
        with pytest.raises(DataError, match=sentence):
            read_thresholds(tmp_path / "thresholds.json")

    def test_an_unwritable_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="the thresholds can't be written"):
            write_thresholds(tmp_path / "file" / "thresholds.json", {})


class FakePredictor:
    """Detects a scratch and, with a lower score, patches."""

    categories = CATEGORIES
    brightest = None  # no 16-bit image so far

    def __init__(self, weights: Path) -> None:
        self.weights_path = weights

    def tiling_for(self, width: int, height: int, **asked: Any) -> None:
        """No image is processed in tiles."""

    def __call__(self, pixels: Any, **tiles: Any) -> Detections:
        return detections_of((0.45, 1), (0.35, 2))


class TestInfer:
    @pytest.fixture
    def weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A run of a detector with constant detections, and an image in the same folder."""
        path = tmp_path / "run" / "best.pt"
        path.parent.mkdir()
        path.write_bytes(b"weights")
        monkeypatch.setattr("detect.inference.predictor.Predictor.load", lambda given, **options: FakePredictor(path))
        picture(tmp_path / "a.png")
        monkeypatch.chdir(tmp_path)
        return path

    def test_thresholds_are_applied_and_reported(self, weights: Path, detect: Run) -> None:
        chosen(weights.parent, weights)
        outcome = detect("infer", "a.png", "--weights", "run")
        assert outcome.err == "detect: thresholds of run/thresholds.json: patches 0.5, scratches 0.3\n"
        assert "a.png: 1 found" in outcome.out
        assert "scratches" in outcome.out
        assert "patches" not in outcome.out

    def test_json_contains_each_threshold(self, weights: Path, detect: Run) -> None:
        chosen(weights.parent, weights)
        outcome = detect("infer", "a.png", "--weights", "run", "--json")
        document = json.loads(outcome.out)
        assert document["threshold"] is None
        assert document["thresholds"] == {"patches": 0.5, "scratches": 0.3}
        assert [each["label"] for each in document["images"][0]["detections"]] == ["scratches"]
        plain = json.loads(detect("infer", "a.png", "--weights", "run", "--json", "--threshold", "0.4").out)
        assert (plain["threshold"], plain["thresholds"]) == (0.4, {"patches": 0.4, "scratches": 0.4})
        assert [each["label"] for each in plain["images"][0]["detections"]] == ["patches"]

    def test_a_given_threshold_overrides_the_file_and_is_reported(self, weights: Path, detect: Run) -> None:
        chosen(weights.parent, weights)
        outcome = detect("infer", "a.png", "--weights", "run", "--threshold", "0.2")
        assert outcome.err == "detect: --threshold 0.2 overrides the thresholds of run/thresholds.json\n"
        assert "a.png: 2 found" in outcome.out

    def test_thresholds_of_other_weights_are_ignored(self, weights: Path, detect: Run) -> None:
        chosen(weights.parent, weights)
        weights.write_bytes(b"trained on")
        outcome = detect("infer", "a.png", "--weights", "run")
        assert "run/thresholds.json was not chosen for this best.pt, so 0.5 holds for all classes" in outcome.err
        assert "no detection with a score of 0.5 or more" in outcome.out

    def test_without_a_file_the_threshold_is_one_half(self, weights: Path, detect: Run) -> None:
        outcome = detect("infer", "a.png", "--weights", "run")
        assert (outcome.code, outcome.err) == (0, "")
        assert "no detection with a score of 0.5 or more" in outcome.out

    def test_no_detection_reaches_its_threshold(self, weights: Path, detect: Run) -> None:
        chosen(weights.parent, weights, thresholds={"patches": 0.9, "scratches": 0.9})
        assert "a.png: no detection reaches its threshold" in detect("infer", "a.png", "--weights", "run").out

    def test_a_damaged_file_gives_one_error_line(self, weights: Path, detect: Run) -> None:
        (weights.parent / "thresholds.json").write_text("{")
        outcome = detect("infer", "a.png", "--weights", "run")
        assert outcome.code == 2
        assert outcome.err.startswith(f"detect: {weights.parent / 'thresholds.json'}: the file is not valid JSON")
        assert outcome.err.count("\n") == 1


def test_thresholds_from_costs_to_infer_end_to_end(detect: Run, tmp_path: Path) -> None:
    """A detector with random weights is sufficient: it gets its own thresholds and temperatures."""
    labels = write_tiny(tmp_path / "data", "val", images=8, seed=1)
    run = tmp_path / "run"
    run.mkdir()
    raw = untrained(run)
    image = tmp_path / "data" / "val" / "val_00.bmp"
    before = raw(image)
    assert raw.thresholds is None
    costs = tmp_path / "costs.yaml"
    costs.write_text("default: {price: {missed: 100, false_alarm: 1}}")

    judged = detect("evaluate", run / "random.pt", "--data", labels, "--costs", costs, "--calibrate")
    assert (judged.code, judged.err) == (0, "")
    assert f"wrote {run / 'thresholds.json'}" in judged.out
    assert "--threshold" not in judged.out.splitlines()[-1]
    stored = json.loads((run / "thresholds.json").read_text())
    assert stored["made"]["weights"]["file"] == "random.pt"
    assert stored["made"]["weights"]["sha256"] == sha256_of(run / "random.pt")

    # any calibration; there are few matches
    stored["calibration"]["per_class"]["dark"] |= {"temperature": 0.5, "shift": -1.0}
    (run / "thresholds.json").write_text(json.dumps(stored))
    predictor = Predictor.load(run / "random.pt", device="cpu")
    assert predictor.thresholds is not None
    after = predictor(image)
    assert len(after) == len(before)
    assert after.scores.tolist() != before.scores.tolist()
    assert (np.diff(after.scores) <= 0).all()
    np.testing.assert_allclose(after.scores, predictor.thresholds.calibrated(before).scores)
    inferred = detect("infer", image, "--weights", run / "random.pt", "--json")
    assert "thresholds of" in inferred.err
    note = f"detect: scores are calibrated by {run / 'thresholds.json'}\n"
    assert inferred.err.count(note) == inferred.err.count("calibrated") == 1
    (entry,) = json.loads(inferred.out)["images"]
    assert len(entry["detections"]) == len(predictor.thresholds.apply(after))
    asked = detect("infer", image, "--weights", run / "random.pt", "--json", "--threshold", "0")
    assert asked.err.count(note) == 1
    (entry,) = json.loads(asked.out)["images"]
    assert [each["score"] for each in entry["detections"]] == pytest.approx(after.scores.tolist(), abs=1e-4)

    # a new evaluation uses uncalibrated scores, with and without corruptions
    first = json.loads((run / "report" / "detections.json").read_text())
    grouped = ("--group-pattern", r"val_0(\d)", "--corruptions", "blur", "--severities", "1")
    assert detect("evaluate", run / "random.pt", "--data", labels, *grouped).code == 0
    assert json.loads((run / "report" / "detections.json").read_text()) == first
    clean = json.loads((run / "report" / "corruptions.json").read_text())["clean"]
    ends = json.loads((run / "report" / "report.json").read_text())["intervals"]["overall"]["AP50"]
    assert [clean["AP50_low"], clean["AP50_high"]] == pytest.approx([ends["low"], ends["high"]], abs=1e-6)

    # pre-annotations of an evaluated run equal those of infer, for any threshold
    pre_annotated = detect(
        "pre-annotate", run, "--to", "coco", "--out", tmp_path / "pre_annotations", "--threshold", "0"
    )
    assert pre_annotated.err.count(note) == 1
    (written,) = (tmp_path / "pre_annotations").rglob("*.json")
    written_labels = json.loads(written.read_text())
    scores = sorted((each["score"] for each in written_labels["annotations"] if each["image_id"] == 1), reverse=True)
    assert scores == pytest.approx(after.scores.tolist(), abs=1e-4)


@pytest.mark.parametrize("calibrated", [True, False])
def test_all_predictor_methods_calibrate_alike(calibrated: bool, tmp_path: Path) -> None:
    dataset = coco.read(write_tiny(tmp_path / "data", "val", images=2, seed=1))
    run = tmp_path / "run"
    run.mkdir()
    untrained(run)
    fitted = {
        "bright": {"temperature": 0.5, "shift": -1.0},
        "dark": {"temperature": 2.0, "shift": 0.5},
    }
    weights = run / "random.pt"
    lowest = dict.fromkeys(fitted, 0.0)
    chosen(run, weights, thresholds=lowest, calibration={"method": "any", "per_class": fitted})
    predictor = Predictor.load(weights, device="cpu", calibrated=calibrated)
    raw = Predictor.load(weights, device="cpu", calibrated=False)
    thresholds = read_thresholds(run / "thresholds.json")
    path, pixels = dataset.images[0].path, read_image(dataset.images[0].path)

    def same(ours: Detections, network: Detections) -> None:
        want = thresholds.calibrated(network) if calibrated else network
        assert ours.scores == pytest.approx(want.scores, abs=1e-5)
        assert ours.boxes_xyxy == pytest.approx(want.boxes_xyxy, abs=1e-3)
        assert ours.labels.tolist() == want.labels.tolist()
        assert len(ours) > 0

    same(predictor(path), raw(path))
    same(predictor.predict_batch([pixels, pixels])[1], raw(path))
    same(predictor.strip([path], tile=64), raw.strip([path], tile=64))
    ours, network = predictor.stream(), raw.stream()
    same(ours(pixels), network(pixels))
    same(ours.predict_next((-3, 0)), network.predict_next((-3, 0)))
    same(ours.skip((-3, 0)), network.skip((-3, 0)))
    same(ours.skip((-3, 0)), network.skip((-3, 0)))  # detections kept by the stream are calibrated once
    results = predictor.detect_dataset(dataset)
    scores = [each["score"] for each in results if each["image_id"] == 1]
    assert scores == pytest.approx(predictor(path).scores.tolist(), abs=1e-5)
