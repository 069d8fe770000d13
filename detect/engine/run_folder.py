"""The run folder: its lock, start, resume, log and checkpoints, and the record of the environment."""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..config.loading import differing_keys, load_config, to_yaml
from ..config.schema import Config
from ..errors import CheckpointError, ConfigError, DataError
from ..fileio import PART_SUFFIX, fsync_file, name_os_errors, read_json, read_json_lines, sha256_of, write_text
from ..models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

_PACKAGES = ("surface-detect", "torch", "torchvision", "numpy", "pycocotools", "opencv-python-headless", "pillow")
_NUMERIC_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless")  # those that compute in a training


def read_environment(path: Path) -> dict[str, Any]:
    """Read environment.json; an empty dict if the file is missing or damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    types = {"resumed": list, "versions": dict, "machine": dict, "data_sha256": dict}
    return {key: value for key, value in content.items() if isinstance(value, types.get(key, object))}


def collect_environment(
    before: Mapping[str, Any], *, device: torch.device, precision: str, processes: int, data: Sequence[Path]
) -> dict[str, Any]:
    """Collect the content of environment.json.

    Args:
        before: the content so far of a resumed run, to which the time of resuming is added; empty for a new run.
        device, precision, processes: of the training.
        data: the label files.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "started": before.get("started", now),
        "resumed": [*before.get("resumed", []), now] if before else [],
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "processes": processes,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "precision": precision,
        "commit": _commit(),
        "data_sha256": {str(path): sha256_of(path) for path in data},
    }


def environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the changes between two environments that may change rounding, such as "torch 2.14.0 -> 2.15.0"."""
    compared = [("versions", key) for key in _NUMERIC_PACKAGES]
    compared += [("machine", key) for key in ("processor", "device", "threads", "processes")]
    pairs = [(key, before.get(section, {}).get(key), now[section][key]) for section, key in compared]
    pairs.append(("precision", before.get("precision"), now["precision"]))
    return [f"{key} {old} -> {new}" for key, old, new in pairs if old is not None and old != new]


def changed_labels(before: Mapping[str, Any]) -> Iterator[str]:
    """Yield the label files that have changed since the environment was written."""
    for path, digest in before.get("data_sha256", {}).items():
        if Path(path).is_file() and sha256_of(Path(path)) != digest:
            yield path


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of this code's checkout, with "+changes" if files differ from it; None if unknown."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=5)
        if top.returncode or Path(top.stdout.strip()) != here.parents[1]:
            return None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


LOCK_NAME = ".lock"
_RETRY_S = 0.1  # seconds; if the holder removes the file between opening and locking, a retry creates it again
_UNSUPPORTED_ERRNOS = {
    getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL") if hasattr(errno, name)
}


class RunLock:
    """Exclusive lock on a run folder; as a context manager it releases the lock at the end.

    If the process is killed, the operating system releases the lock at once, even while its loader processes still
    run. The file names the holder and is removed on release; a file left by a killed process locks nothing.

    Args:
        folder: the run folder; ``acquire`` locks it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        # A soft lock would remain after a killed process.
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False)

    def acquire(self) -> bool:
        """Lock the folder, which must exist; does nothing if it is already locked by this object.

        Returns:
            False if the file system has no locks; then the folder is not protected.

        Raises:
            ConfigError: another training holds the lock, or the folder can't be written to.
        """
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=_RETRY_S, poll_interval=_RETRY_S / 5)
        except Timeout:
            raise self._held_error() from None
        except NotImplementedError:
            return False
        except OSError as error:
            if error.errno in _UNSUPPORTED_ERRNOS:
                return False
            message = f"can't write there ({error.strerror})"
            raise ConfigError(message, where=self.path.parent, fix="choose another run.dir") from None
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
        with suppress(OSError):  # full disk: the folder is locked without the holder's name
            self.path.write_text(json.dumps(holder) + "\n", encoding="utf-8")
        return True

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock.is_locked:
            with suppress(OSError):  # Windows can't remove open files
                self.path.unlink()
            self._lock.release()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _held_error(self) -> ConfigError:
        try:
            holder = read_json(self.path)
        except (OSError, ValueError):  # the holder is still writing it
            holder = None
        if not isinstance(holder, dict):
            holder = {}
        who = f"process {holder['process']}" if "process" in holder else "another process"
        if "host" in holder and holder.get("process") != os.getpid():
            who += f" on {holder['host']}, since {holder.get('since')}"
        fix = "wait for it, stop it, or choose another folder with run.dir="
        return ConfigError(f"another training writes there ({who})", where=self.path.parent, fix=fix)


_MUTABLE_KEYS = (
    *("run.", "data.workers", "data.cache", "train.device", "train.tensorboard"),
    *(
        "train.on_bad_step",
        "train.max_loss_ratio",
        "train.max_consecutive_skips",
    ),  # may change on resuming after bad steps
)


class RunFolder:
    """Paths and files of one run.

    Attributes:
        dir: the folder.
        last, best: checkpoint files.
        log: log.jsonl, one line per epoch.
        config, environment: config.yaml and environment.json of the run.
        lock: must be held by the process that writes here.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.last, self.best, self.log = folder / "last.pt", folder / "best.pt", folder / "log.jsonl"
        self.config, self.environment = folder / "config.yaml", folder / "environment.json"
        self.lock = RunLock(folder)

    def check_free(self) -> None:
        """Check that the folder holds no run.

        Raises:
            ConfigError: there is a run already.
        """
        if self.last.exists():
            fix = "add --resume to continue it, or choose another folder with run.dir="
            raise ConfigError("the folder already holds a run", where=self.dir, fix=fix)
        if self.best.exists():
            fix = "move it away, or choose another folder with run.dir="
            raise ConfigError("the folder holds a best.pt, but no last.pt to resume from", where=self.dir, fix=fix)

    def acquire_lock(self) -> str | None:
        """Lock the folder, which must exist; returns a warning if the file system has no locks, else None.

        Raises:
            ConfigError: another training writes to the folder, or it is not writable.
        """
        if self.lock.acquire():
            return None
        return f"{self.dir}: this file system has no locks; make sure that no other training writes there"

    def start(self, config: Config) -> str | None:
        """Create and lock the folder and write the configuration; returns the warning of ``acquire_lock``.

        Raises:
            ConfigError: there is a run already, another training writes there, or the folder can't be created.
        """
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            warning = self.acquire_lock()
            self.check_free()
            self._tidy()
            self.environment.unlink(missing_ok=True)
            write_text(self.log, "", lasting=True)
            write_text(self.config, to_yaml(config), lasting=True)
        except OSError as error:
            message = f"can't write there ({error.strerror})"
            raise ConfigError(message, where=self.dir, fix="choose another run.dir") from None
        return warning

    def resume(self, config: Config) -> Checkpoint:
        """Load the last checkpoint and check that the run can be resumed from it.

        Raises:
            ConfigError: the configuration differs from that of the run's start.
            DataError: the labels have changed since the run's start.
            CheckpointError: there is no checkpoint, or it is made for inference only.
        """
        checkpoint = load_checkpoint(self.last)
        checkpoint.check_size()
        if checkpoint.training is None:
            raise CheckpointError("the checkpoint is made for inference only", where=self.last, fix="start a new run")
        changed = [key for key in differing_keys(config, load_config(self.config)) if not key.startswith(_MUTABLE_KEYS)]
        if changed:
            message = f"{', '.join(changed)} differ from what the run was started with"
            raise ConfigError(message, where=self.dir, fix="resume with the same values, or start a new run")
        for path in changed_labels(read_environment(self.environment)):
            raise DataError("the labels have changed since the run was started", where=path, fix="start a new run")
        return checkpoint

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Reset the folder to the state of its last checkpoint, after a killed process may have written further files.

        Log lines after the checkpoint's epoch are removed, and that epoch's own line too if it is not yet validated,
        because these epochs run again. best.pt is written if that epoch was the best and the process was killed before
        writing it. Unfinished files are removed.

        Raises:
            CheckpointError: the folder can't be written to.
        """
        assert checkpoint.training is not None
        logged = checkpoint.epoch - ("unjudged" in checkpoint.training)
        kept = [line for line in self.read_log() if line["epoch"] <= logged]
        with _explain_os_errors(self.log):
            self._tidy()
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept), lasting=True)
        was_best = checkpoint.training.get("best_epoch") == checkpoint.epoch
        if was_best and self._epoch_of_best() != checkpoint.epoch:
            save_checkpoint(self.best, replace(checkpoint, training=None))

    def append_log(self, line: dict[str, Any]) -> None:
        """Append the line of one epoch.

        Raises:
            CheckpointError: the disk is full or can't be written.
        """
        with _explain_os_errors(self.log), name_os_errors(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            fsync_file(file)  # the log must be on disk before the checkpoint is written

    def read_log(self) -> list[dict[str, Any]]:
        """Read the lines of all epochs; a line cut short by a crash is skipped, and its epoch is trained again."""
        return read_json_lines(self.log)

    def write_environment(
        self, *, device: torch.device, precision: str, processes: int, data: Sequence[Path]
    ) -> list[str]:
        """Write environment.json; returns the changes since the run last wrote it that may change rounding.

        Raises:
            CheckpointError: the disk is full or can't be written.
        """
        before = read_environment(self.environment)
        now = collect_environment(before, device=device, precision=precision, processes=processes, data=data)
        with _explain_os_errors(self.environment):
            write_text(self.environment, json.dumps(now, indent=2) + "\n", lasting=True)
        return environment_changes(before, now)

    def _epoch_of_best(self) -> int | None:
        try:
            return load_checkpoint(self.best).epoch
        except CheckpointError:  # none yet, or damaged
            return None

    def _tidy(self) -> None:
        """Remove the unfinished files of a killed process; requires the lock."""
        for path in self.dir.glob(f".*{PART_SUFFIX}"):
            path.unlink(missing_ok=True)


@contextmanager
def _explain_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "free some space or fix the permissions; --resume continues after the last checkpoint"
        raise CheckpointError(f"can't write it ({error.strerror})", where=path, fix=fix) from None
