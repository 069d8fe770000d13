"""Files written whole or not at all, and trouble with the disk that names the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

PART = ".part"  # ends the name of a file that is being written


@contextmanager
def whole_file(path: Path, *, lasting: bool = False) -> Iterator[BinaryIO]:
    """A file to write that takes ``path``'s place once it is whole: a reader sees the old one or the new, never a part.

    Args:
        path: its folder is made.
        lasting: wait until the disk has it, so that a power cut can't undo what was written before something else.

    Raises:
        OSError: it can't be written, the disk is full; names ``path``, which is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                yield file
                if lasting:
                    flush_to_disk(file)
            part.replace(path)
            if lasting:
                _flush_folder(path.parent)
    finally:
        with suppress(OSError):  # of a read-only disk, say, which has been told already
            part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system name ``path``: those of a write to an open file, such as a full disk, name none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def flush_to_disk(file: IO[Any]) -> None:
    """Wait until the disk has what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders can't be opened, and a rename lasts by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems can't do this for folders
            os.fsync(handle)
    finally:
        os.close(handle)
