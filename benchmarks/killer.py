"""Kills its own process with SIGKILL at a given moment of a training, for kill_and_resume.py."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

from detect import fileio
from detect.engine import run_folder as folders
from detect.engine.data import Validator
from detect.engine.steps import Stepper
from detect.models import checkpoint as checkpoints

_WRITTEN, _RENAMED = 0.7, 0.85  # shares of a write: end of writing, end of renaming; then the folder is flushed


@dataclass(frozen=True)
class Moment:
    """When to kill a process: after ``share`` (0 to 1) of the ``number``-th event of a kind since its start."""

    kind: str
    number: int
    share: float


class Killer:
    """Wraps the events of a training in its own process, and kills the process with SIGKILL at one moment.

    A step or a validation is interrupted by a timer, a write after a number of its pieces. What was running is sent to
    ``report``. Without a moment, ``durations`` are measured per kind of event, in seconds or in pieces written.
    """

    def __init__(self, moment: Moment | None, durations: dict[str, float], report: Connection) -> None:
        self.moment, self.durations, self.report = moment, durations, report
        self.counts: dict[str, int] = {}
        self.doing = "between steps"
        self._renaming = ""  # kill after renaming this file

    def install(self) -> None:
        """Wrap the parts of the training in this process."""
        self._wrap_timed(Stepper, "step", "step")
        self._wrap_timed(Validator, "__call__", "validation")
        for module in (checkpoints, fileio):
            module.atomic_write = self._wrapped_write(module.atomic_write)
        self._wrap_log()
        self._wrap_flush()

    def _due(self, kind: str) -> bool:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.moment is not None and (self.moment.kind, self.moment.number) == (kind, self.counts[kind])

    def _kill(self, doing: str) -> None:
        self.report.send(doing)
        os.kill(os.getpid(), signal.SIGKILL)

    def _wrap_timed(self, owner: type, method: str, kind: str) -> None:
        original = getattr(owner, method)

        def timed(*arguments: Any, **more: Any) -> Any:
            if self._due(kind):
                assert self.moment is not None
                clock = threading.Timer(self.moment.share * self.durations[kind], lambda: self._kill(self.doing))
                clock.daemon = True
                clock.start()
            self.doing, started = f"in a {kind}", time.perf_counter()
            result = original(*arguments, **more)
            self.doing = f"after a {kind}"
            if self.moment is None:
                self.durations[kind] = max(self.durations.get(kind, 0), time.perf_counter() - started)
            return result

        setattr(owner, method, timed)

    def _wrapped_write(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def watched(path: Path, **options: Any) -> Iterator[Any]:
            kind = path.name if path.suffix == ".pt" else "beginning"
            due = self._due(kind)
            with original(path, **options) as file:
                pieces = _Pieces(file)
                if due:
                    assert self.moment is not None
                    total = int(self.durations.get(kind, 1))
                    stop = int(self.moment.share / _WRITTEN * total)
                    message = f"{path.name}: {stop} of {total} pieces written, and half of the next"
                    pieces.ends_at = (stop, lambda: self._kill(message))
                    self._renaming = path.name if self.moment.share > _RENAMED else ""
                yield pieces
                if self.moment is None:
                    self.durations[kind] = pieces.count
                elif due and not self._renaming:
                    self._kill(f"{path.name}: written, not renamed")

        return watched

    def _wrap_flush(self) -> None:
        flush = fileio._fsync_folder

        def watched(folder: Path) -> None:
            if self._renaming:
                self._kill(f"{self._renaming}: renamed, its folder not flushed")
            flush(folder)

        fileio._fsync_folder = watched

    def _wrap_log(self) -> None:
        append = folders.RunFolder.append_log

        def watched(folder: Any, line: dict[str, Any]) -> None:
            if not self._due("log.jsonl"):
                return append(folder, line)
            assert self.moment is not None
            if self.moment.share < 0.5:
                with folder.log.open("a") as file:
                    file.write(json.dumps(line)[: int(self.moment.share * 2 * len(json.dumps(line)))])
                self._kill("log.jsonl: a part of a line written")
            append(folder, line)
            return self._kill("log.jsonl: written, no checkpoint yet")

        folders.RunFolder.append_log = watched  # type: ignore[method-assign]


class _Pieces:
    """A file that counts the pieces written, and can call a function in the middle of a piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count = file, 0
        self.ends_at: tuple[int, Callable[[], None]] | None = None

    def write(self, data: Any) -> int:
        if self.ends_at is not None and self.count == self.ends_at[0]:
            self._file.write(memoryview(data)[: len(data) // 2])
            self._file.flush()
            self.ends_at[1]()
        self.count += 1
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
