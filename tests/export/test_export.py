"""Export: graph and file give the detector's detections, and an export with other detections is not written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.cli import main
from detect.errors import ConfigError, DataError
from detect.export.export import compare_detections
from detect.export.onnx import FixedSizeDetector
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from detect.structures import Detections
from labelled_data import sample_steel
from tiny_detector import model_config

CATEGORIES = ("a", "b", "c")


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a dozen sample images of 200 pixels."""
    return sample_steel(tmp_path_factory.mktemp("steel"), images=12, seed=7)


def built(channels: int = 1, levels: int = 4, **changes: Any) -> Any:
    """A detector with random weights and nearly equal scores for all classes, so that it has many detections."""
    torch.manual_seed(3)
    shapes = default_anchors(levels, 2)
    return DetectorSpec(
        model_config(**changes), CATEGORIES, channels, (0.4,) * channels, (0.2,) * channels, shapes
    ).build()


@pytest.mark.parametrize(
    ("channels", "size_hw", "levels", "changes"),
    [
        (1, (96, 96), 4, {}),
        (1, (75, 130), 4, {}),  # padded
        (3, (64, 96), 4, {}),
        (1, (60, 90), 4, {"input_size": 96}),  # enlarged
        (1, (96, 96), 4, {"roi": {"stages": 2, "iou_score_weight": 0.5}}),
        (1, (96, 96), 4, {"roi": {"nms": "gaussian"}}),
        (1, (96, 96), 4, {"roi": {"box_voting": True}}),
        (
            1,
            (60, 90),
            3,
            {"rpn": {"finest_stride": 8, "kernel": "separable"}, "roi": {"nms": "super_gaussian", "box_voting": True}},
        ),
        (1, (96, 96), 1, {"fpn": {"single_stride": 16}}),
    ],
    ids=["plain", "padded", "colour", "resized", "cascade", "gaussian", "voting", "light", "one level"],
)
def test_the_graph_gives_the_detections_of_the_detector(
    channels: int, size_hw: tuple[int, int], levels: int, changes: dict[str, Any]
) -> None:
    detector = built(channels, levels, **changes).eval()
    graph = FixedSizeDetector(detector, size_hw=size_hw, channels=channels, white=255).eval()
    shape = size_hw if channels == 1 else (*size_hw, 3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    with torch.inference_mode():
        planes = image[None] if channels == 1 else image.permute(2, 0, 1)
        (expected,) = detector([planes.float() / 255])
        boxes, scores, labels = graph(image)
    assert len(boxes) == len(expected["boxes"]) > 3
    assert torch.allclose(scores, expected["scores"], atol=1e-5)
    exported, original = (
        Detections(b.numpy(), s.numpy(), n.numpy(), CATEGORIES)
        for b, s, n in ((boxes, scores, labels), (expected["boxes"], expected["scores"], expected["labels"]))
    )
    assert compare_detections(ours=[exported], theirs=[original]).holds


def test_a_detector_with_memory_raises() -> None:
    detector = built(memory={})
    with pytest.raises(ConfigError, match="needs earlier frames"):
        FixedSizeDetector(detector, size_hw=(96, 96), channels=1, white=255)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_the_exported_model_gives_the_same_detections_and_its_example_runs(
    runtime: str, steel: Path, tmp_path: Path
) -> None:
    out = tmp_path / "line"
    assert main(["export", "released", "--to", runtime, "--data", str(steel), "--out", str(out)]) == 0
    contract = json.loads((out / "contract.json").read_text())
    assert contract["shape"] == [200, 200]
    assert contract["proof"]["unmatched"] == 0 < contract["proof"]["compared"]
    assert contract["proof"]["detector"]["AP"] == pytest.approx(contract["proof"]["exported"]["AP"], abs=1e-3)
    done = subprocess.run([sys.executable, "example.py"], cwd=out, capture_output=True, text=True)
    assert done.stdout.count("as expected") == len(contract["golden"]) > 0, done.stderr
    assert "NOT" not in done.stdout
    example = (out / "example.py").read_text()
    assert "import torch" not in example
    assert "import detect" not in example
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line"]


def test_int8_is_kept_only_if_no_class_loses_more_than_allowed(
    steel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", "released", "--to", "onnx", "--int8", "--data", str(steel), "--calibration", str(steel)]
    out = tmp_path / "int8"
    assert main([*call, "--max-recall-loss", "1", "--out", str(out)]) == 0
    contract = json.loads((out / "contract.json").read_text())
    assert set(contract["proof"]["recall_loss"]) == set(contract["categories"])
    parameters = sum(each.numel() for each in load_checkpoint(Path("released")).load_model().parameters())
    assert (out / "model.onnx").stat().st_size < 0.6 * 4 * parameters


def test_16_bit_images_keep_their_precision(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from detect.export.onnx import write_onnx
    from detect.export.runtimes import Contract

    detector = built().eval()
    graph = FixedSizeDetector(detector, size_hw=(64, 64), channels=1, white=4095).eval()
    contract = Contract("m.onnx", "onnx", "fp32", (64, 64), 1, "uint16", 4095, CATEGORIES)
    write_onnx(graph, contract, tmp_path / "m.onnx")
    image = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype(np.uint16)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    _, scores, _ = session.run(None, {"image": image})
    with torch.inference_mode():
        (expected,) = detector([torch.from_numpy(image.astype(np.float32) / 4095)[None]])
    assert np.allclose(scores, expected["scores"].numpy(), atol=1e-5)


def test_a_failed_export_gives_one_line_and_leaves_no_files(
    steel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export", "released", "--to", "onnx"]
    out = ["--out", str(tmp_path / "line")]
    for arguments, words in [
        ([*call, *out], "--data"),
        ([*call, "--data", str(steel), "--size", "300x200", *out], "no image has 200x300 px"),
        ([*call, "--data", str(steel), "--size", "tall", *out], "HEIGHTxWIDTH"),
        ([*call, "--data", str(steel), "--max-recall-loss", "0.1", *out], "need --int8"),
        ([*call, "--data", str(steel), "--int8", *out], "--calibration"),
        ([*call, "--data", str(steel), "--out", str(steel.parent)], "something other than an export"),
        (["export", "nowhere", "--to", "onnx", *out], "no such run"),
    ]:
        assert main(arguments) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_other_detections_is_not_written(
    steel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detect.export.export.TOLERANCE_PX", 0.0)
    monkeypatch.setattr("detect.export.export.TOLERANCE_SCORE", 0.0)
    assert main(["export", "released", "--to", "onnx", "--data", str(steel), "--out", str(tmp_path / "line")]) == 2
    assert "the exported model differs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parity_counts_detections_of_only_one_detector() -> None:
    def detections_of(*rows: tuple[float, int, float]) -> Detections:
        boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
        scores, labels = (np.array([row[i] for row in rows]) for i in (2, 1))
        return Detections(boxes, scores.astype(np.float32), labels.astype(np.int64), CATEGORIES)

    same = detections_of((0, 1, 0.9), (30, 2, 0.5))
    assert compare_detections([same], [detections_of((0.01, 1, 0.9), (30, 2, 0.5003))]).holds
    assert compare_detections([same], [detections_of((0, 1, 0.9))]).unmatched == 1
    assert compare_detections([detections_of((0, 1, 0.9))], [same]).unmatched == 1
    assert compare_detections([same], [detections_of((0, 1, 0.9), (30, 1, 0.5))]).unmatched == 2
    assert compare_detections([same], [detections_of((0, 1, 0.9), (30, 2, 0.4))]).unmatched == 2
    assert compare_detections([detections_of()], [detections_of()]).holds
    assert compare_detections([detections_of((0, 1, 0.04))], [detections_of()]).holds  # below the compared scores


def test_a_run_uses_its_own_data_and_folder(steel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    made: Checkpoint = load_checkpoint(Path("released"))
    save_checkpoint(run / "best.pt", made)
    (run / "config.yaml").write_text(f"data: {{val: {json.dumps(str(steel))}}}\n")
    assert main(["export", str(run), "--to", "onnx"]) == 0
    assert (run / "export" / "onnx" / "model.onnx").is_file()
    assert main(["export", str(run), "--to", "onnx"]) == 0  # replaced


def test_a_runner_raises_for_images_of_another_size(steel: Path, tmp_path: Path) -> None:
    from detect.export.runtimes import load_exported

    assert main(["export", "released", "--to", "onnx", "--data", str(steel), "--out", str(tmp_path / "line")]) == 0
    runner = load_exported(tmp_path / "line", threads=1)
    with pytest.raises(DataError, match="give 200x200 px in uint8"):
        runner(np.zeros((100, 200), np.uint8))
    (tmp_path / "line" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(DataError, match="can't load the model"):
        load_exported(tmp_path / "line")
    with pytest.raises(DataError, match="contract"):
        load_exported(tmp_path)


def test_anchors_in_the_padding_do_not_count_as_proposals() -> None:
    """In 12 x 12 pixels padded to 32, most small anchors are in the padding; clipped, they have no area."""
    torch.manual_seed(3)
    shapes = [[(2.0, 2.0), (3.0, 3.0)]] * 4
    made = DetectorSpec(model_config(), CATEGORIES, 1, (0.4,), (0.2,), shapes)
    detector = made.build().eval()
    graph = FixedSizeDetector(detector, size_hw=(12, 12), channels=1, white=255).eval()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8))
    with torch.inference_mode():
        (expected,) = detector([image[None].float() / 255])
        boxes, scores, _ = graph(image)
    assert len(boxes) == len(expected["boxes"]) > 3
    torch.testing.assert_close(scores, expected["scores"])
