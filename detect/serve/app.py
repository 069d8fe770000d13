"""The routes: an image to detections, an image to a picture for the eye, the model, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .. import __version__
from ..drawing import class_colours
from ..errors import MemoryShortageError
from ..images import Pixels
from ..records import Xyxy
from .batching import Batcher, Looked
from .decoding import Upload, decode
from .limits import Limits
from .metrics import TEXT, Counted, Metrics
from .model import Model
from .page import add_page
from .pictures import as_png
from .refusals import Refusal, busy, install
from .schema import UPLOAD, Answer, Found, Health, ImageRead, LimitsTold, Milliseconds, ModelTold, problems
from .uploading import Intake, read_upload

_Result = TypeVar("_Result")
_REFUSED = (400, 408, 413, 415, 422, 500, 503, 504)
_ABOUT = (
    "Defects in images of steel. Every refusal is JSON with one sentence: what was found, where, and what to do. "
    "docs/line.md has examples and a table of limits."
)


def create_app(
    model: Model, limits: Limits, *, token: str | None = None, prepare: Callable[[], None] = lambda: None
) -> FastAPI:
    """A server's app; closing it finishes what waits.

    Args:
        model: that detects.
        limits: what is taken on.
        token: that requests have to bring as ``Authorization: Bearer TOKEN``, but for the page and health; None: none.
        prepare: called once in the thread that detects.
    """
    metrics = Metrics(lambda: batcher.waiting)
    batcher = Batcher(model.look, most=limits.queue, batch=limits.batch, prepare=prepare, on_batch=metrics.saw_batch)
    intake = Intake(limits.queue)
    decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")  # one at a time: memory for one image on its way
    colours = {name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in class_colours(model.categories).items()}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, batcher.close)

    app = FastAPI(
        title="detect", version=__version__, description=_ABOUT, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False,  # these pages load their scripts from the network
    )  # fmt: skip
    install(app)
    add_page(app)
    guarded = [] if token is None else [Depends(_checks(token))]
    locked = () if token is None else (401,)

    async def decoded(upload: Upload, then: Callable[[Pixels], _Result]) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(decoder, lambda: then(decode(upload, limits.max_pixels)))

    @app.post(
        "/v1/detect", summary="Find defects", response_model=Answer, dependencies=guarded, openapi_extra=UPLOAD,
        responses=problems(*locked, *_REFUSED),
    )  # fmt: skip
    async def detect(
        request: Request,
        threshold: Annotated[
            float | None, Query(ge=0, le=1, description="Lowest score to show, of all classes; else each class's own.")
        ] = None,
        shape: _Shape = None,
        dtype: _Dtype = "uint8",
    ) -> Answer:
        async def work(upload: Upload) -> tuple[Pixels, float, Looked]:
            start = monotonic()
            pixels = await decoded(upload, lambda each: each)
            took = monotonic() - start
            return pixels, 1e3 * took, await asyncio.wrap_future(batcher.submit(pixels))

        with intake.place():
            upload = await read_upload(request, limits, shape=shape, dtype=dtype)
            pixels, decode_ms, looked = await _answered(request, work(upload), limits.timeout_s)
        shown = model.kept(looked.found, threshold)
        for each in shown:
            metrics.showed(each.label)
        return Answer(
            model=model.name,
            image=_described(pixels),
            thresholds=dict(model.thresholds if threshold is None else dict.fromkeys(model.categories, threshold)),
            detections=[
                Found(label=each.label, score=round(each.score, 6), box_xyxy=_rounded(each.xyxy)) for each in shown
            ],
            batch=looked.batch,
            ms=Milliseconds(
                decode=round(decode_ms, 2), wait=round(looked.waited_ms, 2), detect=round(looked.detect_ms, 2)
            ),
        )

    @app.post(
        "/v1/preview", summary="The image as an 8-bit PNG that a browser can show", dependencies=guarded,
        openapi_extra=UPLOAD, response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems(*locked, *_REFUSED)},
    )  # fmt: skip
    async def preview(request: Request, shape: _Shape = None, dtype: _Dtype = "uint8") -> Response:
        with intake.place():
            upload = await read_upload(request, limits, shape=shape, dtype=dtype)
            content = await _answered(request, decoded(upload, as_png), limits.timeout_s)
        return Response(content, media_type="image/png")

    @app.get(
        "/v1/model", summary="What is served", response_model=ModelTold, dependencies=guarded,
        responses=problems(*locked),
    )  # fmt: skip
    async def told() -> ModelTold:
        limited = LimitsTold(
            max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, timeout_s=limits.timeout_s,
            queue=limits.queue, batch=limits.batch,
        )  # fmt: skip
        return ModelTold(
            model=model.name, version=__version__, categories=list(model.categories),
            thresholds=dict(model.thresholds), colours=colours, limits=limited,
        )  # fmt: skip

    @app.get(
        "/health", summary="Whether the server works", response_model=Health,
        responses={503: {"model": Health, "description": "It lives, and takes nothing on just now."}},
    )  # fmt: skip
    async def health() -> JSONResponse:
        ready = batcher.ready and intake.now < intake.most
        content = Health(live=True, ready=ready, waiting=batcher.waiting)
        return JSONResponse(content.model_dump(), 200 if ready else 503)

    @app.get(
        "/metrics", summary="For Prometheus", response_class=PlainTextResponse, dependencies=guarded,
        responses=problems(*locked),
    )  # fmt: skip
    async def counted() -> Response:
        return Response(metrics.text(), media_type=TEXT)

    known = {"/", "/openapi.json", *app.openapi()["paths"]}
    app.add_middleware(Counted, metrics=metrics, paths=known)
    return app


_Shape = Annotated[
    str | None,
    Query(
        description="Of an array without a header: height,width or height,width,3.",
        pattern=r"^[0-9]{1,9},[0-9]{1,9}(,[0-9]{1,9})?$",
    ),
]
_Dtype = Annotated[Literal["uint8", "uint16"], Query(description="Of the values of an array without a header.")]


_Given = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, description="The server's token."))
]


def _rounded(xyxy: Xyxy) -> Xyxy:
    x1, y1, x2, y2 = (round(value, 3) for value in xyxy)
    return x1, y1, x2, y2


def _described(pixels: Pixels) -> ImageRead:
    height, width = pixels.shape[:2]
    return ImageRead(width=width, height=height, channels=1 if pixels.ndim == 2 else 3, bits=8 * pixels.dtype.itemsize)


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


def _checks(token: str) -> Callable[..., None]:
    def check(given: _Given) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            found = "no token came with the request" if given is None else "the token is not this server's"
            headers = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, found, fix="send the header Authorization: Bearer TOKEN", headers=headers)

    return check
