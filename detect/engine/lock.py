"""A lock on a run folder, so that no two trainings write into it; it vanishes with its process, however that ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import ConfigError
from ..formats.files import read_json

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = ".lock"
_NO_LOCKS = {getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL") if hasattr(errno, name)}
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_BEYOND = 1 << 30  # Windows locks bytes against reading too: one that no file has, so that others can read who holds it

_held: set[Path] = set()  # by this process, to which the system would give the same lock twice


class RunLock:
    """The right to write into a run folder, as a context that gives it back.

    A POSIX record lock (on Windows a locked byte): the system takes it from a process that is killed, at once, and
    loader processes don't inherit it. The file says who holds it and is removed in the end; one that was left
    behind by a killed process is of no consequence.

    Args:
        folder: the run folder; it is locked by ``take``, not yet here.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Lock the folder, which exists; again does nothing.

        Returns:
            False where the file system knows no locks, so that nothing guards the folder.

        Raises:
            ConfigError: another training holds it, or the folder can't be written to.
        """
        if self._file is not None:
            return True
        if self.path.resolve() in _held:
            raise self._refusal({"process": os.getpid()})
        try:
            file = self._locked()
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            found = f"can't write there ({error.strerror})"
            raise ConfigError(found, where=self.path.parent, fix="choose another run.dir") from None
        if file is None:
            raise self._refusal(self._holder())
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with suppress(OSError):  # a full disk; the lock holds without its words
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
            file.flush()
        self._file = file
        _held.add(self.path.resolve())
        return True

    def release(self) -> None:
        """Give the folder back."""
        if self._file is None:
            return
        _held.discard(self.path.resolve())
        with suppress(OSError):  # Windows keeps the names of open files
            self.path.unlink()
        self._file.close()
        self._file = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _locked(self) -> IO[str] | None:
        """The file, open and locked; None if another process has locked it."""
        while True:
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
            try:
                _lock(file)
                if self._is_there(file):
                    return file
            except OSError as error:
                file.close()
                if error.errno in _TAKEN:
                    return None
                raise
            file.close()  # its holder removed it between the opening and the locking

    def _is_there(self, file: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _holder(self) -> dict[str, object]:
        try:
            holder = read_json(self.path)
        except (OSError, ValueError):  # it is being written
            return {}
        return holder if isinstance(holder, dict) else {}

    def _refusal(self, holder: dict[str, object]) -> ConfigError:
        who = f"process {holder['process']}" if "process" in holder else "another process"
        if "host" in holder:
            who += f" on {holder['host']}, since {holder.get('since')}"
        fix = "wait for it, stop it, or choose another folder with run.dir="
        return ConfigError(f"another training writes there ({who})", where=self.path.parent, fix=fix)


def _lock(file: IO[str]) -> None:
    """Lock an open file without waiting; OSError with one of ``_TAKEN`` if another process has."""
    if sys.platform == "win32":
        file.seek(_BEYOND)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(0)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
