"""What a server does for a request: take it on, read it, detect, and give up what is late or no longer wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from fastapi import Request

from .. import __version__
from ..drawing import class_colours
from ..errors import MemoryShortageError
from ..images import Pixels
from ..records import Detections, Xyxy
from .batching import Batcher, Looked
from .decoding import Upload, decode
from .limits import Limits
from .metrics import Metrics
from .model import Model
from .pictures import as_png
from .refusals import Refusal, busy
from .schema import Answer, Found, Health, ImageRead, LimitsTold, Milliseconds, ModelTold
from .uploading import Intake, read_upload

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

    def __init__(self, model: Model, limits: Limits, *, prepare: Callable[[], None] = lambda: None) -> None:
        self.metrics = Metrics(lambda: self._batcher.waiting)
        self._model, self._limits, self._intake = model, limits, Intake(limits.queue)
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")  # memory for one image on its way
        self._batcher = Batcher(
            model.look, most=limits.queue, batch=limits.batch, prepare=prepare, on_batch=self.metrics.saw_batch
        )

    async def detect(self, request: Request, *, threshold: float | None, shape: str | None, dtype: str) -> Answer:
        """Detections of what a request sends.

        Args:
            request: its head; the body is still to come.
            threshold: lowest score of all classes; None: each class's own.
            shape, dtype: of an array without a header.

        Raises:
            Refusal: too much, too late, or not to be read.
            DataError: an image or array that can't be used.
        """
        with self._intake.place():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            work = self._look(upload)
            pixels, decode_ms, looked = await _answered(request, work, self._limits.timeout_s)
        shown = self._model.kept(looked.found, threshold)
        for each in shown:
            self.metrics.showed(each.label)
        own = self._model.thresholds
        return Answer(
            model=self._model.name,
            image=_described(pixels),
            thresholds=dict(own) if threshold is None else dict.fromkeys(own, threshold),
            detections=_listed(shown),
            batch=looked.batch,
            ms=Milliseconds(
                decode=round(decode_ms, 2), wait=round(looked.waited_ms, 2), detect=round(looked.detect_ms, 2)
            ),
        )

    async def preview(self, request: Request, *, shape: str | None, dtype: str) -> bytes:
        """What a request sends, as a PNG for the eye; otherwise as ``detect``."""
        with self._intake.place():
            upload = await read_upload(request, self._limits, shape=shape, dtype=dtype)
            return await _answered(request, self._decoded(upload, as_png), self._limits.timeout_s)

    def told(self) -> ModelTold:
        """What is served, and within which limits."""
        model, limits = self._model, self._limits
        colours = class_colours(model.categories)
        return ModelTold(
            model=model.name,
            version=__version__,
            categories=list(model.categories),
            thresholds=dict(model.thresholds),
            colours={name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in colours.items()},
            limits=LimitsTold(
                max_bytes=limits.max_bytes,
                max_pixels=limits.max_pixels,
                timeout_s=limits.timeout_s,
                queue=limits.queue,
                batch=limits.batch,
            ),
        )

    def health(self) -> Health:
        """Whether an image would be taken on."""
        ready = self._batcher.ready and self._intake.now < self._intake.most
        return Health(live=True, ready=ready, waiting=self._batcher.waiting)

    def close(self) -> None:
        """Take no more, and return when all that waits is done."""
        self._batcher.close()
        self._decoder.shutdown(wait=False, cancel_futures=True)

    async def _decoded(self, upload: Upload, then: Callable[[Pixels], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoder, lambda: then(decode(upload, self._limits.max_pixels)))

    async def _look(self, upload: Upload) -> tuple[Pixels, float, Looked]:
        start = monotonic()
        pixels = await self._decoded(upload, lambda each: each)
        decode_ms = 1e3 * (monotonic() - start)
        return pixels, decode_ms, await asyncio.wrap_future(self._batcher.submit(pixels))


async def _answered(request: Request, work: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
    """What the work gives, given up when its time is over or nobody waits for it any more."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise Refusal(400, "the client has gone", fix="ask again")
        raise Refusal(504, f"the answer took more than {timeout_s:g} s", fix="send less at once, or smaller images")
    except MemoryShortageError as error:
        raise busy(error.found) from None
    finally:
        for each in (task, gone):
            each.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _described(pixels: Pixels) -> ImageRead:
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    return ImageRead(width=width, height=height, channels=channels, bits=8 * pixels.dtype.itemsize)


def _listed(found: Detections) -> list[Found]:
    return [Found(label=each.label, score=round(each.score, 6), box_xyxy=_rounded(each.xyxy)) for each in found]


def _rounded(xyxy: Xyxy) -> Xyxy:
    x1, y1, x2, y2 = (round(value, 3) for value in xyxy)
    return x1, y1, x2, y2
