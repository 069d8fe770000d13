"""What a request is refused with: a status and one sentence, the same shape for whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from ..errors import DetectError

BUSY_S = 1  # after which it is worth asking again

MEANINGS: dict[int, str] = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    408: "The upload took too long.",
    413: "The body has too many bytes, or the image too many pixels.",
    415: "The body is of a type that isn't read.",
    422: "A parameter is wrong, or the image or array can't be used.",
    500: "A mistake in this program.",
    503: "The server is busy, stopping, or short of memory; Retry-After tells when to ask again.",
    504: "The answer took too long.",
}


class Refusal(DetectError):
    """A request that gets no result.

    Args:
        status: of HTTP.
        found, where, fix: as for every ``DetectError``.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        found: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(found, where=where, fix=fix)
        self.status, self.headers = status, dict(headers or {})


def busy(found: str) -> Refusal:
    """503: it would work a moment later."""
    return Refusal(503, found, fix=f"ask again after {BUSY_S} s", headers={"Retry-After": str(BUSY_S)})


def answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as it is sent."""
    return JSONResponse({"error": sentence}, status, dict(headers or {}))


def install(app: FastAPI) -> None:
    """Let every refusal of an app, its framework's own included, be one sentence in JSON."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return answer(error.status, str(error), error.headers)

    async def unusable(_: Request, error: Exception) -> JSONResponse:
        return answer(422, str(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(422, "; ".join(map(_in_words, error.errors())))

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        reason = str(getattr(error, "detail", error)).rstrip(".")
        fix = "send one part named image, as in curl -F image=@plate.png"
        return answer(400, str(Refusal(400, f"the form is malformed ({reason})", fix=fix)))

    async def unknown(request: Request, _: Exception) -> JSONResponse:
        known = ", ".join(sorted(app.openapi()["paths"]))
        error = Refusal(404, "there is nothing here", where=request.url.path[:200], fix=f"the paths are {known}")
        return answer(404, str(error))

    async def unfit(request: Request, error: Exception) -> JSONResponse:
        headers = getattr(error, "headers", None) or {}
        allowed = headers.get("Allow", "GET")
        found = f"{request.method} is not possible here"
        return answer(405, str(Refusal(405, found, where=request.url.path[:200], fix=f"use {allowed}")), headers)

    async def mistaken(_: Request, __: Exception) -> JSONResponse:  # the server prints its traceback
        return answer(500, "a mistake in this program; its output on the server tells more")

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(DetectError, unusable)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(400, malformed)
    app.add_exception_handler(404, unknown)
    app.add_exception_handler(405, unfit)
    app.add_exception_handler(Exception, mistaken)


def _in_words(error: Mapping[str, Any]) -> str:
    """ "threshold is '7': input should be less than or equal to 1"."""
    name = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    given = repr(error.get("input"))
    message = str(error["msg"])
    found = DetectError(f"{name} is {given:.60}: {message[:1].lower()}{message[1:]}")
    return str(found)
