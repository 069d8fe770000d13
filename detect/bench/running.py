"""A bench's runs, trained one after the other: finished ones skipped, interrupted ones resumed, failures noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch

from ..config import Config
from ..data import read_dataset
from ..engine import train
from ..engine.folder import RunFolder
from ..errors import DetectError
from ..evaluation import judge
from ..formats import coco
from ..formats.files import write_json
from ..inference import Predictor
from .plan import Plan, Run


class State(Enum):
    """How far a run is."""

    NEW = "not started"
    BEGUN = "unfinished"
    DONE = "finished"


def state_of(run: Run) -> State:
    """How far a run is, after a check that its folder holds just what is asked for.

    Raises:
        ConfigError: the run there was started with another configuration; names the keys.
        DataError: it was started with other labels.
        CheckpointError: what is there can't be read.
    """
    folder = RunFolder(run.dir)
    if not folder.last.exists():
        return State.NEW
    return State.DONE if folder.resume(run.config).epoch == run.config.train.epochs else State.BEGUN


def failure_of(run: Run) -> str | None:
    """Why the last attempt at a run failed; None if it did not."""
    try:
        return str(json.loads((run.dir / "failed.json").read_text("utf-8"))["reason"])
    except FileNotFoundError:
        return None


def train_runs(plan: Plan, *, say: Callable[[str], None]) -> list[Run]:
    """Train and judge whatever is not finished yet; a run that fails doesn't hold up the others.

    Args:
        plan: the runs; a folder of another configuration is refused before the first training.
        say: gets a line a run.

    Returns:
        The runs that failed, each with the reason in its ``failed.json``.

    Raises:
        DetectError: as ``state_of``.
    """
    states = {run.dir: state_of(run) for run in plan.runs}
    failed = []
    for i, run in enumerate(plan.runs, start=1):
        say(f"[{i}/{len(plan.runs)}] {run}: {_PLANNED[states[run.dir]]}")
        if states[run.dir] is State.DONE:
            continue
        for name in ("failed.json", "detections.json", "report.json"):
            (run.dir / name).unlink(missing_ok=True)
        reason = _train(run.config)
        if reason is None:
            judge_run(run)
        else:
            write_json(run.dir / "failed.json", {"reason": reason})
            say(f"{run} failed: {reason}")
            failed.append(run)
    return failed


_PLANNED = {State.NEW: "training", State.BEGUN: "resuming", State.DONE: "finished before"}


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
    predictor = Predictor.load(run.dir / "last.pt", device=run.config.train.device)
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
    except torch.OutOfMemoryError as error:
        return f"the device has too little memory ({str(error).partition('. ')[0]}); lower train.batch_size for all"
    return None
