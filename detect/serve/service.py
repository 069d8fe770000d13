"""Process requests: queue, decode, detect in batches, count, and abandon them after a timeout or a disconnect."""

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

_MAX_SIDE_PX = 2048


def as_png(pixels: Pixels) -> bytes:
    """An 8-bit PNG with a longer side of at most 2048 pixels; 16 bits are stretched by ``to_uint8``."""
    picture = Pillow.fromarray(to_uint8(pixels))
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A detector with the information that the server needs.

    Attributes:
        name: name in responses.
        categories: class names.
        thresholds: category -> score threshold, used unless a request gives another one.
        detect: returns all detections of each image, by decreasing score. The images of one call have the same size
            and depth. Raises DataError for images that the detector can't process.
    """

    name: str
    categories: tuple[str, ...]
    thresholds: Mapping[str, float]
    detect: Callable[[Sequence[Pixels]], Sequence[Detections]]

    def apply_thresholds(self, detections: Detections, threshold: float | None) -> Detections:
        """Detections with at least the given score, or with None at least the threshold of their class."""
        if threshold is not None:
            return detections.above(threshold)
        limits = [self.thresholds[name] for name in detections.categories]
        keep = [i for i in range(len(detections)) if detections.scores[i] >= limits[detections.labels[i] - 1]]
        return Detections(
            detections.boxes_xyxy[keep], detections.scores[keep], detections.labels[keep], detections.categories
        )


def model_from_predictor(predictor: Predictor, name: str, thresholds: Mapping[str, float]) -> ServedModel:
    """A detector of this library with thresholds by category; scores are calibrated if those of the predictor are."""
    return ServedModel(name, predictor.categories, dict(thresholds), predictor.predict_batch)


def is_export(folder: Path) -> bool:
    """Whether this folder was written by ``detect export``."""
    return (folder / FILE_NAME).is_file()


def model_from_export(folder: Path, name: str, threshold: float | None, *, default: float, threads: int) -> ServedModel:
    """An exported model, which accepts images of one size and gives the uncalibrated scores of the network.

    Args:
        folder: contains contract.json.
        name: name in responses.
        threshold: score threshold for all categories; None: those of the contract.
        default: threshold for categories without one in the contract.
        threads: CPU threads; 0: the default of the runtime.

    Raises:
        DataError: the folder is not an export, or the runtime can't load the model.
        ConfigError: the runtime isn't installed.
    """
    runner = load_exported(folder, threads=threads)
    contract, content = read_contract(folder)
    stored = content.get("thresholds")
    stored = stored if isinstance(stored, dict) else {}
    thresholds = {
        category: float(stored.get(category, default)) if threshold is None else threshold
        for category in runner.categories
    }

    def detect(images: Sequence[Pixels]) -> list[Detections]:
        return [runner(check_bit_depth(each, contract.white)) for each in images]

    return ServedModel(name, runner.categories, thresholds, detect)


METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Any, Any], Any]


class Metrics:
    """Prometheus metrics of a server.

    Args:
        waiting: returns the number of waiting images.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("detect_requests", "Requests answered", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "detect_request_seconds",
            "Time from the head of a request to the end of its response",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram("detect_batch_images", "Images per batch", buckets=_SIZES, registry=self._registry)
        self._detections = Counter("detect_detections", "Detections returned", ["label"], registry=self._registry)
        queue = Gauge("detect_waiting_images", "Images that wait for the detector", registry=self._registry)
        queue.set_function(waiting)

    def observe_batch(self, images: int) -> None:
        """Record the size of a batch."""
        self._batches.observe(images)

    def count_detection(self, label: str) -> None:
        """Count a returned detection."""
        self._detections.labels(label).inc()

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Record an answered request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """ASGI middleware that counts requests; all unknown paths are counted as "other".

    Args:
        app: the wrapped app.
        metrics: the metrics to update.
        paths: known paths.
    """

    def __init__(self, app: AsgiApp, *, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Process a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, status, time.monotonic() - start)


_MAX_WAITING_BYTES = 512 * 2**20  # of all waiting images
_MAX_BATCH_PIXELS = 16 * 640 * 640  # per batch, as in validation

DetectFn = Callable[[Sequence[Pixels]], Sequence[Detections]]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one image.

    Attributes:
        detections: by decreasing score.
        waited_ms: time in the queue.
        detect_ms: time of the whole batch.
        batch: number of images in the batch.
    """

    detections: Detections
    waited_ms: float
    detect_ms: float
    batch: int


@dataclass(frozen=True, slots=True)
class _Job:
    pixels: Pixels
    since: float
    future: Future[BatchResult]


class Batcher:
    """Detects in a separate thread in the order of submission, without waiting for a batch to fill.

    Args:
        detect: the detector; called only from that thread.
        max_waiting: maximum number of waiting images.
        batch: maximum number of images per batch.
        prepare: called in the thread before the first image.
        on_batch: called with the size of each batch.
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
        """Number of waiting images."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether an image would be accepted."""
        return self._thread.is_alive() and not self._closed and self.waiting < self._max_waiting

    def submit(self, pixels: Pixels) -> Future[BatchResult]:
        """Queue an image; if its future is cancelled while it waits, the image is skipped.

        Raises:
            RequestError: too many images wait, or the server is stopping.
        """
        with self._changed:
            if self._closed:
                raise busy_error("the server is stopping")
            waiting_bytes = sum(job.pixels.nbytes for job in self._waiting) + pixels.nbytes
            if len(self._waiting) >= self._max_waiting or (self._waiting and waiting_bytes > _MAX_WAITING_BYTES):
                raise busy_error(f"{len(self._waiting)} images are waiting, which is the limit")
            job = _Job(pixels, time.monotonic(), Future())
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Accept no more images, and return when all waiting images are done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        self._prepare()
        while jobs := self._next():
            self._do(jobs)

    def _next(self) -> list[_Job]:
        """The first waiting job and others with the same image size and depth; empty after ``close``."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                first = self._waiting[0].pixels
                max_jobs = min(self._batch, max(1, _MAX_BATCH_PIXELS // (first.shape[0] * first.shape[1])))
                jobs: list[_Job] = []
                remaining: deque[_Job] = deque()
                for job in self._waiting:
                    fits = job.pixels.shape == first.shape and job.pixels.dtype == first.dtype
                    if len(jobs) == max_jobs or not fits:
                        remaining.append(job)
                    elif job.future.set_running_or_notify_cancel():
                        jobs.append(job)
                self._waiting = remaining
                if jobs:
                    return jobs

    def _do(self, jobs: Sequence[_Job]) -> None:
        start = time.monotonic()
        try:
            results = self._detect([job.pixels for job in jobs])
        except Exception as error:  # raised again where the result is awaited
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # one by one, so that a faulty image or the memory of the batch does not fail the others
                self._do([job])
            return
        took = time.monotonic() - start
        self._on_batch(len(jobs))
        for job, detections in zip(jobs, results):
            job.future.set_result(BatchResult(detections, 1e3 * (start - job.since), 1e3 * took, len(jobs)))


_Result = TypeVar("_Result")


class Service:
    """Processes requests with a decoder thread and a detector thread.

    Args:
        model: the detector.
        limits: limits for requests.
        prepare: called once in the detector thread.

    Attributes:
        metrics: metrics of the server.
    """

    def __init__(self, model: ServedModel, limits: Limits, *, prepare: Callable[[], None] = lambda: None) -> None:
        self.metrics = Metrics(lambda: self._batcher.waiting)
        self._model, self._limits, self._limiter = model, limits, RequestLimiter(limits.queue)
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")  # one thread: memory for one image
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
        """Detections of the image in a request.

        Args:
            request: the request, before its body is read.
            threshold: score threshold for all classes; None: the threshold of each class.
            shape, dtype: of an array without a header.

        Raises:
            RequestError: a limit is exceeded, or the body can't be read.
            DataError: the image or array can't be used.
        """
        with self._limiter.slot():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            work = self._detect(upload)
            pixels, decode_ms, result = await _run_with_timeout(request, work, self._limits.timeout_s)
        detections = self._model.apply_thresholds(result.detections, threshold)
        for each in detections:
            self.metrics.count_detection(each.label)
        thresholds = self._model.thresholds
        return DetectResponse(
            model=self._model.name,
            image=_image_info(pixels),
            thresholds=dict(thresholds) if threshold is None else dict.fromkeys(thresholds, threshold),
            detections=_detection_responses(detections),
            batch=result.batch,
            ms=Timings(decode=round(decode_ms, 2), wait=round(result.waited_ms, 2), detect=round(result.detect_ms, 2)),
        )

    async def preview(self, request: Request, *, shape: str | None, dtype: str) -> bytes:
        """The image in a request as an 8-bit PNG; arguments and errors as for ``detect``."""
        with self._limiter.slot():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            return await _run_with_timeout(request, self._decoded(upload, as_png), self._limits.timeout_s)

    def model_info(self) -> ModelResponse:
        """The detector and the limits of the server."""
        model = self._model
        colours = class_colours(model.categories)
        return ModelResponse(
            model=model.name,
            version=__version__,
            categories=list(model.categories),
            thresholds=dict(model.thresholds),
            colours={name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in colours.items()},
            limits=LimitsResponse.model_validate(self._limits),
        )

    def health(self) -> Health:
        """State of the server; ready if an image would be accepted."""
        ready = self._batcher.ready and self._limiter.active < self._limiter.max_requests
        return Health(live=True, ready=ready, waiting=self._batcher.waiting)

    def close(self) -> None:
        """Accept no more images, and return when all waiting images are done."""
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
    """The result of ``work``, which is cancelled after the timeout or when the client disconnects."""
    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        done, _ = await asyncio.wait({task, disconnect}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if disconnect in done:
            raise RequestError(400, "the client disconnected", fix="send the request again")
        raise RequestError(
            504, f"the response took more than {timeout_s:g} s", fix="send fewer or smaller images at the same time"
        )
    except OutOfMemoryError as error:
        raise busy_error(error.found) from None
    finally:
        for each in (task, disconnect):
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


def _detection_responses(detections: Detections) -> list[DetectionResponse]:
    return [
        DetectionResponse(label=each.label, score=round(each.score, 6), box_xyxy=_round_box(each.xyxy))
        for each in detections
    ]


def _round_box(xyxy: Xyxy) -> Xyxy:
    x1, y1, x2, y2 = (round(value, 3) for value in xyxy)
    return x1, y1, x2, y2
