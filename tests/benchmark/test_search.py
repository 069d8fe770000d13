"""Hyperparameter search: reading the search space, errors in it, and a study that survives the loss of workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from detect.cli import main
from detect.config.loading import load_config
from detect.config.schema import Config
from detect.errors import ConfigError
from tiny import tiny_config, write_parts

pytest.importorskip("optuna", reason="detect search needs Optuna: pip install 'surface-detect[search]'")

from detect.benchmark import search as study
from detect.benchmark.search import Range, Space, Trial, read_space, search
from detect.engine.run_folder import RunFolder

KEYS = {"train.lr": {"low": 1e-3, "high": 1e-2, "log": True}, "model.roi.box_loss": ["giou", "ciou"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains in about one second."""
    folder = write_parts(tmp_path_factory.mktemp("data"))
    config = tiny_config(folder, folder / "run", train={"epochs": 2, "val_every": 1})
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def space_of(base: Path, tmp_path: Path, keys: Any = None, **top: Any) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"base": str(base), "keys": KEYS if keys is None else keys, **top}))
    return path


def fake_training(monkeypatch: pytest.MonkeyPatch, score: Callable[[Config], float]) -> list[Config]:
    """Replace training by two epochs with the given score; returns the list of trained configurations."""
    trained = []

    def train(config: Config, *, resume: bool, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        assert resume
        trained.append(config)
        config.run.dir.mkdir(parents=True, exist_ok=True)
        for epoch in (1, 2):
            line = {"epoch": epoch, "epochs": 2, "val": {"AP": score(config), "AP50": 0.9}}
            with RunFolder(config.run.dir).log.open("a") as log:
                log.write(json.dumps(line) + "\n")
            on_epoch(line)

    monkeypatch.setattr(study, "train", train)
    return trained


def run(space: Space, out: Path, trials: int, **options: Any) -> tuple[list[Trial], list[str]]:
    messages: list[str] = []
    results = search(space, out, trials=trials, **{"seed": 0, "prune": False, **options}, say=messages.append)
    return results, messages


class TestSpace:
    def test_ranges_and_values(self, base: Path, tmp_path: Path) -> None:
        keys = {**KEYS, "train.batch_size": {"low": 2, "high": 8, "step": 2}, "model.rpn.finest_stride": [None, 8]}
        space = read_space(space_of(base, tmp_path, keys, metric="AP75", seeds=2), ["train.epochs=3"])
        assert space.keys["train.lr"] == Range(1e-3, 1e-2, log=True)
        assert space.keys["train.batch_size"] == Range(2, 8, step=2)
        assert space.keys["model.rpn.finest_stride"] == ("null", "8")
        config = space.config({"train.lr": 0.005, "model.roi.box_loss": '"ciou"'}, tmp_path / "run", 4)
        assert (config.train.lr, config.model.roi.box_loss, config.train.epochs) == (0.005, "ciou", 3)
        assert (config.run.dir, config.train.seed) == (tmp_path / "run", 4)

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({}, "'keys' is {}; name the keys to vary"),
            ({"train.seed": [1, 2]}, "'train.seed' can't be searched"),
            ({"train.lr": [1e-3]}, r"'train.lr' has only 1 value\(s\)"),
            ({"train.lr": {"low": 1}}, "'train.lr' is {'low': 1}; give a list of values"),
            ({"train.lr": {"low": 2, "high": 1}}, "'train.lr' goes from 2 to 1"),
            ({"train.lr": {"low": 0, "high": 1, "log": True}}, "'train.lr' can't be searched on a logarithmic scale"),
            ({"train.lr": {"low": "1e-4", "high": 1}}, r"'train.lr.low' is '1e-4'; give a number \(YAML wants 1.0e-4"),
            ({"train.lr": {"low": 0, "high": 1, "step": 0}}, "'train.lr.step' is 0"),
            ({"train.rl": [1, 2]}, "unknown key 'train.rl'; did you mean 'train.lr'"),
            ({"train.early_stop": [3, 4]}, "train.early_stop=3: the training length would depend on the score"),
        ],
    )
    def test_wrong_keys_are_errors(self, base: Path, tmp_path: Path, keys: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("}", r"\}")):
            read_space(space_of(base, tmp_path, keys))

    @pytest.mark.parametrize(
        ("top", "message"),
        [
            ({"metric": "mAP"}, "'metric' is 'mAP'"),
            ({"seeds": 0}, "'seeds' is 0"),
            ({"trials": 3}, "unknown key 'trials'"),
        ],
    )
    def test_wrong_top_level_entries_are_errors(self, base: Path, tmp_path: Path, top: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            read_space(space_of(base, tmp_path, **top))

    def test_base_without_validation_data_is_an_error(self, base: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.val is unset"):
            read_space(space_of(base, tmp_path), ["data.val=null"])

    def test_example_configuration_is_valid(self) -> None:
        root = Path(__file__).resolve().parents[2]
        assert len(read_space(root / "configs" / "search" / "around_neu.yaml").keys) == 4


class TestStudy:
    def test_trials_are_sorted_by_the_mean_score_over_seeds(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = fake_training(monkeypatch, lambda config: config.train.lr * 10 + config.train.seed / 100)
        space = read_space(space_of(base, tmp_path, seeds=2))
        trials, messages = run(space, tmp_path / "out", 5)
        assert len(trained) == 10
        assert {config.run.dir.name for config in trained} == {"seed0", "seed1"}
        assert [trial.state for trial in trials] == ["complete"] * 5
        scores = [trial.score for trial in trials]
        assert scores == sorted(scores, reverse=True)
        assert trials[0].score == pytest.approx(float(trials[0].chosen["train.lr"]) * 10 + 0.005)
        assert len(messages) == 10

    def test_resumed_study_equals_an_uninterrupted_one(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = read_space(space_of(base, tmp_path))
        fake_training(monkeypatch, lambda config: config.train.lr)
        uninterrupted, _ = run(space, tmp_path / "uninterrupted", 12)

        def interrupted(config: Config) -> float:
            if "trial0009" in str(config.run.dir):
                raise KeyboardInterrupt
            return config.train.lr

        fake_training(monkeypatch, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(space, tmp_path / "interrupted", 12)
        trained = fake_training(monkeypatch, lambda config: config.train.lr)
        resumed, _ = run(space, tmp_path / "interrupted", 12)
        assert [config.run.dir.parent.name for config in trained] == ["trial0009", "trial0010", "trial0011"]
        assert [(trial.number, trial.chosen, trial.score) for trial in resumed] == [
            (trial.number, trial.chosen, trial.score) for trial in uninterrupted
        ]

    def test_failed_trial_is_reported_and_the_search_continues(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_training(monkeypatch, lambda config: 0.5)
        space = read_space(space_of(base, tmp_path, {"model.rpn.fg_iou": [0.6, 0.1]}))
        trials, messages = run(space, tmp_path / "out", 6)
        assert {trial.state for trial in trials} == {"complete", "failed"}
        assert trials[0].state == "complete"
        for trial in trials:
            assert (trial.chosen["model.rpn.fg_iou"] == "0.1") == (trial.state == "failed")
            assert trial.reason is None or "bg_iou 0.3 is above fg_iou 0.1" in trial.reason
        assert any("failed: " in line for line in messages)

    def test_trial_below_the_median_is_pruned(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = read_space(space_of(base, tmp_path))
        trained = fake_training(monkeypatch, lambda config: 0.1 if len(trained) > 8 else 0.5 + len(trained) / 100)
        trials, _ = run(space, tmp_path / "out", 9, prune=True)
        assert [trial.state for trial in trials] == ["complete"] * 8 + ["pruned"]
        assert (trials[-1].number, trials[-1].score) == (8, 0.1)
        assert len(RunFolder(trained[-1].run.dir).read_log()) == 1

    def test_another_search_in_the_folder_is_an_error(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_training(monkeypatch, lambda config: 0.5)
        run(read_space(space_of(base, tmp_path)), tmp_path / "out", 1)
        with pytest.raises(ConfigError, match="the folder holds another search"):
            run(read_space(space_of(base, tmp_path), ["train.epochs=3"]), tmp_path / "out", 2)


def test_two_workers_share_a_study_and_its_best_can_be_trained(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "detect",
        "search",
        str(space_of(base, tmp_path)),
        "--trials",
        "3",
        "--out",
        str(out),
    ]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    trials = json.loads((out / "trials.json").read_text())
    assert main(["search", *command[4:]]) == 0, "all trials are finished"
    trials = json.loads((out / "trials.json").read_text())
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    assert sum(text.count("\ntrial ") + text.startswith("trial ") for text in outputs) == 6, (
        "each trial is printed once"
    )
    best = load_config(out / "best.yaml")
    assert json.dumps(best.train.lr) == trials[0]["chosen"]["train.lr"]
    assert "--vary train.lr" in outputs[0]
