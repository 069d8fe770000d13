"""Several processes train as one: each sees its share, all hold the same weights, one writes, and all end together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config, write_tiny

from detect.checkpoint import load_checkpoint
from detect.config import to_yaml
from detect.data.loader import EpochSampler
from detect.distributed import Team
from detect.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def test_shares_of_a_batch_make_up_the_batch_of_one_process() -> None:
    alone = EpochSampler(22, 8, seed=5)
    team = [EpochSampler(22, 8, seed=5, share=(rank, 4)) for rank in range(4)]
    for sampler in (alone, *team):
        sampler.epoch = 3
    for whole, *shares in zip(alone, *team):
        assert sorted(whole) == sorted(key for share in shares for key in share)
        assert {len(share) for share in shares} == {2}


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: 6 images or clips a step can't be shared evenly by 4"):
        Team(0, 4).check_shares(6)


def test_a_team_of_one_needs_no_network() -> None:
    team, model = Team(), torch.nn.Linear(1, 1)
    assert team.leads
    assert team.wrapped(model) is model
    assert team.mean({"loss": 2.0}) == {"loss": 2.0}
    assert team.told("words") == "words"


def detect_train(run: Path, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detect", "train", str(run), f"train.processes={processes}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def configured(folder: Path, run: Path, **changes: dict[str, Any]) -> Path:
    """A run folder that holds a configuration and nothing else."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(tiny_config(folder, run, **changes)))
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny(folder, "train", images=16, seed=0)
    write_tiny(folder, "val", images=6, seed=1)
    return folder


def test_two_processes_leave_one_run_and_resume_it(data: Path, tmp_path: Path) -> None:
    run = configured(data, tmp_path / "pair")
    done = detect_train(run, "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1  # one of them speaks
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]  # 16 images in batches of 4, two each
    assert lines[-1]["val"]["AP"] is not None
    saved = load_checkpoint(run / "last.pt")
    assert saved.epoch == 2
    assert all(np.isfinite(value.float().numpy()).all() for value in saved.weights.values())

    again = detect_train(run, "train.epochs=2")
    assert again.returncode == 2
    assert again.stderr.count("the folder already holds a run") == 1
    assert "Traceback" not in again.stderr
    assert detect_train(run, "train.epochs=2", "--resume").returncode == 0


def test_a_batch_too_small_for_the_team_is_told_once(data: Path, tmp_path: Path) -> None:
    refused = detect_train(configured(data, tmp_path / "odd", train={"batch_size": 3}))
    assert refused.returncode == 2
    assert refused.stderr.count("3 images or clips a step can't be shared evenly by 2 processes") == 1
