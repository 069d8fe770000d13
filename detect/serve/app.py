"""The routes of the server, what their answers hold, and its page."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .. import __version__
from ..report.page import read_asset
from .requests import (
    UPLOAD,
    DetectResponse,
    Health,
    Limits,
    ModelResponse,
    RequestError,
    error_responses,
    install_error_handlers,
)
from .service import METRICS_CONTENT_TYPE, MetricsMiddleware, ServedModel, Service

_HERE = Path(__file__).parent
_SCRIPTS = ("asking", "drawing", "keeping", "listing", "main")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/``, its style, which builds on that of reports, and its scripts."""
    style = read_asset("page.css") + (_HERE / "page.css").read_text(encoding="utf-8")
    _add(app, "/", (_HERE / "page.html").read_text(encoding="utf-8"), "text/html")
    _add(app, "/page.css", style, "text/css")
    _add(app, "/script/theme.js", read_asset("script/theme.js"), "text/javascript")
    for name in _SCRIPTS:
        _add(
            app, f"/script/{name}.js", (_HERE / "script" / f"{name}.js").read_text(encoding="utf-8"), "text/javascript"
        )


def _add(app: FastAPI, path: str, text: str, kind: str) -> None:
    content = text.encode()

    async def page() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    app.add_api_route(path, page, include_in_schema=False)


_DESCRIPTION = (
    "Defects in images of steel. Every refusal is JSON with one sentence: what was found, where, and what to do. "
    "docs/line.md has examples and a table of limits."
)
_UPLOAD_REFUSED = (400, 408, 413, 415, 422, 500, 503, 504)

_Threshold = Annotated[
    float | None, Query(ge=0, le=1, description="Lowest score to show, of all classes; else each class's own.")
]
_Shape = Annotated[
    str | None,
    Query(
        description="Of an array without a header: height,width or height,width,3.",
        pattern=r"^[0-9]{1,9},[0-9]{1,9}(,[0-9]{1,9})?$",
    ),
]
_Dtype = Annotated[Literal["uint8", "uint16"], Query(description="Of the values of an array without a header.")]
_Credentials = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, description="The server's token."))
]


def create_app(
    model: ServedModel, limits: Limits, *, token: str | None = None, prepare: Callable[[], None] = lambda: None
) -> FastAPI:
    """A server's app; closing it finishes what waits.

    Args:
        model: that detects.
        limits: what is taken on.
        token: that requests have to bring as ``Authorization: Bearer TOKEN``, but for the page, health and the schema;
            None: none.
        prepare: called once in the thread that detects.
    """
    service = Service(model, limits, prepare=prepare)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(
        title="detect",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # it and the next one load their scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    add_page(app)
    _add_detection_routes(app, service, token)
    _add_monitoring_routes(app, service, token)
    known = {"/", "/openapi.json", *app.openapi()["paths"]}
    app.add_middleware(MetricsMiddleware, metrics=service.metrics, paths=known)
    return app


def _add_detection_routes(app: FastAPI, service: Service, token: str | None) -> None:
    locked = _route_options(token, *_UPLOAD_REFUSED)

    @app.post("/v1/detect", summary="Find defects", openapi_extra=UPLOAD, **locked)
    async def detect(
        request: Request, threshold: _Threshold = None, shape: _Shape = None, dtype: _Dtype = "uint8"
    ) -> DetectResponse:
        return await service.detect(request, threshold=threshold, shape=shape, dtype=dtype)

    summary = "The image as an 8-bit PNG that a browser can show"
    as_png = {**locked, "responses": {200: {"content": {"image/png": {}}}, **locked["responses"]}}

    @app.post("/v1/preview", summary=summary, openapi_extra=UPLOAD, response_class=Response, **as_png)
    async def preview(request: Request, shape: _Shape = None, dtype: _Dtype = "uint8") -> Response:
        return Response(await service.preview(request, shape=shape, dtype=dtype), media_type="image/png")


def _add_monitoring_routes(app: FastAPI, service: Service, token: str | None) -> None:
    @app.get("/v1/model", summary="What is served", **_route_options(token))
    async def model() -> ModelResponse:
        return service.model_info()

    unready: dict[int | str, dict[str, Any]] = {
        503: {"model": Health, "description": "It lives, and takes nothing on just now."}
    }

    @app.get("/health", summary="Whether the server works", response_model=Health, responses=unready)
    async def health() -> JSONResponse:
        state = service.health()
        return JSONResponse(state.model_dump(), 200 if state.ready else 503)

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse, **_route_options(token))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=METRICS_CONTENT_TYPE)


def _route_options(token: str | None, *refused: int) -> dict[str, Any]:
    """What a route says of the token and its refusals."""
    if token is None:
        return {"responses": error_responses(*refused)}
    return {"responses": error_responses(401, *refused), "dependencies": [Depends(_token_check(token))]}


def _token_check(token: str) -> Callable[..., None]:
    def check(given: _Credentials) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            found = "no token came with the request" if given is None else "the token is not this server's"
            headers = {"WWW-Authenticate": "Bearer"}
            raise RequestError(401, found, fix="send the header Authorization: Bearer TOKEN", headers=headers)

    return check
