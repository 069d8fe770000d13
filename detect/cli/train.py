"""``detect train``: train a detector from a YAML configuration, in one process or several."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .common import INTERRUPTED_EXIT, LOST_EXIT, Verb, command, display_path

if TYPE_CHECKING:
    from ..config.schema import Config

_POLL_S = 0.1
_WATCH_S = 0.5
_GRACE_S = 5
_SECONDARY_EXITS = (None, 0, LOST_EXIT)  # still running, succeeded, or lost another process
_PARENT = "DETECT_PARENT"  # environment variable with the process id of the parent


def is_single_process() -> bool:
    """Whether this process was started neither by torchrun nor by ``launch_processes``."""
    return "RANK" not in os.environ


def is_worker_process() -> bool:
    """Whether another process of the group prints."""
    return os.environ.get("RANK", "0") != "0"


def launch_processes(arguments: Sequence[str], count: int) -> int:
    """Run ``detect`` with these arguments in ``count`` processes, sharing this machine's cores.

    They find each other by the same environment variables as under torchrun. Only the output of rank 0 is shown, unless
    another process fails by itself and rank 0 only reports its loss. When one fails or on Ctrl-C, all end.

    Returns:
        The exit code of the first process that fails by itself, 0 if none does.
    """
    threads = str(max(1, (os.cpu_count() or 1) // count))
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, "-m", "detect", *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        world = []
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), _PARENT: str(os.getpid())}
            environment = {"OMP_NUM_THREADS": threads, **os.environ, **shared, **own}
            out, err = (None, None) if rank == 0 else (subprocess.DEVNULL, errors)
            world.append(subprocess.Popen(command, env=environment, stdout=out, stderr=err))
        try:
            code = _first_failure(world)
            first = _ended(world[0]) if code else 0
            codes = _primary_exit_codes(world)
        except KeyboardInterrupt:  # the terminal sends SIGINT to all, and rank 0 prints how to resume
            for process in world:
                if _ended(process) is None:
                    process.send_signal(signal.SIGINT)
                process.wait()
            return INTERRUPTED_EXIT
        finally:
            for process in world:
                process.kill()
                process.wait()
        if code and first in _SECONDARY_EXITS:
            errors.seek(0)
            sys.stderr.write(errors.read())
        return next((each for each in codes if each not in _SECONDARY_EXITS), code)


def exit_with_parent() -> None:
    """End a process of ``launch_processes`` soon after its parent was killed, instead of training on unnoticed."""
    parent = os.environ.get(_PARENT)
    if parent is None or os.name != "posix":  # elsewhere a process keeps its parent's id for ever
        return

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_WATCH_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _first_failure(world: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have succeeded or one has failed."""
    while True:
        codes = [process.poll() for process in world]
        if any(codes) or all(code == 0 for code in codes):
            return next((code for code in codes if code), 0)
        time.sleep(_POLL_S)


def _primary_exit_codes(world: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes, after a short wait for the process that caused the loss: it may end a moment later."""
    deadline = time.monotonic() + _GRACE_S
    while True:
        codes = [process.poll() for process in world]
        has_cause = any(code not in _SECONDARY_EXITS for code in codes)
        if has_cause or None not in codes or time.monotonic() > deadline:
            return codes
        time.sleep(_POLL_S)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that is about to end; None if it keeps running."""
    try:
        return process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file, or a run folder to use its config")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # without it, a missing CONFIG is reported as two missing arguments
        metavar="key=value",
        help="dotted keys that override the file, such as train.epochs=20",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from the weights of a run, a checkpoint or released (train.init), and from its model section",
    )
    parser.add_argument("--resume", action="store_true", help="resume from the last checkpoint of the run folder")


def _run(args: argparse.Namespace) -> int:
    config = _load(args)
    if config.train.processes > 1 and is_single_process():
        resume = ["--resume"] if args.resume else []
        return launch_processes(["train", str(args.config), *_overrides(args), *resume], config.train.processes)
    exit_with_parent()
    from ..engine.trainer import train  # after the check of the configuration, as torch takes seconds to load

    run_dir = train(config, resume=args.resume)
    if is_worker_process():
        return 0
    print(f"run: {display_path(run_dir)}")
    if config.data.val is None:
        print(f"next: {command('evaluate', display_path(run_dir), '--data', 'labels.json')}")
    else:
        print(f"next: {command('evaluate', display_path(run_dir))}")
    return 0


def _load(args: argparse.Namespace) -> Config:
    from ..config.loading import load_config

    overrides = _overrides(args)
    if args.config.is_dir():
        here = f"run.dir={json.dumps(str(args.config))}"  # the folder may have been moved since
        return load_config(args.config / "config.yaml", [here, *overrides])
    config = load_config(args.config, overrides)
    if config.train.init is None:
        return config
    from ..models.checkpoint import load_checkpoint

    initial = load_checkpoint(config.train.init)
    initial.check_size()
    return load_config(args.config, overrides, model=initial.detector.model)


def _overrides(args: argparse.Namespace) -> list[str]:
    return [*args.overrides, *([] if args.init is None else [f"train.init={json.dumps(str(args.init))}"])]


def _on_interrupt(args: argparse.Namespace) -> str:
    again = ["train", str(args.config), *_overrides(args)]
    if (_load(args).run.dir / "last.pt").exists():
        return f"resume with: {command(*again, '--resume')}"
    return f"there is no checkpoint yet; start over with: {command(*again)}"


TRAIN = Verb(
    summary="Train a detector from a YAML configuration, from random weights or those of another detector.",
    details=(
        "Writes the run folder (run.dir): the resolved configuration, the environment, a log with one line per epoch,\n"
        "and the checkpoints last.pt and best.pt. After Ctrl-C or a kill, --resume continues after the last epoch."
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
