"""``detect train``: train a detector as a YAML file says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .console import command, shown
from .processes import end_with_parent, is_alone, is_follower, run_together
from .verb import Verb

if TYPE_CHECKING:
    from ..config import Config


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file, or a run folder to use its config")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # without it, a missing CONFIG is reported as two missing arguments
        metavar="key=value",
        help="dotted keys over the file, such as train.epochs=20",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from the weights of a run, a checkpoint or released (train.init), and from its model section",
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run folder's last checkpoint stands")


def _run(args: argparse.Namespace) -> int:
    config = _load(args)
    if config.train.processes > 1 and is_alone():
        resume = ["--resume"] if args.resume else []
        return run_together(["train", str(args.config), *_overrides(args), *resume], config.train.processes)
    end_with_parent()
    from ..engine import train  # after the configuration is known to be right: torch takes seconds to load

    run_dir = train(config, resume=args.resume)
    if is_follower():
        return 0
    print(f"run: {shown(run_dir)}")
    if config.data.val is None:
        print(f"next: {command('evaluate', shown(run_dir), '--data', 'labels.json')}")
    else:
        print(f"next: {command('evaluate', shown(run_dir))}")
    return 0


def _load(args: argparse.Namespace) -> Config:
    from ..config import load_config

    overrides = _overrides(args)
    if args.config.is_dir():
        here = f"run.dir={json.dumps(str(args.config))}"  # the folder may have been moved since
        return load_config(args.config / "config.yaml", [here, *overrides])
    config = load_config(args.config, overrides)
    if config.train.init is None:
        return config
    from ..checkpoint import load_checkpoint

    initial = load_checkpoint(config.train.init)
    initial.check_size()
    return load_config(args.config, overrides, model=initial.detector.model)


def _overrides(args: argparse.Namespace) -> list[str]:
    return [*args.overrides, *([] if args.init is None else [f"train.init={json.dumps(str(args.init))}"])]


def _on_interrupt(args: argparse.Namespace) -> str:
    again = ["train", str(args.config), *_overrides(args)]
    if (_load(args).run.dir / "last.pt").exists():
        return f"go on with: {command(*again, '--resume')}"
    return f"there is no checkpoint yet; start over with: {command(*again)}"


TRAIN = Verb(
    summary="Train a detector as a YAML file says, from random weights or those of another one.",
    details=(
        "Writes the run folder (run.dir): the resolved configuration, the environment, a log line an epoch, and the\n"
        "checkpoints last.pt and best.pt. Whatever ends it, Ctrl-C or a kill, --resume goes on after the last epoch."
    ),
    examples=[
        "train configs/neu.yaml",
        "train configs/neu.yaml run.dir=runs/seed1 train.seed=1 train.epochs=80",
        "train configs/neu.yaml run.dir=runs/seed1 train.seed=1 train.epochs=80 --resume",
        "train configs/mine.yaml --init released",
    ],
    add_arguments=_add_arguments,
    run=_run,
    on_interrupt=_on_interrupt,
)
