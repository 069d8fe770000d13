"""Training on clips: memory trains on consecutive frames, resumes exactly, and raises for images that are no frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detect.engine import trainer
from detect.engine.trainer import train
from detect.errors import ConfigError, DataError
from detect.images import read_image
from detect.inference.predictor import Predictor
from detect.models.checkpoint import load_checkpoint
from tiny import TINY_MODEL, tiny_config, write_parts

LIGHT = {"name": "csp", "stem": 8, "widths": (8, 8, 8, 8), "depths": (0, 0, 0, 0)}
MEMORY = {**TINY_MODEL, "memory": {"kind": "gru", "light": LIGHT, "predicted_share": 0.3}}


class Stopped(Exception):
    """Simulates a crash."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("data"), train=12, val=4)


def config_of(data: Path, run: Path, **changes: dict[str, Any]) -> Any:
    clips = {"length": 2, "pan": True}
    sections: dict[str, dict[str, Any]] = {"model": MEMORY, "clips": clips, "augment": {"mosaic": 0.0}}
    return tiny_config(data, run, **{**sections, "train": {"epochs": 2}, **changes})


def test_memory_trains_on_clips_and_resumes_exactly(data: Path, tmp_path: Path) -> None:
    uninterrupted = train(config_of(data, tmp_path / "whole"))
    lines = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [6, 12]  # 12 clips of 2 frames in batches of 4 images
    assert lines[-1]["val"]["AP"] is not None

    part = tmp_path / "part"
    append = trainer.RunFolder.append_log

    def stop_after_first(self: Any, line: dict[str, Any]) -> None:
        if line["epoch"] == 2:
            raise Stopped
        append(self, line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.RunFolder, "append_log", stop_after_first)
        with pytest.raises(Stopped):
            train(config_of(data, part))
    train(config_of(data, part), resume=True)
    one, other = (load_checkpoint(run / "last.pt").weights for run in (uninterrupted, part))
    assert one.keys() == other.keys()
    assert any(name.startswith("memory") for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)

    predictor = Predictor.load(uninterrupted)
    stream = predictor.stream(key_frame_interval=2)
    frames = [read_image(path) for path in sorted((data / "val").glob("*.bmp"))]
    detections = [stream(pixels, strip="one") for pixels in frames]
    again = predictor.stream(key_frame_interval=2)
    assert [len(each) for each in detections] == [len(again(pixels, strip="another")) for pixels in frames]
    with pytest.raises(DataError, match="the interval is 0 frames"):
        predictor.stream(key_frame_interval=0)


def test_a_detector_without_memory_trains_on_the_same_clips(data: Path, tmp_path: Path) -> None:
    run = train(config_of(data, tmp_path / "still", model=dict(TINY_MODEL), train={"epochs": 1}))
    assert not any(name.startswith("memory") for name in load_checkpoint(run / "last.pt").weights)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clips": {}}, r"clips\.length: memory is trained on clips of frames, and clips have a single frame; set"),
        ({"clips": {"length": 3, "pan": True}}, r"train\.batch_size: batches of 4 images can't hold whole clips of 3"),
        ({"augment": {"mosaic": 0.5}}, "a mosaic has no motion"),
    ],
)
def test_settings_that_do_not_fit_clips_raise(
    data: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(config_of(data, tmp_path / "refused", **changes))


def test_images_that_are_no_frames_raise(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="12 of 12 images are frames of no strip, and memory needs their order"):
        train(config_of(data, tmp_path / "unordered", clips={"length": 2}))
