"""Ends the process that it is in with SIGKILL at one moment of a training: for kill_and_resume.py."""

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

from detect import fileio as files
from detect import fileio as whole
from detect.engine import run_folder as folders
from detect.engine.data import Validator
from detect.engine.steps import Stepper
from detect.models import checkpoint as checkpoints

_IN_WRITING, _TILL_RENAMED = 0.7, 0.85  # shares of a write: its bytes, then until its name, then until the disk has it


@dataclass(frozen=True)
class Moment:
    """When a process is to die: ``share`` of the way through the ``number``-th event of a kind since its start."""

    kind: str
    number: int
    share: float


class Killer:
    """Sees a training's events from inside its process, and ends it with SIGKILL at one moment.

    A step or a judgement is cut off by a clock, a write after so many of its bytes. ``report`` is told what was going
    on. Without a moment it tells how long each kind of event lasts, in seconds or in pieces written.
    """

    def __init__(self, moment: Moment | None, lasts: dict[str, float], report: Connection) -> None:
        self.moment, self.lasts, self.report = moment, lasts, report
        self.counts: dict[str, int] = {}
        self.doing = "between steps"
        self._renaming = ""  # the file after whose renaming to die

    def watch(self) -> None:
        """Put itself around the parts of this process's training."""
        self._clocked(Stepper, "step", "step")
        self._clocked(Validator, "__call__", "validation")
        for module in (checkpoints, files):
            module.atomic_write = self._written(module.atomic_write)
        self._logged()
        self._renamed()

    def _due(self, kind: str) -> bool:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.moment is not None and (self.moment.kind, self.moment.number) == (kind, self.counts[kind])

    def _kill(self, doing: str) -> None:
        self.report.send(doing)
        os.kill(os.getpid(), signal.SIGKILL)

    def _clocked(self, owner: type, method: str, kind: str) -> None:
        original = getattr(owner, method)

        def timed(*arguments: Any, **more: Any) -> Any:
            if self._due(kind):
                assert self.moment is not None
                clock = threading.Timer(self.moment.share * self.lasts[kind], lambda: self._kill(self.doing))
                clock.daemon = True
                clock.start()
            self.doing, started = f"in a {kind}", time.perf_counter()
            result = original(*arguments, **more)
            self.doing = f"after a {kind}"
            if self.moment is None:
                self.lasts[kind] = max(self.lasts.get(kind, 0), time.perf_counter() - started)
            return result

        setattr(owner, method, timed)

    def _written(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def watched(path: Path, **options: Any) -> Iterator[Any]:
            kind = path.name if path.suffix == ".pt" else "beginning"
            due = self._due(kind)
            with original(path, **options) as file:
                pieces = _Pieces(file)
                if due:
                    assert self.moment is not None
                    most = int(self.lasts.get(kind, 1))
                    stop = int(self.moment.share / _IN_WRITING * most)
                    words = f"{path.name}: {stop} of {most} pieces written, and half of the next"
                    pieces.ends_at = (stop, lambda: self._kill(words))
                    self._renaming = path.name if self.moment.share > _TILL_RENAMED else ""
                yield pieces
                if self.moment is None:
                    self.lasts[kind] = pieces.count
                elif due and not self._renaming:
                    self._kill(f"{path.name}: written, not renamed")

        return watched

    def _renamed(self) -> None:
        flush = whole._fsync_folder

        def watched(folder: Path) -> None:
            if self._renaming:
                self._kill(f"{self._renaming}: renamed, its folder not flushed")
            flush(folder)

        whole._fsync_folder = watched

    def _logged(self) -> None:
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
    """A file that counts what is written, and may call for the end in the middle of a piece."""

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
