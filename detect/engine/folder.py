"""The run folder: who may write there, and how it is begun, gone on with and read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ..config import Config, differing_keys, load_config, to_yaml
from ..errors import CheckpointError, ConfigError, DataError
from ..formats.files import read_json_lines, write_text
from ..whole import PART, flush_to_disk, naming
from .environment import changed_labels, differences, environment, read_environment
from .lock import RunLock

_MAY_CHANGE = (
    *("run.", "data.workers", "data.cache", "train.device", "train.tensorboard"),
    *("train.on_bad_step", "train.absurd_loss", "train.skips_in_a_row"),  # what a stopped run is resumed with
)


class RunFolder:
    """Paths and files of one run.

    Attributes:
        dir: the folder.
        last, best: checkpoint files.
        log: log.jsonl, one line an epoch.
        config, environment: what the run was started with.
        lock: to be held by who writes here.
    """

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.last, self.best, self.log = folder / "last.pt", folder / "best.pt", folder / "log.jsonl"
        self.config, self.environment = folder / "config.yaml", folder / "environment.json"
        self.lock = RunLock(folder)

    def check_free(self) -> None:
        """Refuse a folder that holds a run.

        Raises:
            ConfigError: there is a run already.
        """
        if self.last.exists():
            fix = "add --resume to go on with it, or choose another folder with run.dir="
            raise ConfigError("the folder already holds a run", where=self.dir, fix=fix)
        if self.best.exists():
            fix = "move it away, or choose another folder with run.dir="
            raise ConfigError("the folder holds a best.pt, and no last.pt to go on from", where=self.dir, fix=fix)

    def take(self) -> str | None:
        """Lock the folder, which exists; gives a sentence if the file system can't.

        Raises:
            ConfigError: another training writes there, or nobody can.
        """
        if self.lock.take():
            return None
        return f"{self.dir}: this file system has no locks; make sure that no other training writes there"

    def start(self, config: Config) -> str | None:
        """Make and lock the folder and write the configuration into it; gives what ``take`` does.

        Raises:
            ConfigError: there is a run already, another training writes there, or the folder can't be made.
        """
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            unguarded = self.take()
            self.check_free()
            self._tidy()
            self.environment.unlink(missing_ok=True)
            write_text(self.log, "", lasting=True)
            write_text(self.config, to_yaml(config), lasting=True)
        except OSError as error:
            found = f"can't write there ({error.strerror})"
            raise ConfigError(found, where=self.dir, fix="choose another run.dir") from None
        return unguarded

    def resume(self, config: Config) -> Checkpoint:
        """The last checkpoint.

        Raises:
            ConfigError: the configuration differs from the one that the run was started with.
            DataError: the labels do.
            CheckpointError: no checkpoint, or one made for inference only.
        """
        checkpoint = load_checkpoint(self.last)
        checkpoint.check_size()
        if checkpoint.training is None:
            raise CheckpointError("the checkpoint is made for inference only", where=self.last, fix="start a new run")
        changed = [key for key in differing_keys(config, load_config(self.config)) if not key.startswith(_MAY_CHANGE)]
        if changed:
            found = f"{', '.join(changed)} differ from what the run was started with"
            raise ConfigError(found, where=self.dir, fix="resume with the same values, or start a new run")
        for path in changed_labels(read_environment(self.environment)):
            raise DataError("the labels have changed since the run was started", where=path, fix="start a new run")
        return checkpoint

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Bring the folder to where its last checkpoint stands, whatever a killed process had begun beyond it.

        The log ends with the checkpoint's epoch, or the one before if that is still to be judged, as what comes after
        will be done again; best.pt is written anew if that epoch was the best and the end came before it was kept;
        unfinished files go.

        Raises:
            CheckpointError: the folder can't be written to.
        """
        assert checkpoint.training is not None
        logged = checkpoint.epoch - ("unjudged" in checkpoint.training)
        kept = [line for line in self.read_log() if line["epoch"] <= logged]
        with _told(self.log):
            self._tidy()
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept), lasting=True)
        was_best = checkpoint.training.get("best_epoch") == checkpoint.epoch
        if was_best and self._epoch_of_best() != checkpoint.epoch:
            save_checkpoint(self.best, replace(checkpoint, training=None))

    def append_log(self, line: dict[str, Any]) -> None:
        """Add one epoch.

        Raises:
            CheckpointError: the disk is full or can't be written.
        """
        with _told(self.log), naming(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            flush_to_disk(file)  # before the checkpoint, which is nothing without its log

    def read_log(self) -> list[dict[str, Any]]:
        """All epochs so far; a line cut short by a crash is passed over, its epoch is trained again."""
        return read_json_lines(self.log)

    def write_environment(
        self, *, device: torch.device, precision: str, processes: int, data: Sequence[Path]
    ) -> list[str]:
        """Write environment.json; gives what differs from where the run was before and may move the last bits of sums.

        Raises:
            CheckpointError: the disk is full or can't be written.
        """
        before = read_environment(self.environment)
        now = environment(before, device=device, precision=precision, processes=processes, data=data)
        with _told(self.environment):
            write_text(self.environment, json.dumps(now, indent=2) + "\n", lasting=True)
        return differences(before, now)

    def _epoch_of_best(self) -> int | None:
        try:
            return load_checkpoint(self.best).epoch
        except CheckpointError:  # none yet, or damaged
            return None

    def _tidy(self) -> None:
        """Remove what a killed process was writing; only for who holds the lock."""
        for path in self.dir.glob(f".*{PART}"):
            path.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "free some space or mend the permissions; --resume goes on after the last checkpoint"
        raise CheckpointError(f"can't write it ({error.strerror})", where=path, fix=fix) from None
