"""The run folder: resolved configuration, environment, log, and the two checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import Checkpoint, load_checkpoint
from ..config import Config, differing_keys, load_config, to_yaml
from ..errors import CheckpointError, ConfigError, DataError
from ..formats.files import read_json_lines, write_text

_MAY_CHANGE = ("run.", "data.workers", "data.cache", "train.device", "train.tensorboard")
_PACKAGES = ("surface-detect", "torch", "torchvision", "numpy", "pycocotools", "opencv-python-headless", "pillow")


class RunFolder:
    """Paths and files of one run.

    Attributes:
        dir: the folder.
        last, best: checkpoint files.
        log: log.jsonl, one line an epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.last, self.best, self.log = folder / "last.pt", folder / "best.pt", folder / "log.jsonl"
        self.config, self.environment = folder / "config.yaml", folder / "environment.json"

    def check_free(self) -> None:
        """Refuse a folder that holds a run.

        Raises:
            ConfigError: there is a run already.
        """
        if self.last.exists():
            fix = "add --resume to go on with it, or choose another folder with run.dir="
            raise ConfigError("the folder already holds a run", where=self.dir, fix=fix)

    def start(self, config: Config) -> None:
        """Make the folder and write the configuration into it.

        Raises:
            ConfigError: there is a run already, or the folder can't be made.
        """
        self.check_free()
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            self.best.unlink(missing_ok=True)
            self.environment.unlink(missing_ok=True)
            self.log.write_text("")
            write_text(self.config, to_yaml(config))
        except OSError as error:
            raise ConfigError(
                f"can't write there ({error.strerror})", where=self.dir, fix="choose another run.dir"
            ) from None

    def resume(self, config: Config) -> Checkpoint:
        """The last checkpoint.

        Raises:
            ConfigError: the configuration differs from the one that the run was started with.
            DataError: the labels do.
            CheckpointError: no checkpoint, or one made for inference only.
        """
        checkpoint = load_checkpoint(self.last)
        if checkpoint.training is None:
            raise CheckpointError("the checkpoint is made for inference only", where=self.last, fix="start a new run")
        changed = [key for key in differing_keys(config, load_config(self.config)) if not key.startswith(_MAY_CHANGE)]
        if changed:
            found = f"{', '.join(changed)} differ from what the run was started with"
            raise ConfigError(found, where=self.dir, fix="resume with the same values, or start a new run")
        for path, digest in self._read_environment().get("data_sha256", {}).items():
            if Path(path).is_file() and _sha256(Path(path)) != digest:
                raise DataError("the labels have changed since the run was started", where=path, fix="start a new run")
        return checkpoint

    def cut_log(self, epoch: int) -> None:
        """Drop what the log tells beyond ``epoch``: it will be trained again."""
        kept = [line for line in self.read_log() if line["epoch"] <= epoch]
        write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def append_log(self, line: dict[str, Any]) -> None:
        """Add one epoch."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """All epochs so far; a line cut short by a crash is passed over, its epoch is trained again."""
        return read_json_lines(self.log)

    def write_environment(self, *, device: torch.device, precision: str, processes: int, data: Sequence[Path]) -> None:
        """Versions, machine, commit and the digests of the label files; a resumed run adds when it went on."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        before = self._read_environment()
        content = {
            "started": before.get("started", now),
            "resumed": [*before.get("resumed", []), now] if before else [],
            "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
            "machine": {
                "system": platform.platform(),
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "processes": processes,
                "threads": torch.get_num_threads(),
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            },
            "precision": precision,
            "commit": _commit(),
            "data_sha256": {str(path): _sha256(path) for path in data},
        }
        write_text(self.environment, json.dumps(content, indent=2) + "\n")

    def _read_environment(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this code lies in, "+changes" if files differ from it."""
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
