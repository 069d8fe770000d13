"""Distributed training: each process trains on its share, all have the same weights, one writes, all end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.cli import train as processes
from detect.config.loading import to_yaml
from detect.data.loader import EpochBatchSampler
from detect.engine.run_folder import RunLock
from detect.errors import ConfigError
from detect.models.checkpoint import load_checkpoint
from detect.models.distributed import World
from runs import assert_same_run
from tiny import tiny_config, write_parts, write_tiny

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def test_shares_of_a_batch_equal_the_batch_of_one_process() -> None:
    alone = EpochBatchSampler(22, 8, seed=5)
    world = [EpochBatchSampler(22, 8, seed=5, shard=(rank, 4)) for rank in range(4)]
    for sampler in (alone, *world):
        sampler.epoch = 3
    for whole, *shares in zip(alone, *world):
        assert sorted(whole) == sorted(key for share in shares for key in share)
        assert {len(share) for share in shares} == {2}


@pytest.mark.parametrize(("images", "batch", "shares"), [(4, 4, [1]), (5, 8, [1]), (9, 4, [1, 1]), (11, 100, [2])])
def test_few_images_are_split_equally(images: int, batch: int, shares: list[int]) -> None:
    for rank in range(4):
        assert [len(share) for share in EpochBatchSampler(images, batch, seed=0, shard=(rank, 4))] == shares


def test_fewer_images_than_processes_are_refused_before_the_run_folder_is_made(data: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=2, seed=0)
    run = configured(data, tmp_path / "given")
    arguments = (f"data.train={tmp_path / 'train.json'}", f"run.dir={tmp_path / 'run'}", "train.batch_size=3")
    config = run / "config.yaml"
    done = detect_train(config, *arguments, processes=3)
    assert (done.returncode, done.stdout.count("run: ")) == (2, 0)
    want = "detect: train.processes: too few images or clips per epoch (2) for 3 processes; set it to 2, or give more"
    assert want in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_validation_set_smaller_than_the_world_is_evaluated(data: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=3, seed=0)
    write_tiny(tmp_path, "val", images=1, seed=1, empty=0)
    run = configured(tmp_path, tmp_path / "run")
    done = detect_train(run, "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "log.jsonl").read_text())["val"]["AP"] is not None


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: 6 images or clips per step can't be shared evenly by 4"):
        World(0, 4).check_batch_size(6)


def test_a_world_of_one_needs_no_network() -> None:
    world, model = World(), torch.nn.Linear(1, 1)
    assert world.is_main_process
    assert world.wrap_ddp(model) is model
    assert world.reduce_mean({"loss": 2.0}) == {"loss": 2.0}
    assert world.broadcast("words") == "words"


def detect_train(run: Path, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detect", "train", str(run), f"train.processes={processes}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def configured(folder: Path, run: Path, **changes: dict[str, Any]) -> Path:
    """A run folder that holds only a configuration."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(tiny_config(folder, run, **changes)))
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("data"), train=16, val=6)


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs by two processes."""
    run = configured(data, tmp_path_factory.mktemp("runs") / "pair")
    done = detect_train(run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: ") == 1  # only one process prints
    return run


def test_two_processes_write_one_run(pair: Path) -> None:
    lines = [json.loads(line) for line in (pair / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16]  # 16 images in batches of 4, two each
    assert lines[-1]["val"]["AP"] is not None
    saved = load_checkpoint(pair / "last.pt")
    assert saved.epoch == 4
    assert all(np.isfinite(value.float().numpy()).all() for value in saved.weights.values())

    again = detect_train(pair)
    assert again.returncode == 2
    assert again.stderr.count("the folder already holds a run") == 1
    assert "Traceback" not in again.stderr
    assert detect_train(pair, "--resume").returncode == 0


def is_free(run: Path) -> bool:
    """Whether no training writes there any longer."""
    try:
        with RunLock(run) as lock:
            return lock.acquire()
    except ConfigError:
        return False


@pytest.mark.skipif(os.name != "posix", reason="kills the POSIX way")
def test_a_group_with_a_killed_process_ends_and_its_run_resumes_exactly(data: Path, tmp_path: Path, pair: Path) -> None:
    run = configured(data, tmp_path / "killed")
    command = [sys.executable, "-m", "detect", "train", str(run), "train.processes=2"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    starter = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **silent)
    deadline = time.monotonic() + 240
    while not (run / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(starter.pid, signal.SIGSTOP)  # else a fast machine finishes before they check for the launcher
    starter.kill()  # its processes get no signal
    starter.wait()
    time.sleep(1)  # longer than their interval between two checks
    os.killpg(starter.pid, signal.SIGCONT)
    while not is_free(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert load_checkpoint(run / "last.pt").epoch < 4
    done = detect_train(run, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same_run(run, pair)


_SPOILT = """
import math, os, sys
from detect.cli import main
from detect.models.roi_heads import CascadeRoIHeads as DetectionHeads
losses, calls = DetectionHeads.losses, []
def spoilt(self, *arguments):
    calls.append(1)
    found = losses(self, *arguments)
    bad = os.environ["RANK"] == "1" and len(calls) in (2, 3)
    return {**found, "loss_box_reg": found["loss_box_reg"] * math.nan} if bad else found
DetectionHeads.losses = spoilt
sys.exit(main(sys.argv[1:]))
"""


def test_a_bad_step_of_one_process_is_skipped_by_all(data: Path, tmp_path: Path) -> None:
    run = configured(data, tmp_path / "run")
    arguments = ["train", str(run), "train.epochs=1", "train.on_bad_step=skip", "augment.mosaic=0"]
    port = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(processes._free_port())}
    world = [
        subprocess.Popen(
            [sys.executable, "-c", _SPOILT, *arguments],
            cwd=ROOT,
            env={**os.environ, **port, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in world]
    assert [process.returncode for process in world] == [0, 0], outputs
    assert outputs[0].count("skipped a step: loss_box_reg is not finite in epoch 1, step") == 2
    (line,) = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert line["skipped"] == 2
    saved = torch.load(run / "bad_steps" / "epoch1_step2.pt")
    assert len(set(saved["files"])) == 4  # both shares of the batch


def test_the_failing_process_may_end_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nif [ "$RANK" = 0 ]; then exit 75; fi\nsleep 1\necho the cause >&2\nexit 2\n')
    program.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(program))
    assert processes.launch_processes(["train"], 2) == 2
    assert "the cause" in capsys.readouterr().err


def test_an_error_of_one_process_is_reported(tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    write_tiny(tmp_path, "val", images=4, seed=1)
    (tmp_path / "val" / "val_01.bmp").write_bytes((tmp_path / "val" / "val_01.bmp").read_bytes()[:2000])
    refused = detect_train(
        configured(tmp_path, tmp_path / "run")
    )  # the second process evaluates this image, the first doesn't
    assert refused.returncode == 2
    assert "val_01.bmp" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_batch_too_small_for_the_world_is_reported_once(data: Path, tmp_path: Path) -> None:
    refused = detect_train(configured(data, tmp_path / "odd", train={"batch_size": 3}))
    assert refused.returncode == 2
    assert refused.stderr.count("3 images or clips per step can't be shared evenly by 2 processes") == 1
