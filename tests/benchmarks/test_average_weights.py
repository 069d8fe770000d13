"""Scripts for trained detectors: averaged weights, evaluation with other settings, times relative to a peer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import average_weights
import compare_settings
import measure_peer
from detect.cli import main
from detect.models.checkpoint import load_checkpoint, save_checkpoint


def test_averaged_weights_are_the_mean_and_for_inference(tmp_path: Path) -> None:
    released = load_checkpoint(Path("released"))
    files = [tmp_path / "one.pt", tmp_path / "other.pt"]
    for file, factor in zip(files, (1.0, 3.0)):
        weights = {n: v.float() * factor if v.is_floating_point() else v for n, v in released.weights.items()}
        save_checkpoint(file, replace(released, weights=weights))
    assert average_weights.main([*map(str, files), "--out", str(tmp_path / "mean.pt")]) == 0
    mean = load_checkpoint(tmp_path / "mean.pt")
    for name, value in released.weights.items():
        torch.testing.assert_close(mean.weights[name], value.float() * 2 if value.is_floating_point() else value)
    assert mean.load_model().training is False


def test_detectors_with_different_anchors_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = load_checkpoint(Path("released"))
    shapes = tuple(tuple((w + 1, h) for w, h in level) for level in released.detector.shapes)
    save_checkpoint(tmp_path / "other.pt", replace(released, detector=replace(released.detector, shapes=shapes)))
    assert average_weights.main(["released", str(tmp_path / "other.pt"), "--out", str(tmp_path / "mean.pt")]) == 2
    assert "anchors" in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_settings_are_compared_with_those_of_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--out", str(tmp_path / "raw"), "--images", "12", "--seed", "5"]) == 0
    assert main(["convert", str(tmp_path / "raw"), "--out", str(tmp_path), "--split", "all=1.0"]) == 0
    capsys.readouterr()
    pair = f"released={tmp_path / 'all.json'}"
    settings = ["roi.nms=hard,roi.box_voting=false", "rpn.proposals_test=1"]
    assert compare_settings.main([pair, *(word for each in settings for word in ("--set", each))]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["as trained", *settings]
    trained, _, one_proposal = (float(row[2]) for row in rows)
    assert one_proposal < trained
    assert "to" in rows[1][5]


@pytest.mark.parametrize("setting", ["roi.nms=0.4", "roi.nms_iou=often", "head.nms_iou=0.4", "roi.nms_iou=[", "x"])
def test_invalid_setting_is_an_error(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_settings.main(["released=unread.json", "--set", setting]) == 2
    assert f"{setting} is no setting of the model section" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("peer", "part"), [("no-such-program-anywhere", "can't be run"), ("echo 1 2", "no JSON"), ("", "")]
)
def test_peer_without_times_is_a_one_line_error(capsys: pytest.CaptureFixture[str], peer: str, part: str) -> None:
    assert measure_peer.main(["released", "--peer", peer]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --peer: ")
    assert part in message
    assert message.count("\n") == 1
