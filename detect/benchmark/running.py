"""A bench's runs, trained alone or some at a time: finished ones skipped, interrupted ones resumed, failures noted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..config.schema import Config
from ..data.dataset import read_dataset
from ..datasets import coco
from ..engine.run_folder import RunFolder
from ..engine.trainer import train
from ..errors import DetectError
from ..evaluation.summary import judge
from ..fileio import write_json
from ..inference.predictor import Predictor
from .plan import Plan, Run


class RunState(Enum):
    """How far a run is."""

    NEW = "not started"
    BEGUN = "unfinished"
    DONE = "finished"


def state_of(run: Run) -> RunState:
    """How far a run is, after a check that its folder holds just what is asked for.

    Raises:
        ConfigError: the run there was started with another configuration; names the keys.
        DataError: it was started with other labels.
        CheckpointError: what is there can't be read.
    """
    folder = RunFolder(run.dir)
    if not folder.last.exists():
        return RunState.NEW
    return RunState.DONE if folder.resume(run.config).epoch == run.config.train.epochs else RunState.BEGUN


def failure_of(run: Run) -> str | None:
    """Why the last attempt at a run failed; None if it did not."""
    try:
        return str(json.loads((run.dir / "failed.json").read_text("utf-8"))["reason"])
    except FileNotFoundError:
        return None


def train_runs(plan: Plan, *, say: Callable[[str], None], jobs: int = 1) -> list[Run]:
    """Train and judge whatever is not finished yet; a run that fails doesn't hold up the others.

    Args:
        plan: the runs; a folder of another configuration is refused before the first training.
        say: gets a line a run.
        jobs: how many runs train at once, each in a process with its share of the cores. What they print goes to
            ``output.txt`` in their folders, unless there is but one job.

    Returns:
        The runs that failed, each with the reason in its ``failed.json``.

    Raises:
        DetectError: as ``state_of``.
    """
    states = {run.dir: state_of(run) for run in plan.runs}
    failed, todo = [], []
    for i, run in enumerate(plan.runs, start=1):
        if states[run.dir] is RunState.DONE:
            say(f"[{i}/{len(plan.runs)}] {run}: finished before")
            continue
        for name in ("failed.json", "detections.json", "report.json"):
            (run.dir / name).unlink(missing_ok=True)
        todo.append((f"[{i}/{len(plan.runs)}] {run}", run))
    for title, run, reason in _trained(todo, states, jobs, say):
        if reason is None:
            say(f"{title}: judging")
            judge_run(run)
        else:
            write_json(run.dir / "failed.json", {"reason": reason})
            say(f"{title} failed: {reason}")
            failed.append(run)
    return failed


_Titled = tuple[str, Run]


def _trained(
    todo: Sequence[_Titled], states: Mapping[Path, RunState], jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Run, str | None]]:
    """Each run once it has ended, with the reason if it failed."""
    if jobs == 1:
        for title, run in todo:
            say(f"{title}: {_PLANNED[states[run.dir]]}")
            yield title, run, _train(run.config)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        try:
            begun = {pool.submit(_train_in_subprocess, run.config): (title, run) for title, run in todo}
            say(f"training {len(todo)} runs, {jobs} at a time; what they print is in output.txt of their folders")
            for ended in as_completed(begun):
                yield *begun[ended], ended.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _train_in_subprocess(config: Config) -> str | None:
    """As ``_train``, in a process of its own."""
    config.run.dir.mkdir(parents=True, exist_ok=True)
    with (config.run.dir / "output.txt").open("a", encoding="utf-8") as output, redirect_stdout(output):
        return _train(config)


_PLANNED = {RunState.NEW: "training", RunState.BEGUN: "resuming"}


def judge_run(run: Run) -> list[dict[str, Any]]:
    """A finished run's COCO results on its validation part, kept beside it with their report.

    They are those of the averaged weights after the last epoch: choosing an epoch by its score would favour systems
    whose score is noisy.
    """
    kept = run.dir / "detections.json"
    if kept.exists():
        found: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))
        return found
    val = run.config.data.val
    assert val is not None
    predictor = Predictor.load(run.dir / "last.pt", device=run.config.train.device, calibrated=False)
    dataset, truth = read_dataset(val, role="data.val"), coco.load(val)
    judgement = judge(truth, coco.in_ids_of(truth, predictor.detect_dataset(dataset, progress=True), dataset))
    meta = {"weights": str(predictor.weights_path), "epoch": predictor.epoch, "data": str(val)}
    write_json(run.dir / "report.json", {**judgement.summary, "meta": meta}, indent=1)
    write_json(kept, judgement.detections)
    return judgement.detections


def _train(config: Config) -> str | None:
    """Why it failed, if it did."""
    try:
        train(config, resume=True)
    except DetectError as error:
        return str(error)
    return None
