"""Training end to end: it learns, its folder is complete, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from detect.config.loading import load_config
from detect.config.schema import Config
from detect.data import transforms
from detect.engine import steps, trainer
from detect.engine.data import Validator
from detect.engine.trainer import train
from detect.errors import CheckpointError, ConfigError, DataError, DivergenceError
from detect.inference.predictor import Predictor
from detect.models.checkpoint import load_checkpoint
from runs import assert_same, assert_same_run, interrupt_at_step, read_log
from tiny import TINY_MODEL, tiny_config, write_parts, write_tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (16 images, 4 steps per epoch) and val.json (6 images)."""
    return write_parts(tmp_path_factory.mktemp("data"), train=16, val=6)


@pytest.fixture(scope="session")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs without an interruption."""
    return train(tiny_config(data, tmp_path_factory.mktemp("runs") / "unbroken"))


def environment_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "environment.json").read_text())
    return content


class TestRunFolder:
    def test_the_run_folder_is_complete(self, uninterrupted: Path, data: Path) -> None:
        names = {"config.yaml", "environment.json", "log.jsonl", "last.pt", "best.pt"}
        assert {path.name for path in uninterrupted.iterdir()} == names
        assert load_config(uninterrupted / "config.yaml") == tiny_config(data, uninterrupted)
        environment = json.loads((uninterrupted / "environment.json").read_text())
        assert set(environment) >= {"started", "versions", "machine", "precision", "commit", "data_sha256"}
        assert torch.__version__.startswith(environment["versions"]["torch"])
        assert set(environment["data_sha256"]) == {str(data / "train.json"), str(data / "val.json")}
        assert environment["resumed"] == []

    def test_one_log_line_per_epoch(self, uninterrupted: Path) -> None:
        lines = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
        assert [line["step"] for line in lines] == [4, 8, 12, 16]
        assert [line["val"] is not None for line in lines] == [False, True, False, True]
        for line in lines:
            keys = ("epoch", "epochs", "step", "lr", "loss", "losses", "skipped", "images_per_s", "seconds", "val")
            assert tuple(line) == keys
            assert set(line["losses"]) == {
                "loss_classifier",
                "loss_box_reg",
                "loss_objectness",
                "loss_rpn_box_reg",
            }
            assert line["loss"] == pytest.approx(sum(line["losses"].values()), abs=1e-5)
            assert line["images_per_s"] > 0
        assert set(lines[1]["val"]) >= {"AP", "AP50", "AP75", "per_class"}

    def test_the_checkpoints_belong_to_their_epochs(self, uninterrupted: Path) -> None:
        scores = {line["epoch"]: line["val"]["AP50"] for line in read_log(uninterrupted) if line["val"]}
        best, last = load_checkpoint(uninterrupted / "best.pt"), load_checkpoint(uninterrupted / "last.pt")
        assert scores[best.epoch] == max(scores.values())
        assert best.metrics["AP50"] == scores[best.epoch]
        assert best.training is None
        assert last.epoch == 4
        assert last.training is not None

    def test_a_second_start_raises_and_changes_nothing(self, uninterrupted: Path, data: Path) -> None:
        before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
        with pytest.raises(ConfigError, match="the folder already holds a run; add --resume to continue it"):
            train(tiny_config(data, uninterrupted))
        assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before

    def test_existing_weights_are_not_overwritten(self, uninterrupted: Path, data: Path, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        shutil.copy(uninterrupted / "best.pt", tmp_path / "run")
        for resume in (False, True):
            with pytest.raises(
                ConfigError, match=r"run: the folder holds a best\.pt, but no last\.pt to resume from; move"
            ):
                train(tiny_config(data, tmp_path / "run"), resume=resume)
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["best.pt"]

    def test_an_unwritable_run_folder_is_named(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"file/run: can't write there \(Not a directory\); choose another"):
            train(tiny_config(data, tmp_path / "file" / "run"))


class TestResume:
    @pytest.mark.parametrize(("workers", "step"), [(0, 11), (2, 9)], ids=["in an epoch", "between epochs, 2 workers"])
    def test_a_resumed_run_equals_an_uninterrupted_one(
        self, uninterrupted: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, step: int
    ) -> None:
        config = tiny_config(data, tmp_path / "run", data={"workers": workers})
        with monkeypatch.context() as patch:
            interrupt_at_step(patch, step)
            with pytest.raises(KeyboardInterrupt):
                train(config)
        assert len(read_log(tmp_path / "run")) == 2
        assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 2
        assert train(config, resume=True) == tmp_path / "run"
        assert_same_run(tmp_path / "run", uninterrupted)
        assert len(json.loads((tmp_path / "run" / "environment.json").read_text())["resumed"]) == 1

    @pytest.mark.parametrize(
        ("name", "validated", "logged", "left"),
        [("last.pt", False, 1, 1), ("last.pt", True, 2, 2), ("best.pt", True, 2, 2)],
    )
    def test_interrupted_before_a_checkpoint(
        self,
        uninterrupted: Path,
        data: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        validated: bool,
        logged: int,
        left: int,
    ) -> None:
        """Then the log is ahead of last.pt, whose epoch isn't validated, or last.pt is ahead of best.pt."""
        save = trainer.save_checkpoint

        def interrupted(path: Path, checkpoint: Any) -> None:
            if path.name == name and checkpoint.epoch == 2 and bool(checkpoint.metrics) == validated:
                raise KeyboardInterrupt
            save(path, checkpoint)

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "save_checkpoint", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(tiny_config(data, tmp_path / "run"))
        assert len(read_log(tmp_path / "run")) == logged
        assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == left
        train(tiny_config(data, tmp_path / "run"), resume=True)
        assert_same_run(tmp_path / "run", uninterrupted)

    def test_a_failed_validation_loses_no_epoch(
        self, uninterrupted: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*arguments: Any, **named: Any) -> None:
            raise DataError("not to be judged")

        config, lasts = tiny_config(data, tmp_path / "run"), []
        with monkeypatch.context() as patch:
            patch.setattr(Validator, "__call__", fails)
            for _ in range(2):  # a resumed run starts with the validation
                with pytest.raises(DataError):
                    train(config, resume=True)
                last = load_checkpoint(tmp_path / "run" / "last.pt")
                assert (last.epoch, last.metrics, len(read_log(tmp_path / "run"))) == (2, {}, 1)
                lasts.append(last)
        assert_same(lasts[0].weights, lasts[1].weights)
        train(config, resume=True)
        assert_same_run(tmp_path / "run", uninterrupted)

    def test_the_best_epoch_is_kept_even_if_the_run_ends_with_it(
        self, uninterrupted: Path, tmp_path: Path, data: Path
    ) -> None:
        """If killed between the last two writes, no epoch remains to be trained, but best.pt must still be written."""
        shutil.copytree(uninterrupted, tmp_path / "run")
        (tmp_path / "run" / "best.pt").unlink()
        last = load_checkpoint(tmp_path / "run" / "last.pt")
        assert last.training is not None
        last.training["best_epoch"] = last.epoch
        trainer.save_checkpoint(tmp_path / "run" / "last.pt", last)
        train(tiny_config(data, tmp_path / "run"), resume=True)
        best = load_checkpoint(tmp_path / "run" / "best.pt")
        assert (best.epoch, best.training) == (4, None)
        assert best.metrics == last.metrics
        assert_same(best.weights, last.weights)

    def test_unfinished_files_of_a_killed_process_are_removed(
        self, uninterrupted: Path, tmp_path: Path, data: Path
    ) -> None:
        shutil.copytree(uninterrupted, tmp_path / "run")
        for name in (".last.pt.77.part", ".log.jsonl.77.part"):
            (tmp_path / "run" / name).write_bytes(b"half")
        train(tiny_config(data, tmp_path / "run"), resume=True)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in uninterrupted.iterdir()}

    def test_a_checkpoint_of_an_older_version_resumes(self, half: Path, data: Path) -> None:
        last = load_checkpoint(half / "last.pt")
        assert last.training is not None
        for key in ("best_epoch", "losses_before", "bad_steps_in_a_row"):
            del last.training[key]
        trainer.save_checkpoint(half / "last.pt", last)
        train(tiny_config(data, half), resume=True)

    def test_a_changed_environment_is_reported(
        self, half: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        environment = json.loads((half / "environment.json").read_text())
        environment["machine"]["threads"] = 64
        environment["versions"]["torch"] = "1.0"
        (half / "environment.json").write_text(json.dumps(environment))
        train(tiny_config(data, half), resume=True)
        now = environment_of(half)["versions"]["torch"]
        note = f"note: torch 1.0 -> {now}, threads 64 -> 1: the run continues, but its results may"
        assert note in capsys.readouterr().out
        train(tiny_config(data, half), resume=True)
        assert "note:" not in capsys.readouterr().out

    def test_interrupted_before_the_first_checkpoint(
        self, uninterrupted: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            interrupt_at_step(patch, 2)
            with pytest.raises(KeyboardInterrupt):
                train(tiny_config(data, tmp_path / "run"))
        train(tiny_config(data, tmp_path / "run"), resume=True)
        assert_same_run(tmp_path / "run", uninterrupted)

    def test_a_finished_run_is_not_changed(self, uninterrupted: Path, data: Path, tmp_path: Path) -> None:
        shutil.copytree(uninterrupted, tmp_path / "run")
        train(tiny_config(data, tmp_path / "run"), resume=True)
        assert_same_run(tmp_path / "run", uninterrupted)

    @pytest.fixture
    def half(self, uninterrupted: Path, tmp_path: Path) -> Path:
        """A copy of the run, which a test may change."""
        shutil.copytree(uninterrupted, tmp_path / "run")
        return tmp_path / "run"

    def test_a_changed_key_is_named(self, half: Path, data: Path) -> None:
        changed = tiny_config(data, half, train={"lr": 0.1, "epochs": 9}, data={"workers": 1, "cache": False})
        with pytest.raises(ConfigError, match=r"run: train\.epochs, train\.lr differ from what the run was started wi"):
            train(changed, resume=True)

    def test_an_incomplete_log_line_is_skipped(self, half: Path, uninterrupted: Path, data: Path) -> None:
        with (half / "log.jsonl").open("a") as file:
            file.write('{"epoch": 5, "epo')
        train(tiny_config(data, half), resume=True)
        assert read_log(half) == read_log(uninterrupted)

    def test_labels_that_changed_are_named(self, half: Path, data: Path) -> None:
        environment = json.loads((half / "environment.json").read_text())
        environment["data_sha256"][str(data / "train.json")] = "0" * 64
        (half / "environment.json").write_text(json.dumps(environment))
        with pytest.raises(DataError, match=r"train\.json: the labels have changed since the run was started"):
            train(tiny_config(data, half), resume=True)

    def test_a_missing_configuration_is_named(self, half: Path, data: Path) -> None:
        (half / "config.yaml").unlink()
        with pytest.raises(ConfigError, match=r"config\.yaml: can't read the configuration"):
            train(tiny_config(data, half), resume=True)

    def test_weights_for_inference_only_cannot_be_resumed(self, half: Path, data: Path) -> None:
        shutil.copy(half / "best.pt", half / "last.pt")
        with pytest.raises(CheckpointError, match=r"last\.pt: the checkpoint is made for inference only"):
            train(tiny_config(data, half), resume=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_weights_in_another_process(
    uninterrupted: Path, tmp_path: Path, workers: int
) -> None:
    changes = [f"run.dir={tmp_path / 'run'}", f"data.workers={workers}"]
    command = [sys.executable, "-m", "detect", "train", str(uninterrupted / "config.yaml"), *changes]
    hashes = {"PYTHONHASHSEED": str(workers + 1)}  # changes the order of sets
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **hashes}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", uninterrupted)


def test_another_seed_gives_other_weights(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    train(tiny_config(data, tmp_path / "run", train={"seed": 4, "epochs": 1}))
    assert read_log(tmp_path / "run")[0]["loss"] != read_log(uninterrupted)[0]["loss"]


def test_training_reduces_the_loss_and_detects(data: Path, tmp_path: Path) -> None:
    model = {
        **TINY_MODEL,
        "backbone": {"stem": 8, "widths": (16, 16, 16), "depths": (1, 0, 0)},
        "roi": {**TINY_MODEL["roi"], "pool": 5, "dropout": 0.0},
    }
    plain = {"mosaic": 0, "crop": 0, "brightness": 0, "contrast": 0, "illumination": 0}
    schedule = {"epochs": 18, "lr": 1e-2, "val_every": 18, "ema_decay": 0.9}
    train(tiny_config(data, tmp_path / "run", model=model, augment=plain, train=schedule))
    log = read_log(tmp_path / "run")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["val"]["AP50"] > 0.2  # a random detector has 0.00


def test_the_last_epochs_use_no_mosaic(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mosaic, calls = transforms.mosaic, []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return mosaic(*arguments)

    monkeypatch.setattr(transforms, "mosaic", counted)
    changes = {"train": {"epochs": 3}, "augment": {"mosaic": 1, "mosaic_off_epochs": 2}}
    train(tiny_config(data, tmp_path / "run", data={"val": None}, **changes))
    assert len(calls) == 16  # the first epoch's images


def test_cpu_training_is_deterministic_and_restores_the_setting(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, settings = steps.Stepper.step, set()

    def watched(self: Any, *arguments: Any) -> Any:
        enabled = torch.are_deterministic_algorithms_enabled()
        settings.add((enabled, torch.is_deterministic_algorithms_warn_only_enabled()))
        return step(self, *arguments)

    monkeypatch.setattr(steps.Stepper, "step", watched)
    torch.use_deterministic_algorithms(False)
    for deterministic, expected in ((False, (True, True)), (True, (True, False))):
        config = tiny_config(
            data, tmp_path / f"run{deterministic}", train={"epochs": 1, "deterministic": deterministic}
        )
        train(config)
        assert settings == {expected}
        settings.clear()
        assert not torch.are_deterministic_algorithms_enabled()


class TestWithoutValidation:
    def test_there_is_no_best_checkpoint_and_the_last_is_usable(self, data: Path, tmp_path: Path) -> None:
        run = train(tiny_config(data, tmp_path / "run", data={"val": None}, train={"epochs": 1}))
        assert not (run / "best.pt").exists()
        assert read_log(run)[0]["val"] is None
        predictor = Predictor.load(run, device="cpu")
        assert predictor.weights_path == run / "last.pt"
        predictor(data / "val" / "val_00.bmp")


class TestRefusals:
    def test_a_missing_image_is_named_before_anything_is_written(self, data: Path, tmp_path: Path) -> None:
        shutil.copytree(data, tmp_path / "data")
        (tmp_path / "data" / "val" / "val_03.bmp").unlink()
        with pytest.raises(DataError, match=r"val_03\.bmp: no such image"):
            train(tiny_config(tmp_path / "data", tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    def test_a_damaged_image_is_named_before_anything_is_written(self, data: Path, tmp_path: Path) -> None:
        shutil.copytree(data, tmp_path / "data")
        path = tmp_path / "data" / "train" / "train_07.bmp"
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(DataError, match=r"train_07\.bmp: the image is damaged or cut short"):
            train(tiny_config(tmp_path / "data", tmp_path / "run", data={"cache": False}))
        assert not (tmp_path / "run").exists()

    def test_missing_labels_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"train\.json: data\.train names no file"):
            train(tiny_config(tmp_path, tmp_path / "run"))

    def test_a_non_finite_loss_names_the_images(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from detect.models.roi_heads import CascadeRoIHeads

        losses, calls = CascadeRoIHeads.losses, []

        def broken(self: Any, *arguments: Any) -> dict[str, torch.Tensor]:
            calls.append(1)
            content: dict[str, torch.Tensor] = losses(self, *arguments)
            return {**content, "loss_box_reg": content["loss_box_reg"] * float("nan")} if len(calls) == 6 else content

        monkeypatch.setattr(CascadeRoIHeads, "losses", broken)
        named = r"loss_box_reg is not finite in epoch 2, step 2 on (train_\d\d\.bmp(, )?){4}; the batch is in"
        with pytest.raises(DivergenceError, match=named):
            train(tiny_config(data, tmp_path / "run", augment={"mosaic": 0}))
        assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 1

    def test_a_non_finite_gradient_is_not_applied(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from detect.models.roi_heads import CascadeRoIHeads

        losses = CascadeRoIHeads.losses

        def broken(self: Any, *arguments: Any) -> dict[str, torch.Tensor]:
            content: dict[str, torch.Tensor] = losses(self, *arguments)
            nothing = (content["loss_box_reg"] * 0).sqrt()  # 0, with an infinite gradient
            return {**content, "loss_box_reg": content["loss_box_reg"] + nothing}

        monkeypatch.setattr(CascadeRoIHeads, "losses", broken)
        for clip_norm in (5.0, None):
            with pytest.raises(DivergenceError, match=r"the gradient is not finite in epoch 1, step 1 on train"):
                train(tiny_config(data, tmp_path / "run", train={"clip_norm": clip_norm}))


class TestEarlyStop:
    @pytest.fixture
    def config(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
        """Ten epochs, each validated, whose scores decrease after the second."""
        scores = iter([0.1, 0.3, 0.2, 0.25, 0.9, 0.9])
        validated = lambda self, model, side: dict.fromkeys(("AP", "AP50", "AP75"), next(scores))  # noqa: E731
        monkeypatch.setattr(Validator, "__call__", validated)
        return tiny_config(data, tmp_path / "run", train={"epochs": 10, "val_every": 1, "early_stop": 2})

    def test_training_stops_after_two_validations_without_improvement(
        self, config: Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = train(config)
        assert [line["epoch"] for line in read_log(run)] == [1, 2, 3, 4]
        assert load_checkpoint(run / "best.pt").epoch == 2
        assert "stopped early: no better AP50 in 2 validations" in capsys.readouterr().out
        train(config, resume=True)  # does not train further
        assert len(read_log(run)) == 4

    def test_a_resumed_run_keeps_the_best_score(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            interrupt_at_step(patch, 14)  # in the fourth epoch
            with pytest.raises(KeyboardInterrupt):
                train(config)
        run = train(config, resume=True)
        assert len(read_log(run)) == 4
        assert load_checkpoint(run / "best.pt").epoch == 2


def test_colour_sgd_input_size_and_half_precision_work_together(data: Path, tmp_path: Path) -> None:
    config = tiny_config(
        data,
        tmp_path / "run",
        data={"channels": 3, "cache": False},
        model={**TINY_MODEL, "input_size": 48},
        train={"epochs": 1, "optimizer": "sgd", "lr": 1e-2, "precision": "bfloat16", "clip_norm": None, "ema_decay": 0},
    )
    run = train(config)
    detector = load_checkpoint(run).detector
    assert detector.channels == len(detector.mean) == 3
    assert detector.model.input_size == 48
    assert json.loads((run / "environment.json").read_text())["precision"] == "bfloat16"


def test_images_without_any_box_can_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(tmp_path, "train", images=4, seed=0, empty=4)
    with pytest.raises(DataError, match=r"none of the 4 images of data\.train has a box.*data\.allow_empty=true"):
        train(tiny_config(tmp_path, tmp_path / "none", data={"val": None}, train={"epochs": 1}))
    data = {"val": None, "allow_empty": True}
    run = train(tiny_config(tmp_path, tmp_path / "run", data=data, train={"epochs": 1}))
    assert read_log(run)[0]["losses"]["loss_box_reg"] == 0
    assert "anchors by default: the data has no boxes to fit them to" in capsys.readouterr().out


def test_training_on_a_subset_of_the_images(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tiny_config(data, tmp_path / "few", train={"epochs": 1}, data={"train_images": 6})
    assert len(read_log(train(few))) == 1
    assert "training on 6 images with 10 boxes, validating on 6" in capsys.readouterr().out
    many = tiny_config(data, tmp_path / "many", data={"train_images": 17})
    with pytest.raises(DataError, match=r"there are 16 images, data\.train_images asks for 17; ask for fewer"):
        train(many)


@pytest.mark.parametrize("side", [8, 24])
def test_very_small_images_in_training_validation_and_inference(tmp_path: Path, side: int) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0, side=side)
    write_tiny(tmp_path, "val", images=4, seed=1, side=side)
    run = train(tiny_config(tmp_path, tmp_path / "run", train={"epochs": 2, "val_every": 1}))
    assert [line["val"] is not None for line in read_log(run)] == [True, True]
    predictor = Predictor.load(run)
    assert predictor.side == side
    assert predictor.tiling_for(side, side) is None
    assert predictor.strip_tiling().side == 32
    predictor(tmp_path / "val" / "val_00.bmp")
