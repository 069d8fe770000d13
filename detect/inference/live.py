"""Frames looked at while they come: a thread reads ahead into a bounded queue, and what can't wait is dropped aloud."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from threading import Condition, Event, Thread

from ..errors import DataError
from ..records import Detections
from .frames import Frame
from .predictor import Predictor
from .sources import Source

_WAIT_S = 0.1  # at most, until a wish to stop is heard

Look = Callable[[Frame, int], Detections]  # a frame, and how many are missing since the one before


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one frame.

    Attributes:
        frame: as it came, without its pixels.
        size_wh: width and height in pixels; None of a bad frame.
        found: its detections; None of a bad frame.
        error: what was wrong with it; None of a good one.
        dropped: frames that were dropped between the one before and this one.
        done: seconds since 1970 when all this was known.
    """

    frame: Frame
    size_wh: tuple[int, int] | None
    found: Detections | None
    error: str | None
    dropped: int
    done: float


class FrameQueue:
    """At most so many frames between a thread that reads and one that looks.

    Args:
        most: frames.
        drops: a full queue loses its oldest frame to a new one; else the reader waits.
    """

    def __init__(self, most: int, *, drops: bool) -> None:
        self.most, self.drops = most, drops
        self._frames: deque[Frame] = deque()
        self._changed = Condition()
        self._ended = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame, stop: Event) -> None:
        """Add a frame; waits for room, until ``stop`` is set, where frames aren't dropped."""
        with self._changed:
            while len(self._frames) >= self.most and not stop.is_set():
                if self.drops:
                    self._frames.popleft()
                else:
                    self._changed.wait(_WAIT_S)
            self._frames.append(frame)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more frames will come, because of ``error`` if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self, stop: Event) -> Frame | None:
        """The oldest frame; None when there are no more or ``stop`` is set.

        Raises:
            BaseException: what ended the reading, once all frames before it are taken.
        """
        with self._changed:
            while not self._frames and not self._ended and not stop.is_set():
                self._changed.wait(_WAIT_S)
            if stop.is_set():
                return None
            if self._frames:
                self._changed.notify_all()
                return self._frames.popleft()
            if self._error is not None:
                raise self._error
            return None


class FrameLook:
    """A detector over frames: one with memory keeps its state from frame to frame, another sees each alone.

    Args:
        predictor: the detector.
        tile, overlap: how large frames are seen in tiles, by a detector without memory.
    """

    def __init__(self, predictor: Predictor, *, tile: int | None = None, overlap: int | None = None) -> None:
        self._predictor, self._tile, self._overlap = predictor, tile, overlap
        self._stream = predictor.stream() if predictor.remembers else None

    def __call__(self, frame: Frame, missed: int) -> Detections:
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


def watch(source: Source, look: Look, *, most: int, stop: Event) -> Iterator[Seen]:
    """What becomes of each frame, until the source ends or ``stop`` is set; the frame in work is finished then.

    Args:
        source: read by a thread of its own.
        look: the detector.
        most: frames that wait to be looked at. A source that can't wait loses the oldest beyond that; any other is
            read no further.
        stop: set it to end; what waits then is not looked at.

    Raises:
        DataError: the source itself failed.
    """
    waiting = FrameQueue(most, drops=source.drops)

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
                    found = look(frame, missed)
                    size_wh, missed = (int(frame.pixels.shape[1]), int(frame.pixels.shape[0])), 0
                except DataError as problem:
                    error = f"{frame.name}: {problem}"
            missed += found is None
            bare = Frame(frame.number, frame.strip, frame.name, frame.captured, None, error)
            yield Seen(bare, size_wh, found, error, dropped, time.time())
    finally:
        stop.set()
