#!/usr/bin/env python3
"""Kill trainings at random moments, resume them, and hold what is left against a training that was never killed."""

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

_TIMES = ("images_per_s", "seconds")  # of the log: all else has to be equal
_MODEL = {
    "input_size": 64,
    "backbone": {"stem": 8, "widths": [8, 8, 16, 16], "depths": [0, 1, 0, 0]},
    "fpn": {"channels": 16},
    "anchors": {"per_level": 2},
    "rpn": {"batch_per_image": 32, "proposals_train": 40, "proposals_test": 20},
    "roi": {"pool": 3, "conv_width": 16, "fc_width": 32, "batch_per_image": 16, "dropout": 0.1},
}
_STEPS = 4  # an epoch: 12 images in batches of 3
_KINDS = {"step": 6, "validation": 4, "last.pt": 5, "best.pt": 2, "log.jsonl": 2, "beginning": 1}  # how often each


def _train(config: Config, moment: Moment | None, lasts: dict[str, float], threads: int, report: Connection) -> None:
    """What a process does: train to the end, or until it is killed."""
    torch.set_num_threads(threads)
    killer = Killer(moment, lasts, report)
    killer.watch()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        train(config, resume=True)
    report.send(killer.lasts)


class Trial:
    """Runs trainings in processes of their own; ``lasts`` is what the first, undisturbed one has measured."""

    def __init__(self, folder: Path, *, epochs: int, threads: int, fresh: bool) -> None:
        self.folder, self.epochs, self.threads = folder, epochs, threads
        forks = "fork" in multiprocessing.get_all_start_methods() and not fresh
        self._context = multiprocessing.get_context("fork" if forks else "spawn")
        self.lasts: dict[str, float] = {}

    def run(self, name: str, workers: int, moment: Moment | None) -> Any:
        """Begin or resume a training; gives what the process told last."""
        receiver, sender = self._context.Pipe(duplex=False)
        arguments = (self._config(name, workers), moment, dict(self.lasts), self.threads, sender)
        process = self._context.Process(target=_train, args=arguments)  # type: ignore[attr-defined]
        process.start()
        sender.close()
        process.join()
        told = receiver.recv() if receiver.poll() else None
        expected = -signal.SIGKILL if isinstance(told, str) else 0
        if process.exitcode != expected or told is None:
            raise SystemExit(f"{name}: a training ended with code {process.exitcode} by itself")
        return told

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
    """Of all that has to be equal in finished runs: weights and what training needs besides, log, best choice."""
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
    """All of a nested value, to the last bit, as bytes."""
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


def _moment(chance: random.Random, left: dict[str, int]) -> Moment:
    """One of the events that are left, of a kind drawn first."""
    kinds = [kind for kind in _KINDS if left[kind]]
    kind = chance.choices(kinds, [_KINDS[kind] for kind in kinds])[0]
    return Moment(kind, chance.randint(1, left[kind]), chance.random())


def _left(run: Path, epochs: int, improved: Sequence[int]) -> dict[str, int]:
    """How many events of each kind are still to come in a run, begun or not."""
    trained, judged = _done(run)
    return {
        "step": (epochs - trained) * _STEPS,
        "validation": epochs - judged,
        "last.pt": epochs - trained + epochs - judged,
        "best.pt": sum(epoch > judged for epoch in improved),
        "log.jsonl": epochs - judged,
        "beginning": 2 if trained else 3,
    }


def _done(run: Path) -> tuple[int, int]:
    """The last epoch that was trained and kept, and the last that was judged, too."""
    if not (run / "last.pt").exists():
        return 0, 0
    last = load_checkpoint(run / "last.pt")
    assert last.training is not None
    return last.epoch, last.epoch - ("unjudged" in last.training)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each kill; the exit code is 1 if any run differs from the one never killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/kill_and_resume.py --kills 20"
    )
    parser.add_argument("--kills", type=int, default=20, help="in all (default: %(default)s)")
    parser.add_argument("--per-run", type=int, default=2, help="kills that one run suffers (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of each run (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="by turns (default: 0 2)")
    parser.add_argument("--threads", type=int, default=1, help="of each training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start a new Python each time instead of forking: slow")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            detect(["sample", "--out", f"{folder}/steel", "--images", "18"])
            detect(["convert", f"{folder}/steel", "--out", folder, "--split", "train=1-2,val=3"])
        trial = Trial(Path(folder), epochs=args.epochs, threads=args.threads, fresh=args.fresh)
        return _kill_and_compare(trial, args)


def _kill_and_compare(trial: Trial, args: argparse.Namespace) -> int:
    chance, kills, equal, runs = random.Random(args.seed), 0, 0, 0
    trial.lasts = trial.run("unbroken", 0, None)
    unbroken, log = digests(trial.folder / "unbroken"), RunFolder(trial.folder / "unbroken").read_log()
    scores = [-1.0, *(line["val"]["AP50"] for line in log)]
    improved = [epoch for epoch in range(1, len(scores)) if scores[epoch] > max(scores[:epoch])]
    print(f"unbroken: {unbroken['choice']}, last {unbroken['last']}, best {unbroken['best']}, log {unbroken['log']}")
    print("| run | workers | killed | left | resumed to the end |\n| ---: | ---: | --- | --- | --- |")
    while kills < args.kills:
        runs += 1
        name, workers, rows = f"run{runs}", args.workers[runs % len(args.workers)], []
        run = trial.folder / name
        for _ in range(min(args.per_run, args.kills - kills)):
            told = trial.run(name, workers, _moment(chance, _left(run, args.epochs, improved)))
            if not isinstance(told, str):
                break  # the clock was too late for the last step
            trained, judged = _done(run)
            left = f"epoch {trained}{' unjudged' if judged < trained else ''}" if trained else "no checkpoint"
            rows.append(f"| {runs} | {workers} | {told} | {left} |")
            kills += 1
        trial.run(name, workers, None)
        found = digests(run)
        differing = [part for part in unbroken if found[part] != unbroken[part]]
        equal += not differing
        for row in rows:
            print(row, f"other {', '.join(differing)} |" if differing else "equal |", flush=True)
        shutil.rmtree(run)
    print(f"{kills} kills in {runs} runs: {equal} of {runs} ended as the one never killed")
    return int(equal < runs)


if __name__ == "__main__":
    sys.exit(main())
