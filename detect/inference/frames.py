"""Frames as they come from a folder that is being filled, or from a pipe."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from ..errors import DataError
from ..formats.files import natural_key
from ..images import FORMATS_READ, SUFFIXES, UNREAD_SUFFIXES, Pixels, read_image

STOP_FILE = "STOP"
_POLL_S = 0.2  # between two looks into a folder; a file that is the same in both is taken for whole
_PATIENCE_S = 5.0  # that a file which can't be read is waited for


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came.

    Attributes:
        number: place in the source, from 0 on; a number that is missing is a frame that was dropped.
        strip: name of the strip that it shows.
        name: the file, or "frame 17".
        captured: seconds since 1970 when it was complete: a file's time of change, else when it was read.
        pixels: uint8 or uint16, [height, width] or [height, width, 3] RGB; None where it can't be read.
        error: why not, in words.
    """

    number: int
    strip: str
    name: str
    captured: float
    pixels: Pixels | None
    error: str | None = None


def folder_frames(
    root: Path, stop: Event, *, poll_s: float = _POLL_S, patience_s: float = _PATIENCE_S
) -> Generator[Frame, None, None]:
    """Image files in the order of the numbers in their names, those of a folder below ``root`` as a strip of their own.

    A file is whole once two looks find it the same and it can be read; what still can't after ``patience_s`` is a bad
    frame, and those after it wait as long. An image of a format that isn't read is a bad frame at once. A file named
    STOP ends the stream once all that lay there is read. Files may be removed when they have been read: only the names
    of those still there are remembered.
    """
    number, done = 0, set[str]()
    met: dict[
        str, tuple[tuple[int, int], float]
    ] = {}  # file -> its size and time of change, and since when they are so
    while not stop.is_set():
        ends = (root / STOP_FILE).exists()
        names = _images_below(root)
        done.intersection_update(names)
        new = [name for name in names if name not in done]
        now = time.monotonic()
        before, met = met, {}
        for name in new:
            state = _state(root / name)
            if state is not None:
                met[name] = before[name] if name in before and before[name][0] == state else (state, now)
        waits = False
        for name in new:
            if stop.is_set():
                return
            if name not in met:  # removed since
                continue
            (_, changed_ns), since = met[name]
            waits, error, pixels = time.monotonic() - since < poll_s, None, None
            if not waits and Path(name).suffix.lower() in UNREAD_SUFFIXES:
                error = str(
                    DataError("this image format isn't read", where=root / name, fix=f"save it as {FORMATS_READ}")
                )
            elif not waits:
                try:
                    pixels = read_image(root / name)
                except DataError as problem:
                    error, waits = str(problem), time.monotonic() - since < patience_s
            if waits:
                break  # those that come later wait, too: the order is that of time
            strip = str(Path(name).parent) if Path(name).parent != Path() else root.resolve().name
            yield Frame(number, strip, name, changed_ns / 1e9, pixels, error)
            done.add(name)
            number += 1
        if ends and not waits:
            return
        stop.wait(poll_s)


def _images_below(root: Path) -> list[str]:
    """Paths from ``root``, folder by folder, by the numbers in their names; hidden ones left out."""
    found, suffixes = [], (*SUFFIXES, *UNREAD_SUFFIXES)
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        place = Path(folder).relative_to(root)
        found += [str(place / name) for name in files if name[0] != "." and name.lower().endswith(suffixes)]
    return sorted(found, key=lambda name: (natural_key(str(Path(name).parent)), natural_key(name)))


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def pipe_frames(descriptor: int, shape: tuple[int, ...], depth: int, stop: Event) -> Generator[Frame, None, None]:
    """Raw frames of one shape, row by row from the top, RGB side by side."""
    dtype = np.dtype("u1" if depth == 8 else "<u2")
    size = int(np.prod(shape)) * dtype.itemsize
    number = 0
    with io.FileIO(descriptor, closefd=False) as pipe:
        while not stop.is_set():
            buffer = bytearray(size)
            read = _fill(pipe, memoryview(buffer))
            name = f"frame {number}"
            if 0 < read < size:
                found = f"the pipe ended after {read:,} of its {size:,} bytes"
                error = f"{name}: {found}; check --frame-size and --depth"
                yield Frame(number, "pipe", name, time.time(), None, error)
            if read < size:
                return
            pixels = np.frombuffer(buffer, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
            yield Frame(number, "pipe", name, time.time(), pixels)
            number += 1


def _fill(pipe: io.FileIO, view: memoryview) -> int:
    read = 0
    while read < len(view):
        more = pipe.readinto(view[read:])
        if not more:
            break
        read += more
    return read
