"""Frame sources (video, camera, growing folder, pipe) and detection on their frames, with a reader thread."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
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
_POLL_S = 0.2  # seconds between two checks of a folder; a file unchanged in between counts as complete
_FOLDER_TIMEOUT_S = 5.0  # seconds to wait for a file that can't be read


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One frame from a source.

    Attributes:
        number: position in the source, from 0; a missing number is a dropped frame.
        strip: name of the strip that it shows.
        name: the file, or "frame 17".
        captured: seconds since 1970 when it was complete: a file's modification time, else the time of reading.
        pixels: uint8 or uint16, [height, width] or [height, width, 3] RGB; None if it can't be read.
        error: why it can't be read.
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
    """Yield image files in the order of the numbers in their names; each folder below ``root`` is a strip of its own.

    A file is complete once two checks find it unchanged and it can be read. One that still can't be read after
    ``timeout_s`` is a bad frame; the files after it wait until then. A file of an unsupported image format is a bad
    frame at once. A file named STOP ends the stream once all files that were there with it are read. Files may be
    removed once they have been read: only the names of existing files are remembered.
    """
    number, done = 0, set[str]()
    pending: dict[str, tuple[tuple[int, int], float]] = {}  # file -> its size and modification time, unchanged since
    while not stop.is_set():
        ends = (root / STOP_FILE).exists()
        names = _images_below(root)
        done.intersection_update(names)
        new = [name for name in names if name not in done]
        now = time.monotonic()
        before, pending = pending, {}
        for name in new:
            state = _file_state(root / name)
            if state is not None:
                pending[name] = before[name] if name in before and before[name][0] == state else (state, now)
        waits = False
        for name in new:
            if stop.is_set():
                return
            if name not in pending:  # removed since
                continue
            (_, changed_ns), since = pending[name]
            waits, error, pixels = time.monotonic() - since < poll_s, None, None
            if not waits and Path(name).suffix.lower() in UNREAD_SUFFIXES:
                fix = f"save it as {FORMATS_READ}"
                error = str(DataError("this image format isn't read", where=root / name, fix=fix))
            elif not waits:
                try:
                    pixels = read_image(root / name)
                except DataError as problem:
                    error, waits = str(problem), time.monotonic() - since < timeout_s
            if waits:
                break  # later files wait too, to keep the frames in time order
            strip = str(Path(name).parent) if Path(name).parent != Path() else root.resolve().name
            yield CapturedFrame(number, strip, name, changed_ns / 1e9, pixels, error)
            done.add(name)
            number += 1
        if ends and not waits:
            return
        stop.wait(poll_s)


def _images_below(root: Path) -> list[str]:
    """Paths relative to ``root``, folder by folder, in natural order of their names, without hidden ones."""
    names, suffixes = [], (*SUFFIXES, *UNREAD_SUFFIXES)
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        parent = Path(folder).relative_to(root)
        names += [str(parent / name) for name in files if name[0] != "." and name.lower().endswith(suffixes)]
    return sorted(names, key=lambda name: (natural_key(str(Path(name).parent)), natural_key(name)))


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def pipe_frames(
    descriptor: int, shape: tuple[int, ...], depth: int, stop: Event
) -> Generator[CapturedFrame, None, None]:
    """Yield raw frames of one shape: rows from the top, interleaved RGB."""
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


_CAMERA_TIMEOUT_S = 5.0  # seconds to wait for a frame of a camera
_MAX_FAILURES = 30  # consecutive undecodable frames after which a video ends


def video_frames(path: Path, stop: Event) -> Generator[CapturedFrame, None, None]:
    """Yield the frames of a video file without delay; a frame that can't be decoded is a bad frame."""
    import cv2

    capture = _open_capture(str(path), path, "the file is not a readable video", "give an AVI, MP4 or MKV file")
    try:
        frame_count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # as the header says
        number, failed = 0, 0
        while not stop.is_set() and failed <= _MAX_FAILURES:
            success, pixels = capture.read()
            if not success:
                failed += 1
                continue
            for _ in range(failed):
                error = f"{path}: frame {number} can't be decoded; it is left out"
                yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), None, error)
                number += 1
            failed = 0
            yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), _bgr_to_rgb(pixels))
            number += 1
        if failed and number < frame_count:
            message = f"the video ends after {number:,} of {frame_count:,} frames"
            error = f"{path}: {message}; copy it again if it should be longer"
            yield CapturedFrame(number, path.stem, f"frame {number}", time.time(), None, error)
    finally:
        capture.release()


def camera_frames(
    index: int, stop: Event, *, timeout_s: float = _CAMERA_TIMEOUT_S
) -> Generator[CapturedFrame, None, None]:
    """Yield the frames of a camera, given by its index in the system, as they arrive."""
    where = f"camera {index}"
    capture = _open_capture(index, where, "there is no such camera", "give the number of one that is plugged in")
    try:
        number, last = 0, time.monotonic()
        while not stop.is_set():
            success, pixels = capture.read()
            if success:
                yield CapturedFrame(number, f"camera{index}", f"frame {number}", time.time(), _bgr_to_rgb(pixels))
                number, last = number + 1, time.monotonic()
            elif time.monotonic() - last > timeout_s:
                raise DataError(f"no frame came for {timeout_s:g} s", where=where, fix="check the camera and its cable")
            else:
                stop.wait(0.01)
    finally:
        capture.release()


def _open_capture(source: str | int, where: str | Path, message: str, fix: str) -> cv2.VideoCapture:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below replaces OpenCV's own lines
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise DataError(message, where=where, fix=fix)
    return capture


def _bgr_to_rgb(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])


@dataclass(frozen=True, slots=True)
class FrameSource:
    """A source of frames.

    Attributes:
        kind: "folder", "video", "camera" or "pipe".
        frames: yields the frames in order until the source ends or the event is set; raises DataError if the source
            fails.
        drops: whether frames that are not taken in time are lost, because the source can't wait.
    """

    kind: str
    frames: Callable[[Event], Generator[CapturedFrame, None, None]]
    drops: bool


def open_source(given: str, *, frame_shape: tuple[int, ...] | None = None, depth: int = 8) -> FrameSource:
    """Open the source that an argument names: "-" a pipe, a whole number a camera, else a folder or a video file.

    Args:
        given: the argument.
        frame_shape: of the frames in a pipe, (height, width) or (height, width, 3), pixels.
        depth: bits per gray value in a pipe: 8, or 9 to 16 in two bytes, little-endian.

    Raises:
        DataError: there is no such folder or video, or the shape of a pipe's frames is missing.
    """
    if given == "-":
        if frame_shape is None:
            raise DataError("the size of the frames in a pipe is unknown", where="--stream -", fix="give --frame-size")
        shape = frame_shape
        return FrameSource("pipe", lambda stop: pipe_frames(0, shape, depth, stop), drops=False)
    if given.isdecimal():
        return FrameSource("camera", lambda stop: camera_frames(int(given), stop), drops=True)
    path = Path(given)
    if path.is_dir():
        return FrameSource("folder", lambda stop: folder_frames(path, stop), drops=False)
    if path.is_file() and (path.suffix.lower() not in SUFFIXES or path.suffix.lower() == ".gif"):  # an animation
        return FrameSource("video", lambda stop: video_frames(path, stop), drops=False)
    message = "a single image is not a stream" if path.is_file() else "no such folder or video"
    raise DataError(message, where=given, fix="give a folder that is being filled, a video, a camera's number, or -")


_STOP_POLL_S = 0.1  # maximum seconds until a stop event is noticed

FrameDetectFn = Callable[[CapturedFrame, int], Detections]  # a frame, and the number of frames missed before it


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """The result for one frame.

    Attributes:
        frame: the frame, without its pixels.
        size_wh: width and height in pixels; None for a bad frame.
        found: its detections; None for a bad frame.
        error: what is wrong with a bad frame; None for a good one.
        dropped: number of frames dropped between the previous frame and this one.
        done: seconds since 1970 when processing finished.
    """

    frame: CapturedFrame
    size_wh: tuple[int, int] | None
    found: Detections | None
    error: str | None
    dropped: int
    done: float


class FrameQueue:
    """Bounded queue of frames between the reader thread and the detector.

    Args:
        max_frames: maximum length.
        drops: whether a full queue drops its oldest frame for a new one; else the reader waits.
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
        """Add a frame; unless frames are dropped, wait for space or until ``stop`` is set."""
        with self._changed:
            while len(self._frames) >= self.max_frames and not stop.is_set():
                if self.drops:
                    self._frames.popleft()
                else:
                    self._changed.wait(_STOP_POLL_S)
            self._frames.append(frame)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Mark the end of the frames, caused by ``error`` if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self, stop: Event) -> CapturedFrame | None:
        """Remove and return the oldest frame; None when there are no more or ``stop`` is set.

        Raises:
            BaseException: the error that ended the reading, once all frames before it are taken.
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
    """Detects on frames; a detector with memory keeps its state, any other processes each frame alone.

    Args:
        predictor: the detector.
        tile, overlap: tiles for large frames, for a detector without memory.
    """

    def __init__(self, predictor: Predictor, *, tile: int | None = None, overlap: int | None = None) -> None:
        self._predictor, self._tile, self._overlap = predictor, tile, overlap
        self._stream = predictor.stream() if predictor.stateful else None

    def __call__(self, frame: CapturedFrame, missed: int) -> Detections:
        """Return the detections of a frame, best score first.

        Args:
            frame: a good frame.
            missed: number of dropped or bad frames since the last good one.

        Raises:
            DataError: the detector can't process the pixels.
        """
        assert frame.pixels is not None
        if self._stream is None:
            return self._predictor(frame.pixels, tile=self._tile, overlap=self._overlap)
        return self._stream(frame.pixels, strip=frame.strip, missed=missed)


def process_stream(
    source: FrameSource, detect: FrameDetectFn, *, max_frames: int, stop: Event
) -> Iterator[FrameOutput]:
    """Yield the result for each frame until the source ends or ``stop`` is set; the current frame is finished first.

    Args:
        source: read by a separate thread.
        detect: the detector.
        max_frames: maximum number of waiting frames. Beyond it, a source that can't wait loses its oldest waiting
            frame, and reading from any other source pauses.
        stop: set it to end; waiting frames are not processed.

    Raises:
        DataError: the source failed.
    """
    queue = FrameQueue(max_frames, drops=source.drops)

    def read() -> None:
        error: BaseException | None = None
        try:
            with closing(source.frames(stop)) as frames:
                for frame in frames:
                    queue.put(frame, stop)
                    if stop.is_set():
                        break
        except BaseException as problem:  # ``queue.get`` raises it
            error = problem
        queue.end(error)

    Thread(target=read, name="frames", daemon=True).start()  # daemon: a read that never returns doesn't block exit
    last, missed = -1, 0
    try:
        while (frame := queue.get(stop)) is not None:
            dropped = frame.number - last - 1
            last, missed = frame.number, missed + dropped
            detections, error, size_wh = None, frame.error, None
            if frame.pixels is not None:
                try:
                    detections = detect(frame, missed)
                    size_wh, missed = (int(frame.pixels.shape[1]), int(frame.pixels.shape[0])), 0
                except DataError as problem:
                    error = f"{frame.name}: {problem}"
            missed += detections is None
            without_pixels = replace(frame, pixels=None, error=error)
            yield FrameOutput(without_pixels, size_wh, detections, error, dropped, time.time())
    finally:
        stop.set()
