"""The FastAPI app of the server: its API routes and its web page."""

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
_SCRIPTS = ("asking", "drawing", "keeping", "listing", "main")  # files in script/
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/``, its style sheet, which extends that of the reports, and its scripts."""
    style = read_asset("page.css") + (_HERE / "page.css").read_text(encoding="utf-8")
    _add(app, "/", (_HERE / "page.html").read_text(encoding="utf-8"), "text/html")
    _add(app, "/page.css", style, "text/css")
    _add(app, "/script/theme.js", read_asset("script/theme.js"), "text/javascript")
    for name in _SCRIPTS:
        _add(
            app, f"/script/{name}.js", (_HERE / "script" / f"{name}.js").read_text(encoding="utf-8"), "text/javascript"
        )


def _add(app: FastAPI, path: str, text: str, media_type: str) -> None:
    content = text.encode()

    async def page() -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=_HEADERS)

    app.add_api_route(path, page, include_in_schema=False)


_DESCRIPTION = (
    "Detects defects in images of steel. Every error is JSON with one sentence: the problem, where it is, and the fix. "
    "docs/line.md has examples and a table of limits."
)
_UPLOAD_ERRORS = (400, 408, 413, 415, 422, 500, 503, 504)

_Threshold = Annotated[
    float | None,
    Query(ge=0, le=1, description="Score threshold for all classes. Default: that of each class."),
]
_Shape = Annotated[
    str | None,
    Query(
        description="Shape of an array without a header: height,width or height,width,3.",
        pattern=r"^[0-9]{1,9},[0-9]{1,9}(,[0-9]{1,9})?$",
    ),
]
_Dtype = Annotated[Literal["uint8", "uint16"], Query(description="Data type of an array without a header.")]
_Credentials = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, description="The server's token."))
]


def create_app(
    model: ServedModel, limits: Limits, *, token: str | None = None, prepare: Callable[[], None] = lambda: None
) -> FastAPI:
    """The app of a server; its shutdown processes all waiting images first.

    Args:
        model: the detector.
        limits: limits for requests.
        token: required in requests as ``Authorization: Bearer TOKEN``, except for the page, health and the schema;
            None: no token.
        prepare: called once in the detector thread.
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
        docs_url=None,  # the two documentation pages load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    add_page(app)
    _add_detection_routes(app, service, token)
    _add_monitoring_routes(app, service, token)
    paths = {"/", "/openapi.json", *app.openapi()["paths"]}
    app.add_middleware(MetricsMiddleware, metrics=service.metrics, paths=paths)
    return app


def _add_detection_routes(app: FastAPI, service: Service, token: str | None) -> None:
    options = _route_options(token, *_UPLOAD_ERRORS)

    @app.post("/v1/detect", summary="Detect defects", openapi_extra=UPLOAD, **options)
    async def detect(
        request: Request, threshold: _Threshold = None, shape: _Shape = None, dtype: _Dtype = "uint8"
    ) -> DetectResponse:
        return await service.detect(request, threshold=threshold, shape=shape, dtype=dtype)

    summary = "The image as an 8-bit PNG that a browser can show"
    as_png = {**options, "responses": {200: {"content": {"image/png": {}}}, **options["responses"]}}

    @app.post("/v1/preview", summary=summary, openapi_extra=UPLOAD, response_class=Response, **as_png)
    async def preview(request: Request, shape: _Shape = None, dtype: _Dtype = "uint8") -> Response:
        return Response(await service.preview(request, shape=shape, dtype=dtype), media_type="image/png")


def _add_monitoring_routes(app: FastAPI, service: Service, token: str | None) -> None:
    @app.get("/v1/model", summary="The detector and the limits of the server", **_route_options(token))
    async def model() -> ModelResponse:
        return service.model_info()

    unready: dict[int | str, dict[str, Any]] = {
        503: {"model": Health, "description": "The server is running but does not accept images at the moment."}
    }

    @app.get("/health", summary="State of the server", response_model=Health, responses=unready)
    async def health() -> JSONResponse:
        state = service.health()
        return JSONResponse(state.model_dump(), 200 if state.ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse, **_route_options(token))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=METRICS_CONTENT_TYPE)


def _route_options(token: str | None, *statuses: int) -> dict[str, Any]:
    """Error responses and, with a token, the token check of a route."""
    if token is None:
        return {"responses": error_responses(*statuses)}
    return {"responses": error_responses(401, *statuses), "dependencies": [Depends(_token_check(token))]}


def _token_check(token: str) -> Callable[..., None]:
    def check(given: _Credentials) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            message = "the request has no token" if given is None else "the token is wrong"
            headers = {"WWW-Authenticate": "Bearer"}
            raise RequestError(401, message, fix="send the header Authorization: Bearer TOKEN", headers=headers)

    return check
