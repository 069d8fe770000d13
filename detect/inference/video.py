"""Frames as they come, from a video, a camera, a growing folder or a pipe, read ahead while others are detected on."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING

import numpy as np

from ..datasets.paths import natural_key
from ..errors import DataError
from ..images import FORMATS_READ, SUFFIXES, UNREAD_SUFFIXES, Pixels, read_image
from ..structures import Detections
from .predictor import Predictor

if TYPE_CHECKING:
    import cv2

STOP_FILE = "STOP"
_POLL_S = 0.2  # between two looks into a folder; a file that is the same in both is taken for whole
_FOLDER_TIMEOUT_S = 5.0  # that a file which can't be read is waited for


@dataclass(frozen=True, slots=True)
class CapturedFrame:
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
    root: Path, stop: Event, *, poll_s: float = _POLL_S, timeout_s: float = _FOLDER_TIMEOUT_S
) -> Generator[CapturedFrame, None, None]:
    """Image files in the order of the numbers in their names, those of a folder below ``root`` as a strip of their own.

    A file is whole once two looks find it the same and it can be read; what still can't after ``timeout_s`` is a bad
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
            state = _file_state(root / name)
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
                    error, waits = str(problem), time.monotonic() - since < timeout_s
            if waits:
                break  # those that come later wait, too: the order is that of time
            strip = str(Path(name).parent) if Path(name).parent != Path() else root.resolve().name
            yield CapturedFrame(number, strip, name, changed_ns / 1e9, pixels, error)
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


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def pipe_frames(
    descriptor: int, shape: tuple[int, ...], depth: int, stop: Event
) -> Generator[CapturedFrame, None, None]:
    """Raw frames of one shape, row by row from the top, RGB side by side."""
    dtype = np.dtype("u1" if depth == 8 else "<u2")
    size = int(np.prod(shape)) * dtype.itemsize
    number = 0
    with io.FileIO(descriptor, closefd=False) as pipe:
        while not stop.is_set():
            buffer = bytearray(size)
            read = _read_full(pipe, memoryview(buffer))
            name = f"frame {number}"
            if 0 < read < size:
                message = f"the pipe ended after {read:,} of its {size:,} bytes"
                error = f"{name}: {message}; check --frame-size and --depth"
                yield CapturedFrame(number, "pipe", name, time.time(), None, error)
            if read < size:
                return
            pixels = np.frombuffer(buffer, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
            yield CapturedFrame(number, "pipe", name, time.time(), pixels)
            number += 1


def _read_full(pipe: io.FileIO, view: memoryview) -> int:
    read = 0
    while read < len(view):
        more = pipe.readinto(view[read:])
        if not more:
            break
        read += more
    return read


_CAMERA_TIMEOUT_S = 5.0  # that a camera which gives nothing is waited for
_MAX_FAILURES = 30  # frames in a row that a video can't give


def video_frames(path: Path, stop: Event) -> Generator[CapturedFrame, None, None]:
    """Frames of a video file, as fast as they are taken; those that can't be decoded are bad frames."""
    import cv2

    capture = _open_capture(str(path), path, "the file is no video that can be read", "give an AVI, MP4 or MKV file")
    try:
        told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number, failed = 0, 0
        while not stop.is_set() and failed <= _MAX_FAILURES:
            there, pixels = capture.read()
            if not there:
                failed += 1
                continue
            for _ in range(failed):
                error = f"{path}: frame {number} can't be decoded; it is left out"
                yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), None, error)
                number += 1
            failed = 0
            yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), _bgr_to_rgb(pixels))
            number += 1
        if failed and number < told:
            error = f"{path}: the video ends after {number:,} of {told:,} frames; copy it again if it should be longer"
            yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), None, error)
    finally:
        capture.release()


def camera_frames(
    index: int, stop: Event, *, timeout_s: float = _CAMERA_TIMEOUT_S
) -> Generator[CapturedFrame, None, None]:
    """Frames of a camera that the system knows by a number, as they come."""
    where = f"camera {index}"
    capture = _open_capture(index, where, "there is no such camera", "give the number of one that is plugged in")
    try:
        number, last = 0, time.monotonic()
        while not stop.is_set():
            there, pixels = capture.read()
            if there:
                yield CapturedFrame(number, f"camera{index}", f"frame {number}", time.time(), _bgr_to_rgb(pixels))
                number, last = number + 1, time.monotonic()
            elif time.monotonic() - last > timeout_s:
                raise DataError(f"no frame came for {timeout_s:g} s", where=where, fix="check the camera and its cable")
            else:
                stop.wait(0.01)
    finally:
        capture.release()


def _open_capture(what: str | int, where: str | Path, found: str, fix: str) -> cv2.VideoCapture:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it would say is said here, in a sentence
    capture = cv2.VideoCapture(what)
    if not capture.isOpened():
        raise DataError(found, where=where, fix=fix)
    return capture


def _bgr_to_rgb(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])


@dataclass(frozen=True, slots=True)
class FrameSource:
    """What frames can be read from.

    Attributes:
        kind: "folder", "video", "camera" or "pipe".
        frames: the frames in order, until there are no more or the event is set; raises DataError where the source
            itself fails.
        drops: the source doesn't wait: what isn't taken in time is lost.
    """

    kind: str
    frames: Callable[[Event], Generator[CapturedFrame, None, None]]
    drops: bool


def open_source(given: str, *, frame_shape: tuple[int, ...] | None = None, depth: int = 8) -> FrameSource:
    """The source that a word means: "-" a pipe, a whole number a camera, else a folder or a video file.

    Args:
        given: the word.
        frame_shape: of the frames in a pipe, (height, width) or (height, width, 3), pixels.
        depth: bits of their gray values, 8, or 9 to 16 in two bytes, the lower one first.

    Raises:
        DataError: nothing of the kind, or a pipe without the shape of its frames.
    """
    if given == "-":
        if frame_shape is None:
            raise DataError("a pipe doesn't tell the size of its frames", where="--stream -", fix="give --frame-size")
        shape = frame_shape
        return FrameSource("pipe", lambda stop: pipe_frames(0, shape, depth, stop), drops=False)
    if given.isdecimal():
        return FrameSource("camera", lambda stop: camera_frames(int(given), stop), drops=True)
    path = Path(given)
    if path.is_dir():
        return FrameSource("folder", lambda stop: folder_frames(path, stop), drops=False)
    if path.is_file() and (path.suffix.lower() not in SUFFIXES or path.suffix.lower() == ".gif"):  # an animation
        return FrameSource("video", lambda stop: video_frames(path, stop), drops=False)
    message = "one image is no stream" if path.is_file() else "no such folder or video"
    raise DataError(message, where=given, fix="give a folder that is being filled, a video, a camera's number, or -")


_STOP_POLL_S = 0.1  # at most, until a wish to stop is heard

FrameDetectFn = Callable[[CapturedFrame, int], Detections]  # a frame, and how many are missing since the one before


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """What became of one frame.

    Attributes:
        frame: as it came, without its pixels.
        size_wh: width and height in pixels; None of a bad frame.
        found: its detections; None of a bad frame.
        error: what was wrong with it; None of a good one.
        dropped: frames that were dropped between the one before and this one.
        done: seconds since 1970 when all this was known.
    """

    frame: CapturedFrame
    size_wh: tuple[int, int] | None
    found: Detections | None
    error: str | None
    dropped: int
    done: float


class FrameQueue:
    """At most so many frames between a thread that reads and one that looks.

    Args:
        max_frames: frames.
        drops: a full queue loses its oldest frame to a new one; else the reader waits.
    """

    def __init__(self, max_frames: int, *, drops: bool) -> None:
        self.max_frames, self.drops = max_frames, drops
        self._frames: deque[CapturedFrame] = deque()
        self._changed = Condition()
        self._ended = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: CapturedFrame, stop: Event) -> None:
        """Add a frame; waits for room, until ``stop`` is set, where frames aren't dropped."""
        with self._changed:
            while len(self._frames) >= self.max_frames and not stop.is_set():
                if self.drops:
                    self._frames.popleft()
                else:
                    self._changed.wait(_STOP_POLL_S)
            self._frames.append(frame)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more frames will come, because of ``error`` if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self, stop: Event) -> CapturedFrame | None:
        """The oldest frame; None when there are no more or ``stop`` is set.

        Raises:
            BaseException: what ended the reading, once all frames before it are taken.
        """
        with self._changed:
            while not self._frames and not self._ended and not stop.is_set():
                self._changed.wait(_STOP_POLL_S)
            if stop.is_set():
                return None
            if self._frames:
                self._changed.notify_all()
                return self._frames.popleft()
            if self._error is not None:
                raise self._error
            return None


class FrameDetector:
    """A detector over frames: one with memory keeps its state from frame to frame, another sees each alone.

    Args:
        predictor: the detector.
        tile, overlap: how large frames are seen in tiles, by a detector without memory.
    """

    def __init__(self, predictor: Predictor, *, tile: int | None = None, overlap: int | None = None) -> None:
        self._predictor, self._tile, self._overlap = predictor, tile, overlap
        self._stream = predictor.stream() if predictor.stateful else None

    def __call__(self, frame: CapturedFrame, missed: int) -> Detections:
        """Detections of a frame, best score first.

        Args:
            frame: a good one.
            missed: frames that were dropped or bad since the last good one.

        Raises:
            DataError: pixels that the detector can't take.
        """
        assert frame.pixels is not None
        if self._stream is None:
            return self._predictor(frame.pixels, tile=self._tile, overlap=self._overlap)
        return self._stream(frame.pixels, strip=frame.strip, missed=missed)


def process_stream(
    source: FrameSource, detect: FrameDetectFn, *, max_frames: int, stop: Event
) -> Iterator[FrameOutput]:
    """What becomes of each frame, until the source ends or ``stop`` is set; the frame in work is finished then.

    Args:
        source: read by a thread of its own.
        detect: the detector.
        max_frames: frames that wait for the detector. A source that can't wait loses the oldest beyond that; any other
            is read no further.
        stop: set it to end; what waits then is not looked at.

    Raises:
        DataError: the source itself failed.
    """
    waiting = FrameQueue(max_frames, drops=source.drops)

    def read() -> None:
        error: BaseException | None = None
        try:
            with closing(source.frames(stop)) as frames:
                for frame in frames:
                    waiting.put(frame, stop)
                    if stop.is_set():
                        break
        except BaseException as problem:  # it is raised where it is waited for
            error = problem
        waiting.end(error)

    Thread(target=read, name="frames", daemon=True).start()  # a read that never returns doesn't hold up the end
    last, missed = -1, 0
    try:
        while (frame := waiting.get(stop)) is not None:
            dropped = frame.number - last - 1
            last, missed = frame.number, missed + dropped
            found, error, size_wh = None, frame.error, None
            if frame.pixels is not None:
                try:
                    found = detect(frame, missed)
                    size_wh, missed = (int(frame.pixels.shape[1]), int(frame.pixels.shape[0])), 0
                except DataError as problem:
                    error = f"{frame.name}: {problem}"
            missed += found is None
            bare = CapturedFrame(frame.number, frame.strip, frame.name, frame.captured, None, error)
            yield FrameOutput(bare, size_wh, found, error, dropped, time.time())
    finally:
        stop.set()
