#!/usr/bin/env python3
"""Kill trainings at random moments, resume them, and compare the results with an uninterrupted training."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from detect.cli import main as detect
from detect.config.loading import parse_config
from detect.config.schema import Config
from detect.engine.run_folder import RunFolder
from detect.engine.trainer import train
from detect.models.checkpoint import load_checkpoint
from killer import Killer, Moment

_TIMES = ("images_per_s", "seconds")  # log keys that may differ; all others must be equal
_MODEL = {
    "input_size": 64,
    "backbone": {"stem": 8, "widths": [8, 8, 16, 16], "depths": [0, 1, 0, 0]},
    "fpn": {"channels": 16},
    "anchors": {"per_level": 2},
    "rpn": {"batch_per_image": 32, "proposals_train": 40, "proposals_test": 20},
    "roi": {"pool": 3, "conv_width": 16, "fc_width": 32, "batch_per_image": 16, "dropout": 0.1},
}
_STEPS = 4  # per epoch: 12 images in batches of 3
_KINDS = {
    "step": 6,
    "validation": 4,
    "last.pt": 5,
    "best.pt": 2,
    "log.jsonl": 2,
    "beginning": 1,
}  # relative frequency of each kind


def _train(
    config: Config, moment: Moment | None, durations: dict[str, float], threads: int, report: Connection
) -> None:
    """Train in a child process to the end, or until the process is killed."""
    torch.set_num_threads(threads)
    killer = Killer(moment, durations, report)
    killer.install()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        train(config, resume=True)
    report.send(killer.durations)


class Trial:
    """Runs trainings in child processes; ``durations`` are measured in the first, uninterrupted training."""

    def __init__(self, folder: Path, *, epochs: int, threads: int, fresh: bool) -> None:
        self.folder, self.epochs, self.threads = folder, epochs, threads
        forks = "fork" in multiprocessing.get_all_start_methods() and not fresh
        self._context = multiprocessing.get_context("fork" if forks else "spawn")
        self.durations: dict[str, float] = {}

    def run(self, name: str, workers: int, moment: Moment | None) -> Any:
        """Start or resume a training; the last message of its process."""
        receiver, sender = self._context.Pipe(duplex=False)
        arguments = (self._config(name, workers), moment, dict(self.durations), self.threads, sender)
        process = self._context.Process(target=_train, args=arguments)  # type: ignore[attr-defined]
        process.start()
        sender.close()
        process.join()
        message = receiver.recv() if receiver.poll() else None
        expected = -signal.SIGKILL if isinstance(message, str) else 0
        if process.exitcode != expected or message is None:
            raise SystemExit(f"{name}: a training ended unexpectedly with code {process.exitcode}")
        return message

    def _config(self, name: str, workers: int) -> Config:
        schedule = {"epochs": self.epochs, "batch_size": 3, "lr": 5e-3, "warmup_steps": 2, "val_every": 1, "seed": 3}
        return parse_config(
            {
                "run": {"dir": self.folder / name},
                "data": {"train": self.folder / "train.json", "val": self.folder / "val.json", "workers": workers},
                "model": _MODEL,
                "train": {**schedule, "device": "cpu", "precision": "float32"},
                "augment": {"mosaic": 0.5, "mosaic_off_epochs": 1},
            }
        )


def digests(run: Path) -> dict[str, str]:
    """Digests of everything that must be equal in finished runs: checkpoints, log, best epoch, file names."""
    last, best = (torch.load(run / name, weights_only=True) for name in ("last.pt", "best.pt"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "last": _digest(last),
        "best": _digest(best),
        "log": _digest([{key: value for key, value in line.items() if key not in _TIMES} for line in log]),
        "choice": f"epoch {best['epoch']}, AP50 {best['metrics']['AP50']:.4f}",
        "files": _digest(sorted(path.name for path in run.iterdir())),
    }


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for each in _plain(value):
        digest.update(each)
    return digest.hexdigest()[:12]


def _plain(value: Any) -> Iterator[bytes]:
    """All content of a nested value as bytes, bit for bit."""
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{list(value.shape)}".encode()
        yield value.contiguous().numpy().tobytes()
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _plain(value[key])
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)} of".encode()
        for each in value:
            yield from _plain(each)
    else:
        yield repr(value).encode()


def _moment(rng: random.Random, remaining: dict[str, int]) -> Moment:
    """A random moment: first the kind of event, then one of its remaining events."""
    kinds = [kind for kind in _KINDS if remaining[kind]]
    kind = rng.choices(kinds, [_KINDS[kind] for kind in kinds])[0]
    return Moment(kind, rng.randint(1, remaining[kind]), rng.random())


def _remaining_events(run: Path, epochs: int, improved: Sequence[int]) -> dict[str, int]:
    """Number of events per kind until the end of a run."""
    trained, evaluated = _finished_epochs(run)
    return {
        "step": (epochs - trained) * _STEPS,
        "validation": epochs - evaluated,
        "last.pt": epochs - trained + epochs - evaluated,
        "best.pt": sum(epoch > evaluated for epoch in improved),
        "log.jsonl": epochs - evaluated,
        "beginning": 2 if trained else 3,
    }


def _finished_epochs(run: Path) -> tuple[int, int]:
    """Last epoch that was trained and saved, and last epoch that was also evaluated."""
    if not (run / "last.pt").exists():
        return 0, 0
    last = load_checkpoint(run / "last.pt")
    assert last.training is not None
    return last.epoch, last.epoch - ("unjudged" in last.training)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row per kill; the exit code is 1 if a run differs from the uninterrupted one."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/kill_and_resume.py --kills 20"
    )
    parser.add_argument("--kills", type=int, default=20, help="total number of kills (default: %(default)s)")
    parser.add_argument("--per-run", type=int, default=2, help="kills per run (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per run (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 2], help="loader processes, in turn (default: 0 2)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the moments (default: %(default)s)")
    parser.add_argument(
        "--fresh", action="store_true", help="start a new Python per training instead of forking (slow)"
    )
    args = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            detect(["sample", "--out", f"{folder}/steel", "--images", "18"])
            detect(["convert", f"{folder}/steel", "--out", folder, "--split", "train=1-2,val=3"])
        trial = Trial(Path(folder), epochs=args.epochs, threads=args.threads, fresh=args.fresh)
        return _kill_and_compare(trial, args)


def _kill_and_compare(trial: Trial, args: argparse.Namespace) -> int:
    rng, kills, equal, runs = random.Random(args.seed), 0, 0, 0
    trial.durations = trial.run("uninterrupted", 0, None)
    uninterrupted, log = digests(trial.folder / "uninterrupted"), RunFolder(trial.folder / "uninterrupted").read_log()
    scores = [-1.0, *(line["val"]["AP50"] for line in log)]
    improved = [epoch for epoch in range(1, len(scores)) if scores[epoch] > max(scores[:epoch])]
    digest_text = ", ".join(f"{part} {uninterrupted[part]}" for part in ("last", "best", "log"))
    print(f"uninterrupted: {uninterrupted['choice']}, {digest_text}")
    print("| run | workers | killed | saved | after resuming |\n| ---: | ---: | --- | --- | --- |")
    while kills < args.kills:
        runs += 1
        name, workers, rows = f"run{runs}", args.workers[runs % len(args.workers)], []
        run = trial.folder / name
        for _ in range(min(args.per_run, args.kills - kills)):
            killed = trial.run(name, workers, _moment(rng, _remaining_events(run, args.epochs, improved)))
            if not isinstance(killed, str):
                break  # the training ended before the timer
            trained, evaluated = _finished_epochs(run)
            saved = f"epoch {trained}{' not evaluated' if evaluated < trained else ''}" if trained else "no checkpoint"
            rows.append(f"| {runs} | {workers} | {killed} | {saved} |")
            kills += 1
        trial.run(name, workers, None)
        resumed = digests(run)
        differing = [part for part in uninterrupted if resumed[part] != uninterrupted[part]]
        equal += not differing
        for row in rows:
            print(row, f"different {', '.join(differing)} |" if differing else "equal |", flush=True)
        shutil.rmtree(run)
    print(f"{kills} kills in {runs} runs: {equal} of {runs} are equal to the uninterrupted one")
    return int(equal < runs)


if __name__ == "__main__":
    sys.exit(main())
