"""One thread that detects: what waits for it is looked at together where sizes agree, and only while it is wanted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread

from ..images import Pixels
from ..records import Detections
from .refusals import busy

_MOST_BYTES = 512 * 2**20  # of images that wait
_MOST_TOGETHER = 16 * 640 * 640  # pixels of a batch, as in a validation

Look = Callable[[Sequence[Pixels]], Sequence[Detections]]


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of one image.

    Attributes:
        found: its detections, best first.
        waited_ms: until it was its turn.
        detect_ms: that the batch took.
        batch: images in it.
    """

    found: Detections
    waited_ms: float
    detect_ms: float
    batch: int


@dataclass(frozen=True, slots=True)
class _Job:
    pixels: Pixels
    since: float
    future: Future[Looked]


class Batcher:
    """Detects in a thread of its own, in the order of asking; nobody waits for a batch to fill up.

    Args:
        look: the detector; called from that thread alone.
        most: images that may wait.
        batch: images that it looks at together.
        prepare: called in the thread before the first image.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        look: Look,
        *,
        most: int,
        batch: int,
        prepare: Callable[[], None] = lambda: None,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._look, self._most, self._batch, self._on_batch = look, most, batch, on_batch
        self._prepare = prepare
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="detect", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether an image would be taken."""
        return self._thread.is_alive() and not self._closed and self.waiting < self._most

    def submit(self, pixels: Pixels) -> Future[Looked]:
        """Ask for the detections of an image; a future that is cancelled before its turn is not looked at.

        Raises:
            Refusal: too many wait, or the server stops.
        """
        with self._changed:
            if self._closed:
                raise busy("the server is being stopped")
            held = sum(job.pixels.nbytes for job in self._waiting)
            if len(self._waiting) >= self._most or (self._waiting and held + pixels.nbytes > _MOST_BYTES):
                raise busy(f"{len(self._waiting)} images are waiting, as many as are taken on")
            job = _Job(pixels, time.monotonic(), Future())
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Take no more, and return when all that waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        self._prepare()
        while jobs := self._next():
            self._do(jobs)

    def _next(self) -> list[_Job]:
        """The first that waits and others of its size; none when it's over."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                first = self._waiting[0].pixels
                most = min(self._batch, max(1, _MOST_TOGETHER // (first.shape[0] * first.shape[1])))
                jobs: list[_Job] = []
                left: deque[_Job] = deque()
                for job in self._waiting:
                    fits = job.pixels.shape == first.shape and job.pixels.dtype == first.dtype
                    if len(jobs) == most or not fits:
                        left.append(job)
                    elif job.future.set_running_or_notify_cancel():
                        jobs.append(job)
                self._waiting = left
                if jobs:
                    return jobs

    def _do(self, jobs: Sequence[_Job]) -> None:
        start = time.monotonic()
        try:
            results = self._look([job.pixels for job in jobs])
        except Exception as error:  # whatever it is, it is raised where the result is waited for
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # one that can't be looked at doesn't spoil the others, nor does their sum the memory
                self._do([job])
            return
        took = time.monotonic() - start
        self._on_batch(len(jobs))
        for job, found in zip(jobs, results):
            looked = Looked(found, 1e3 * (start - job.since), 1e3 * took, len(jobs))
            job.future.set_result(looked)
