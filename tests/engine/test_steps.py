"""Bad steps: they are detected, named and saved, and either stop the training or are skipped without effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detect.data.dataset import DetectionDataset, read_dataset
from detect.engine import steps as bad_steps
from detect.engine.steps import BadStepHandler, LossMonitor, StepIndex
from detect.engine.trainer import train
from detect.errors import DivergenceError
from detect.images import read_image
from detect.models.checkpoint import load_checkpoint
from detect.models.distributed import World
from detect.models.roi_heads import CascadeRoIHeads
from runs import interrupt_at_step, read_log
from tiny import CATEGORIES, tiny_config, write_tiny

Losses = dict[str, Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 images, four steps per epoch."""
    folder = tmp_path_factory.mktemp("data")
    write_tiny(folder, "train", images=16, seed=0)
    return folder


def change_losses(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Losses], Losses], when: Callable[[int], bool]
) -> None:
    """Change the box head's losses in the steps, counted from 1, for which ``when`` holds."""
    losses, calls = CascadeRoIHeads.losses, []

    def changed_losses(self: Any, *arguments: Any) -> Losses:
        calls.append(1)
        original: Losses = losses(self, *arguments)
        return change(original) if when(len(calls)) else original

    monkeypatch.setattr(CascadeRoIHeads, "losses", changed_losses)


def nan_loss(original: Losses) -> Losses:
    return {**original, "loss_box_reg": original["loss_box_reg"] * math.nan}


def exploding_loss(original: Losses) -> Losses:
    return {**original, "loss_classifier": original["loss_classifier"] + 1e6}


def config_of(data: Path, run: Path, **train_section: Any) -> Any:
    return tiny_config(data, run, data={"val": None}, train=train_section)


class TestLossMonitor:
    def monitor(self, losses: list[float], max_ratio: float | None = 20) -> LossMonitor:
        monitor = LossMonitor(max_ratio)
        for loss in losses:
            monitor.record({"loss": loss})
        return monitor

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_non_finite_loss_is_a_fault_from_the_first_step(self, value: float) -> None:
        fault = LossMonitor(None).fault({"loss_a": 1.0, "loss_b": value, "loss_c": value})
        assert fault == "loss_b, loss_c is not finite"

    def test_a_loss_is_compared_with_the_median(self) -> None:
        monitor = self.monitor([4.0] * 50 + [70.0] * 40)  # large values don't change the median
        assert monitor.fault({"a": 70.0, "b": 9.0}) is None
        assert monitor.fault({"a": 71.0, "b": 10.0}) == "the loss is 81, 20 times the recent median (largest part: a)"

    def test_the_median_follows_a_falling_loss(self) -> None:
        monitor = self.monitor([50.0] * 300 + [2.0] * 100)
        assert monitor.fault({"a": 39.0}) is None
        assert monitor.fault({"a": 41.0}) is not None

    def test_a_median_below_one_counts_as_one(self) -> None:
        monitor = self.monitor([0.001] * 100)
        assert monitor.fault({"a": 19.0}) is None
        assert monitor.fault({"a": 21.0}) is not None

    def test_the_first_steps_and_no_ratio_accept_all_finite_losses(self) -> None:
        assert self.monitor([1.0] * 9).fault({"a": 1e9}) is None
        assert self.monitor([1.0] * 10).fault({"a": 1e9}) is not None
        assert self.monitor([1.0] * 10, max_ratio=None).fault({"a": 1e9}) is None

    def test_it_resumes_from_its_state(self) -> None:
        monitor = self.monitor([3.0] * 200)
        assert LossMonitor(20, monitor.state()).fault({"a": 61.0}) == monitor.fault({"a": 61.0}) is not None


class TestStop:
    def test_the_images_are_named_and_the_batch_is_saved(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_losses(monkeypatch, nan_loss, lambda step: step == 6)
        with pytest.raises(DivergenceError) as caught:
            train(config_of(data, tmp_path / "run"))
        saved = tmp_path / "run" / "bad_steps" / "epoch2_step2.pt"
        assert caught.match(r"^loss_box_reg is not finite in epoch 2, step 2 on train_\d\d\.bmp")
        assert f"the batch is in {saved}, drawn in epoch2_step2.png; check these images and their boxes" in str(
            caught.value
        )
        assert str(caught.value).endswith("train.on_bad_step=skip leaves out such a batch")
        batch = torch.load(saved)
        assert (batch["epoch"], batch["step"]) == (2, 2)
        assert batch["reason"] == "loss_box_reg is not finite"
        assert batch["categories"] == CATEGORIES
        assert [tuple(image.shape) for image in batch["images"]] == [(1, 64, 64)] * 4
        assert all(0 <= float(image.min()) < float(image.max()) <= 1 for image in batch["images"])
        assert all(len(target["boxes"]) == len(target["labels"]) for target in batch["targets"])
        assert sum(len(target["boxes"]) for target in batch["targets"]) > 0
        assert len(batch["files"]) == len(batch["others"]) == 4
        for file, others in zip(batch["files"], batch["others"]):
            assert Path(file).is_file()
            assert Path(file).name in str(caught.value)
            assert all(Path(other).name in str(caught.value) for other in others)
        assert 3 in {len(others) for others in batch["others"]} <= {0, 3}  # half of the images are mosaics
        sheet = read_image(saved.with_suffix(".png"))
        assert sheet.shape[1] > 4 * 400
        assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 1

    def test_an_exploding_loss_stops_the_training(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_losses(monkeypatch, exploding_loss, lambda step: step == 11)
        message = r"the loss is 1e\+06, \d+ times the recent median \(largest part: loss_c"
        with pytest.raises(DivergenceError, match=message):
            train(config_of(data, tmp_path / "run"))
        train(config_of(data, tmp_path / "other", max_loss_ratio=None))  # the call counter is past step 11

    def test_a_full_disk_does_not_hide_the_reason(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, pixels: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(bad_steps, "write_image", full)
        change_losses(monkeypatch, nan_loss, lambda step: True)
        with pytest.raises(DivergenceError, match=r"loss_box_reg is .*; the batch is not saved \(No space left on dev"):
            train(config_of(data, tmp_path / "run"))


class TestSkip:
    def test_the_run_continues_and_counts_skipped_steps(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_losses(monkeypatch, nan_loss, lambda step: step in (5, 6, 11))
        run = train(config_of(data, tmp_path / "run", on_bad_step="skip"))
        log = read_log(run)
        assert [line["skipped"] for line in log] == [0, 2, 1, 0]
        assert all(math.isfinite(line["loss"]) for line in log)
        assert log[1]["loss"] == pytest.approx(log[0]["loss"], rel=0.7)  # a mean over two steps, not over four
        assert capsys.readouterr().out.count("skipped a step: loss_box_reg is not finite in epoch") == 3
        assert len(list((run / "bad_steps").glob("*.pt"))) == 3

    def test_a_skipped_step_does_not_change_the_network(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """This includes the normalisation statistics, which a forward pass with NaN features changes."""
        forward, broken_before = nn.BatchNorm2d.forward, []

        def broken(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
            if x.device.type == "cpu" and self.training and not broken_before:
                broken_before.append(True)
                x = x * math.nan
            return forward(self, x)

        monkeypatch.setattr(nn.BatchNorm2d, "forward", broken)
        run = train(config_of(data, tmp_path / "run", on_bad_step="skip", epochs=1))
        assert read_log(run)[0]["skipped"] == 1
        training = load_checkpoint(run / "last.pt").training
        assert training is not None
        for weights in (load_checkpoint(run / "last.pt").weights, training["weights"]):
            assert all(torch.isfinite(value).all() for value in weights.values())

    def test_too_many_consecutive_bad_steps_stop_the_training(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_losses(monkeypatch, nan_loss, lambda step: step > 3)
        with pytest.raises(DivergenceError, match=r"4 steps in a row are bad, the last: loss_box_reg"):
            train(config_of(data, tmp_path / "run", on_bad_step="skip", max_consecutive_skips=3))

    def test_an_epoch_of_bad_steps_stops_the_training(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_losses(monkeypatch, nan_loss, lambda step: True)
        with pytest.raises(DivergenceError, match="all steps of epoch 1 were bad"):
            train(config_of(data, tmp_path / "run", on_bad_step="skip", max_consecutive_skips=99))

    def test_a_stopped_run_is_resumed_with_skipping_and_an_interrupted_one_exactly(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            change_losses(patch, nan_loss, lambda step: step in (6, 9))
            uninterrupted = train(config_of(data, tmp_path / "whole", on_bad_step="skip"))
        with monkeypatch.context() as patch:
            change_losses(patch, nan_loss, lambda step: step == 6)
            with pytest.raises(DivergenceError):
                train(config_of(data, tmp_path / "run"))
        with monkeypatch.context() as patch:
            change_losses(patch, nan_loss, lambda step: step in (2, 5))  # the same steps, counted from the second epoch
            interrupt_at_step(patch, 10)
            with pytest.raises(KeyboardInterrupt):
                train(config_of(data, tmp_path / "run", on_bad_step="skip"), resume=True)
        run = train(config_of(data, tmp_path / "run", on_bad_step="skip"), resume=True)
        assert [line["skipped"] for line in read_log(run)] == [0, 1, 1, 0]
        assert read_log(run) == read_log(uninterrupted)
        a, b = (load_checkpoint(folder / "last.pt") for folder in (run, uninterrupted))
        assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)

    def test_the_disk_is_not_filled(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bad_steps, "_MAX_SAVED_BATCHES", 2)
        change_losses(monkeypatch, nan_loss, lambda step: step % 2 == 0)
        lines: list[str] = []
        meet = BadStepHandler.handle

        def recording_handle(self: BadStepHandler, reason: str, batch: Any, moment: StepIndex) -> None:
            self._say = lines.append
            meet(self, reason, batch, moment)

        monkeypatch.setattr(BadStepHandler, "handle", recording_handle)
        run = train(config_of(data, tmp_path / "run", on_bad_step="skip", epochs=2))
        assert len(list((run / "bad_steps").glob("*.pt"))) == 2
        assert "bad_steps already holds 2" in lines[-1]


def test_all_shares_of_a_batch_are_named_and_saved(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detect.data.loader import Batch

    images = DetectionDataset(read_dataset(data / "train.json", role="data.train"), channels=1)
    parts = [
        Batch(
            [torch.zeros(1, 8, 8)],
            [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}],
            [i],
            [(9,) * i],
            [i],
        )
        for i in (0, 1)
    ]
    gather = BadStepHandler(tmp_path, images, World(), action="stop", max_consecutive=1, say=print)
    shares = [(part.images, part.targets, *gather._files(part)) for part in parts]
    monkeypatch.setattr(World, "all_gather", lambda self, value: shares)
    with pytest.raises(DivergenceError, match=r"on train_00\.bmp, train_01\.bmp \(with train_09\.bmp\); the batch"):
        gather.handle("reason", parts[0], StepIndex(1, 1))
    assert len(torch.load(tmp_path / "bad_steps" / "epoch1_step1.pt")["images"]) == 2
