"""What a server does for a request: take it on, detect in batches with others, count it, and give up what is late."""

from __future__ import annotations

import asyncio
import io
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image as Pillow
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .. import __version__
from ..data.dataset import check_bit_depth
from ..errors import OutOfMemoryError
from ..export.runtimes import FILE_NAME, load_exported, read_contract
from ..images import Pixels
from ..inference.predictor import Predictor
from ..structures import Detections, Xyxy
from ..visualize import class_colours, to_uint8
from .requests import (
    DetectionResponse,
    DetectResponse,
    Health,
    ImageInfo,
    Limits,
    LimitsResponse,
    ModelResponse,
    RequestError,
    RequestLimiter,
    Timings,
    Upload,
    busy_error,
    decode,
    read_upload,
)

_MAX_SIDE_PX = 2048  # pixels


def as_png(pixels: Pixels) -> bytes:
    """An 8-bit PNG: 16 bits stretched as in drawn pictures, the longer side at most 2048 pixels."""
    picture = Pillow.fromarray(to_uint8(pixels))
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A detector as a server needs it.

    Attributes:
        name: what answers call it.
        categories: names that it finds.
        thresholds: category -> score from which on a detection is shown, unless a request asks for another.
        detect: images in, detections of each out, all that the detector reports, best first. Images of one call have
            one size and depth. Raises DataError for what the detector can't take.
    """

    name: str
    categories: tuple[str, ...]
    thresholds: Mapping[str, float]
    detect: Callable[[Sequence[Pixels]], Sequence[Detections]]

    def apply_thresholds(self, found: Detections, threshold: float | None) -> Detections:
        """Those to show: from one score on, or from each class's own."""
        if threshold is not None:
            return found.above(threshold)
        lowest = [self.thresholds[name] for name in found.categories]
        keep = [i for i in range(len(found)) if found.scores[i] >= lowest[found.labels[i] - 1]]
        return Detections(found.boxes_xyxy[keep], found.scores[keep], found.labels[keep], found.categories)


def model_from_predictor(predictor: Predictor, name: str, thresholds: Mapping[str, float]) -> ServedModel:
    """A detector of this library, thresholds by category; its scores are calibrated where the predictor's are."""
    return ServedModel(name, predictor.categories, dict(thresholds), predictor.predict_batch)


def is_export(folder: Path) -> bool:
    """Whether ``detect export`` wrote this folder."""
    return (folder / FILE_NAME).is_file()


def model_from_export(folder: Path, name: str, threshold: float | None, *, default: float, threads: int) -> ServedModel:
    """An exported model, which takes images of one size and gives the network's own scores.

    Args:
        folder: with contract.json in it.
        name: what answers call it.
        threshold: of all categories; None: those of the contract.
        default: for categories that the contract names no threshold of.
        threads: that it may use; 0: as many as it likes.

    Raises:
        DataError: no export, or a model that its runtime refuses.
        ConfigError: the runtime isn't installed.
    """
    runner = load_exported(folder, threads=threads)
    contract, content = read_contract(folder)
    told = content.get("thresholds")
    chosen = told if isinstance(told, dict) else {}
    of = {each: float(chosen.get(each, default)) if threshold is None else threshold for each in runner.categories}

    def look(images: Sequence[Pixels]) -> list[Detections]:
        return [runner(check_bit_depth(each, contract.white)) for each in images]

    return ServedModel(name, runner.categories, of, look)


METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Any, Any], Any]


class Metrics:
    """What one server counts.

    Args:
        waiting: tells how many images wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("detect_requests", "Requests answered", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "detect_request_seconds",
            "From a request's head to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "detect_batch_images", "Images looked at together", buckets=_SIZES, registry=self._registry
        )
        self._detections = Counter("detect_detections", "Detections shown", ["label"], registry=self._registry)
        queue = Gauge("detect_waiting_images", "Images that wait for the detector", registry=self._registry)
        queue.set_function(waiting)

    def observe_batch(self, images: int) -> None:
        """A batch was looked at."""
        self._batches.observe(images)

    def count_detection(self, label: str) -> None:
        """A detection was sent."""
        self._detections.labels(label).inc()

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """An app whose requests are counted; paths that aren't known are counted as one.

    Args:
        app: the app.
        metrics: where they are counted.
        paths: known ones.
    """

    def __init__(self, app: AsgiApp, *, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, status, time.monotonic() - start)


_MAX_WAITING_BYTES = 512 * 2**20  # of images that wait
_MAX_BATCH_PIXELS = 16 * 640 * 640  # pixels of a batch, as in a validation

DetectFn = Callable[[Sequence[Pixels]], Sequence[Detections]]


@dataclass(frozen=True, slots=True)
class BatchResult:
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
    future: Future[BatchResult]


class Batcher:
    """Detects in a thread of its own, in the order of asking; nobody waits for a batch to fill up.

    Args:
        detect: the detector; called from that thread alone.
        max_waiting: images that may wait.
        batch: images that it looks at together.
        prepare: called in the thread before the first image.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        detect: DetectFn,
        *,
        max_waiting: int,
        batch: int,
        prepare: Callable[[], None] = lambda: None,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._detect, self._max_waiting, self._batch, self._on_batch = detect, max_waiting, batch, on_batch
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
        return self._thread.is_alive() and not self._closed and self.waiting < self._max_waiting

    def submit(self, pixels: Pixels) -> Future[BatchResult]:
        """Ask for the detections of an image; a future that is cancelled before its turn is not looked at.

        Raises:
            RequestError: too many wait, or the server stops.
        """
        with self._changed:
            if self._closed:
                raise busy_error("the server is being stopped")
            held = sum(job.pixels.nbytes for job in self._waiting)
            if len(self._waiting) >= self._max_waiting or (self._waiting and held + pixels.nbytes > _MAX_WAITING_BYTES):
                raise busy_error(f"{len(self._waiting)} images are waiting, as many as are taken on")
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
                most = min(self._batch, max(1, _MAX_BATCH_PIXELS // (first.shape[0] * first.shape[1])))
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
            results = self._detect([job.pixels for job in jobs])
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
            looked = BatchResult(found, 1e3 * (start - job.since), 1e3 * took, len(jobs))
            job.future.set_result(looked)


_Result = TypeVar("_Result")


class Service:
    """A model at work: one thread decodes, another one detects.

    Args:
        model: that detects.
        limits: what is taken on.
        prepare: called once in the thread that detects.

    Attributes:
        metrics: what is counted.
    """

    def __init__(self, model: ServedModel, limits: Limits, *, prepare: Callable[[], None] = lambda: None) -> None:
        self.metrics = Metrics(lambda: self._batcher.waiting)
        self._model, self._limits, self._limiter = model, limits, RequestLimiter(limits.queue)
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")  # memory for one image on its way
        self._batcher = Batcher(
            model.detect,
            max_waiting=limits.queue,
            batch=limits.batch,
            prepare=prepare,
            on_batch=self.metrics.observe_batch,
        )

    async def detect(
        self, request: Request, *, threshold: float | None, shape: str | None, dtype: str
    ) -> DetectResponse:
        """Detections of what a request sends.

        Args:
            request: its head; the body is still to come.
            threshold: lowest score of all classes; None: each class's own.
            shape, dtype: of an array without a header.

        Raises:
            RequestError: too much, too late, or not to be read.
            DataError: an image or array that can't be used.
        """
        with self._limiter.slot():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            work = self._detect(upload)
            pixels, decode_ms, looked = await _run_with_timeout(request, work, self._limits.timeout_s)
        shown = self._model.apply_thresholds(looked.found, threshold)
        for each in shown:
            self.metrics.count_detection(each.label)
        own = self._model.thresholds
        return DetectResponse(
            model=self._model.name,
            image=_image_info(pixels),
            thresholds=dict(own) if threshold is None else dict.fromkeys(own, threshold),
            detections=_detection_responses(shown),
            batch=looked.batch,
            ms=Timings(decode=round(decode_ms, 2), wait=round(looked.waited_ms, 2), detect=round(looked.detect_ms, 2)),
        )

    async def preview(self, request: Request, *, shape: str | None, dtype: str) -> bytes:
        """What a request sends, as a PNG for the eye; otherwise as ``detect``."""
        with self._limiter.slot():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            return await _run_with_timeout(request, self._decoded(upload, as_png), self._limits.timeout_s)

    def model_info(self) -> ModelResponse:
        """What is served, and within which limits."""
        model, limits = self._model, self._limits
        colours = class_colours(model.categories)
        return ModelResponse(
            model=model.name,
            version=__version__,
            categories=list(model.categories),
            thresholds=dict(model.thresholds),
            colours={name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in colours.items()},
            limits=LimitsResponse(
                max_bytes=limits.max_bytes,
                max_pixels=limits.max_pixels,
                timeout_s=limits.timeout_s,
                queue=limits.queue,
                batch=limits.batch,
            ),
        )

    def health(self) -> Health:
        """Whether an image would be taken on."""
        ready = self._batcher.ready and self._limiter.active < self._limiter.max_requests
        return Health(live=True, ready=ready, waiting=self._batcher.waiting)

    def close(self) -> None:
        """Take no more, and return when all that waits is done."""
        self._batcher.close()
        self._decoder.shutdown(wait=False, cancel_futures=True)

    async def _decoded(self, upload: Upload, then: Callable[[Pixels], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoder, lambda: then(decode(upload, self._limits.max_pixels)))

    async def _detect(self, upload: Upload) -> tuple[Pixels, float, BatchResult]:
        start = monotonic()
        pixels = await self._decoded(upload, lambda each: each)
        decode_ms = 1e3 * (monotonic() - start)
        return pixels, decode_ms, await asyncio.wrap_future(self._batcher.submit(pixels))


async def _run_with_timeout(request: Request, work: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
    """What the work gives, given up when its time is over or nobody waits for it any more."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise RequestError(400, "the client has gone", fix="ask again")
        raise RequestError(
            504, f"the answer took more than {timeout_s:g} s", fix="send less at once, or smaller images"
        )
    except OutOfMemoryError as error:
        raise busy_error(error.found) from None
    finally:
        for each in (task, gone):
            each.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _image_info(pixels: Pixels) -> ImageInfo:
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    return ImageInfo(width=width, height=height, channels=channels, bits=8 * pixels.dtype.itemsize)


def _detection_responses(found: Detections) -> list[DetectionResponse]:
    return [
        DetectionResponse(label=each.label, score=round(each.score, 6), box_xyxy=_round_box(each.xyxy))
        for each in found
    ]


def _round_box(xyxy: Xyxy) -> Xyxy:
    x1, y1, x2, y2 = (round(value, 3) for value in xyxy)
    return x1, y1, x2, y2
