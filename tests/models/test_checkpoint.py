"""Checkpoints: they contain everything for inference, loading runs no code, and writing is atomic."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from detect.config.schema import ModelConfig
from detect.errors import CheckpointError
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, find_checkpoint, load_checkpoint, save_checkpoint
from tiny import TINY_MODEL


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """A gray detector of three categories with random weights."""
    torch.manual_seed(0)
    detector = DetectorSpec(
        model=ModelConfig.model_validate({**TINY_MODEL, "input_size": 48}),
        categories=("crazing", "Kratzer ü", "表面"),
        channels=1,
        mean=(0.41,),
        std=(0.19,),
        shapes=default_anchors(4, 2),
    )
    return Checkpoint(
        detector, detector.build().state_dict(), epoch=7, metrics={"AP50": 0.25, "per_class": {"x": None}}
    )


def test_a_checkpoint_contains_everything_for_inference(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded.detector == checkpoint.detector
    assert (loaded.epoch, loaded.metrics, loaded.training) == (7, checkpoint.metrics, None)
    model = loaded.load_model()
    assert not model.training
    assert model.transform.image_mean == [0.41]
    assert model.transform.image_std == [0.19]
    assert model.transform.min_size == (48,)
    assert model.rpn.anchor_generator.shapes == checkpoint.detector.shapes
    assert model.roi_heads.box_predictor.score.out_features == 4
    weights = model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in checkpoint.weights.items())


def test_weights_load_without_running_code(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert content["detector"]["categories"] == checkpoint.detector.categories


def test_a_checkpoint_contains_the_state_for_resuming(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}, "stale": 2}
    save_checkpoint(tmp_path / "last.pt", Checkpoint(checkpoint.detector, checkpoint.weights, 1, training=state))
    assert load_checkpoint(tmp_path / "last.pt").training == state


class Exploit:
    """Its pickle runs code when it is loaded without checks."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    for write in (lambda: torch.save(Exploit(marker), path), lambda: path.write_bytes(pickle.dumps(Exploit(marker)))):
        write()
        with pytest.raises(CheckpointError, match=r"evil\.pt: the file holds code or is no checkpoint.*not loaded"):
            load_checkpoint(path)
        assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(checkpoint: Checkpoint, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pt"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pt: the file is damaged or no checkpoint \(.+\); use another"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(2, 2)},
        torch.zeros(3),
        [1, 2],
        None,
        {"schema": 1},
        {"schema": 1, "detector": 3},
        {"schema": 1, "detector": {"model": {"bogus": 1}}},
    ],
    ids=["weights alone", "tensor", "list", "nothing", "schema alone", "no detector", "other keys"],
)
def test_files_of_other_programs_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.pt: the file is no checkpoint of this library; give a run"):
        load_checkpoint(tmp_path / "foreign.pt")


@pytest.mark.parametrize("content", [b"hello world", b"PK\x03\x04 and so on", b"\x80\x02 and so on"])
def test_files_that_are_not_of_torch_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"notes\.pt: the file "):
        load_checkpoint(tmp_path / "notes.pt")


def test_the_message_about_another_schema_names_both(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save({**content, "schema": 99}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="has schema 99, this version reads 1; use the version"):
        load_checkpoint(tmp_path / "last.pt")


def test_weights_of_another_network_are_refused(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    weights.pop(next(iter(weights)))
    with pytest.raises(CheckpointError, match="weights don't fit the network that it describes"):
        Checkpoint(checkpoint.detector, weights, 1).load_model()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_previous_file_unchanged(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def write_half(content: Any, file: Any) -> None:
        file.write(before[: len(before) // 2])
        raise error

    monkeypatch.setattr(torch, "save", write_half)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        save_checkpoint(path, checkpoint)
    if isinstance(error, OSError):
        assert "last.pt: can't write the checkpoint (No space left on device)" in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_folder_gives_best_pt_or_else_last_pt(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the folder holds neither best\.pt nor last\.pt"):
        find_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    assert find_checkpoint(tmp_path) == tmp_path / "last.pt"
    save_checkpoint(tmp_path / "best.pt", checkpoint)
    assert find_checkpoint(tmp_path) == tmp_path / "best.pt"
    assert find_checkpoint(tmp_path / "last.pt") == tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match="no such run or checkpoint"):
        find_checkpoint(tmp_path / "nowhere")
