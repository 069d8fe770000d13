"""Bytes that strangers send: read no further than the limits allow, decoded with care, refused in one sentence."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from numpy.lib import format as npy
from pydantic import BaseModel, Field

from ..errors import ConfigError, DataError, DetectError
from ..images import FORMATS_READ, GIVE_AN_IMAGE, MOST_PIXELS, Pixels, as_pixels, read_image, read_size

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_mb: of a request's body, in MiB.
        max_pixels: of an image, as its header claims; what ``read_image`` refuses is refused in any case.
        timeout_s: that an upload may take, and then again that its answer may take.
        queue: requests that are taken on at once, those still being uploaded included.
        batch: images of one size that the network looks at together.

    Raises:
        ConfigError: a limit that nothing could meet.
    """

    max_mb: float = 20.0
    max_pixels: int = 20_000_000
    timeout_s: float = 30.0
    queue: int = 64
    batch: int = 8

    def __post_init__(self) -> None:
        for name, value, most in (
            ("max-mb", self.max_mb, 4096),
            ("max-pixels", self.max_pixels, MOST_PIXELS),
            ("timeout", self.timeout_s, 86_400),
            ("queue", self.queue, 10_000),
            ("batch", self.batch, 256),
        ):
            if not 0 < value <= most:
                raise ConfigError(f"--{name} is {value}", fix=f"give more than 0 and at most {most:,}")

    @property
    def max_bytes(self) -> int:
        """Of a body."""
        return int(self.max_mb * MEBIBYTE)


RETRY_AFTER_S = 1  # after which it is worth asking again

STATUS_DESCRIPTIONS: dict[int, str] = {
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


class RequestError(DetectError):
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


def busy_error(found: str) -> RequestError:
    """503: it would work a moment later."""
    return RequestError(
        503, found, fix=f"ask again after {RETRY_AFTER_S} s", headers={"Retry-After": str(RETRY_AFTER_S)}
    )


def error_response(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as it is sent."""
    return JSONResponse({"error": sentence}, status, dict(headers or {}))


def install_error_handlers(app: FastAPI) -> None:
    """Let every refusal of an app, its framework's own included, be one sentence in JSON."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestError)
        return error_response(error.status, str(error), error.headers)

    async def unusable(_: Request, error: Exception) -> JSONResponse:
        return error_response(422, str(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(422, "; ".join(map(_validation_message, error.errors())))

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        reason = str(getattr(error, "detail", error)).rstrip(".")
        fix = "send one part named image, as in curl -F image=@plate.png"
        return error_response(400, str(RequestError(400, f"the form is malformed ({reason})", fix=fix)))

    async def unknown(request: Request, _: Exception) -> JSONResponse:
        known = ", ".join(sorted(app.openapi()["paths"]))
        error = RequestError(404, "there is nothing here", where=request.url.path[:200], fix=f"the paths are {known}")
        return error_response(404, str(error))

    async def unfit(request: Request, error: Exception) -> JSONResponse:
        headers = getattr(error, "headers", None) or {}
        allowed = headers.get("Allow", "GET")
        found = f"{request.method} is not possible here"
        return error_response(
            405, str(RequestError(405, found, where=request.url.path[:200], fix=f"use {allowed}")), headers
        )

    async def mistaken(_: Request, __: Exception) -> JSONResponse:  # the server prints its traceback
        return error_response(500, "a mistake in this program; its output on the server tells more")

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(DetectError, unusable)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(400, malformed)
    app.add_exception_handler(404, unknown)
    app.add_exception_handler(405, unfit)
    app.add_exception_handler(Exception, mistaken)


def _validation_message(error: Mapping[str, Any]) -> str:
    """ "threshold is '7': input should be less than or equal to 1"."""
    name = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    given = repr(error.get("input"))
    message = str(error["msg"])
    found = DetectError(f"{name} is {given:.60}: {message[:1].lower()}{message[1:]}")
    return str(found)


IMAGE_TYPES = (
    *("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/gif", "image/webp"),
    *("image/x-portable-graymap", "image/x-portable-pixmap", "image/x-portable-bitmap", "image/x-portable-anymap"),
)
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/tif": "image/tiff",
}
NPY_TYPE, RAW_TYPE = "application/x-npy", "application/octet-stream"
_NPY_MAGIC = b"\x93NUMPY"
_MAX_NPY_HEADER = 4096  # bytes of an .npy header; an image's has 80


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent.

    Attributes:
        content: the bytes of an image file, an .npy file, or an array's values.
        name: what messages call it.
        shape: of the values of an array; None: the content tells what it is.
        dtype: of these values, "uint8", or "uint16" with the lower byte first.
    """

    content: bytes
    name: str = "the image"
    shape: tuple[int, ...] | None = None
    dtype: str = "uint8"


def decode(upload: Upload, max_pixels: int) -> Pixels:
    """The pixels of an upload, uint8 or uint16, [height, width] or [height, width, 3].

    Args:
        upload: what was sent.
        max_pixels: the most to decode.

    Raises:
        RequestError: no content, or more pixels than ``max_pixels``.
        DataError: damaged, or no image.
    """
    if not upload.content:
        raise RequestError(422, "the body is empty", where=upload.name, fix="send the bytes of an image or an array")
    if upload.shape is not None:
        dtype = np.dtype(upload.dtype).newbyteorder("<")
        return _array(upload, upload.shape, dtype, upload.content, max_pixels)
    if upload.content.startswith(_NPY_MAGIC):
        return _npy(upload, max_pixels)
    return _image(upload, max_pixels)


def parse_shape(text: str) -> tuple[int, ...]:
    """ "200,200" or "200,200,3" -> the shape of an array.

    Raises:
        RequestError: anything else.
    """
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise RequestError(422, f"shape is {text!r:.60}", fix="give height,width or height,width,3, such as 200,200")
    return tuple(map(int, parts))


def _image(upload: Upload, max_pixels: int) -> Pixels:
    """By the one way that image files are read, which is from a file: damaged and hostile ones were tried there."""
    with TemporaryDirectory(prefix="detect-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(upload.content)
        try:
            width, height = read_size(path)
            _check_pixels(upload, width, height, max_pixels)
            return read_image(path)
        except DataError as error:
            raise DataError(error.found, where=upload.name, fix=_fix(error)) from None


def _fix(error: DataError) -> str | None:
    """Advice for whoever sent the file, not for whoever has it on a disk."""
    for_senders = {"replace the file": "send another file", GIVE_AN_IMAGE: f"send a {FORMATS_READ} file"}
    return for_senders.get(error.fix or "", error.fix)


def _npy(upload: Upload, max_pixels: int) -> Pixels:
    """Only the header is parsed, and as literals; values are taken as they lie, so that no object is ever made."""
    file = io.BytesIO(upload.content)
    fix = "save it with numpy.save from a uint8 or uint16 array"
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]}")
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:  # whatever the damage led to
        reason = " ".join(str(error).split())[:120] or repr(error)
        raise DataError(f"the .npy header can't be read ({reason})", where=upload.name, fix=fix) from None
    if dtype.hasobject or dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise DataError(f"the .npy file holds {dtype!s:.40}, no pixels", where=upload.name, fix=fix)
    return _array(upload, shape, dtype, upload.content[file.tell() :], max_pixels, order="F" if fortran else "C")


def _array(
    upload: Upload,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    values: bytes,
    max_pixels: int,
    *,
    order: Literal["C", "F"] = "C",
) -> Pixels:
    if len(shape) not in (2, 3) or min(shape) < 1 or shape[2:] not in ((), (1,), (3,)):
        found = f"an array of shape {shape!s:.60} is no image"
        raise DataError(found, where=upload.name, fix="give [height, width] or [height, width, 3]")
    _check_pixels(upload, shape[1], shape[0], max_pixels)
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(values):
        found = f"shape {shape!s:.60} of {dtype.name} takes {needed:,} bytes, and {len(values):,} came"
        raise DataError(found, where=upload.name, fix="send the array whole, and its own shape and dtype")
    array = np.frombuffer(values, dtype).reshape(shape, order=order)
    return np.ascontiguousarray(as_pixels(array.astype(dtype.newbyteorder("="))))


def _check_pixels(upload: Upload, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        found = f"{width} x {height} are more than the {max_pixels:,} pixels that this server takes"
        raise RequestError(
            413, found, where=upload.name, fix="send it in parts, or start the server with more --max-pixels"
        )


_FORM_TYPE = "multipart/form-data"
_MAX_NAME_LENGTH = 100  # characters of a file's name in messages
_CONTENT_TYPES = (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE, _FORM_TYPE)


class RequestLimiter:
    """How many requests are at work, and the most that are taken on."""

    def __init__(self, max_requests: int) -> None:
        self.max_requests, self.active = max_requests, 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one while a request is at work.

        Raises:
            RequestError: none is left.
        """
        if self.active >= self.max_requests:
            raise busy_error(f"{self.active} requests are at work, as many as are taken on")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1


async def read_upload(request: Request, limits: Limits, *, shape: str | None, dtype: str) -> Upload:
    """What a request sends.

    Args:
        request: its head; the body is still to come.
        limits: of bytes and time.
        shape, dtype: of an array without a header, as the query tells them.

    Raises:
        RequestError: a type that isn't read, too long, too slow, or a malformed form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = ALIASES.get(kind, kind)
    if kind not in _CONTENT_TYPES:
        found = f"the content type is {kind!r:.60}" if kind else "no content type is told"
        raise RequestError(415, found, fix=f"send one of {', '.join(_CONTENT_TYPES)}")
    if shape is not None and kind != RAW_TYPE:
        raise RequestError(422, f"shape is told for {kind}", fix=f"leave it out, or send the bare values as {RAW_TYPE}")
    _check_length(request, limits)
    limited = Request(request.scope, _limited_receive(request, limits))
    try:
        if kind == _FORM_TYPE:
            upload = await asyncio.wait_for(_from_form(limited), limits.timeout_s)
        else:
            content = await asyncio.wait_for(limited.body(), limits.timeout_s)
            upload = Upload(content, shape=None if shape is None else parse_shape(shape), dtype=dtype)
    except asyncio.TimeoutError:
        found = f"the upload took more than {limits.timeout_s:g} s"
        headers = {"Connection": "close"}
        raise RequestError(
            408, found, fix="send a smaller file, or over a faster connection", headers=headers
        ) from None
    return upload


def _check_length(request: Request, limits: Limits) -> None:
    told = request.headers.get("content-length")
    if told is not None and told.isdecimal() and int(told) > limits.max_bytes:
        raise _body_too_large(int(told), limits)


def _body_too_large(length: int, limits: Limits) -> RequestError:
    found = f"the body has {length:,} bytes or more, and {limits.max_mb:g} MiB ({limits.max_bytes:,}) are taken"
    return RequestError(413, found, fix="send a smaller file, or start the server with more --max-mb")


def _limited_receive(request: Request, limits: Limits) -> Any:
    """The request's messages, as long as they stay within the limit."""
    came = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal came
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "the client has gone before its upload was whole", fix="send it again")
        came += len(message.get("body", b""))
        if came > limits.max_bytes:
            raise _body_too_large(came, limits)
        return message

    return receive


async def _from_form(request: Request) -> Upload:
    """The part named image."""
    async with request.form(max_files=1, max_fields=8, max_part_size=1024) as form:
        part = form.get("image")
        if part is None or isinstance(part, str):
            fix = "send one part named image, with a file in it: curl -F image=@plate.png"
            raise RequestError(422, "the form holds no file named image", fix=fix)
        name = (part.filename or "")[:_MAX_NAME_LENGTH]
        return Upload(await part.read(), name or "the image")


Score = Annotated[float, Field(ge=0, le=1)]


class ErrorResponse(BaseModel):
    """Why there is no result."""

    error: str = Field(description="One sentence: what was found, where, and what to do.")


class DetectionResponse(BaseModel):
    """One detection."""

    label: str = Field(description="Its class.")
    score: Score
    box_xyxy: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the image, 0-based; x2 and y2 exclusive."
    )


class ImageInfo(BaseModel):
    """The image as it was read."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    channels: int = Field(description="1: gray, 3: colour.")
    bits: int = Field(description="Of a value, 8 or 16.")


class Timings(BaseModel):
    """Where the time went."""

    decode: float = Field(description="Until the image was read.")
    wait: float = Field(description="Until it was its turn.")
    detect: float = Field(description="In the network, together with the batch.")


class DetectResponse(BaseModel):
    """What was found in an image."""

    model: str = Field(description="The detector's name.")
    image: ImageInfo
    thresholds: dict[str, Score] = Field(description="The lowest score shown, by class.")
    detections: list[DetectionResponse] = Field(description="Best score first.")
    batch: int = Field(description="Images that the network looked at together.")
    ms: Timings


class LimitsResponse(BaseModel):
    """What the server takes on."""

    max_bytes: int
    max_pixels: int
    timeout_s: float
    queue: int
    batch: int


class ModelResponse(BaseModel):
    """The detector and the server's limits."""

    model: str
    version: str = Field(description="Of the library.")
    categories: list[str]
    thresholds: dict[str, Score] = Field(description="The lowest score shown unless a request asks otherwise.")
    colours: dict[str, str] = Field(description="Of each class in pictures, #rrggbb.")
    limits: LimitsResponse


class Health(BaseModel):
    """Whether the server works."""

    live: bool = Field(description="The process answers.")
    ready: bool = Field(description="An image would be taken on now.")
    waiting: int = Field(description="Images that wait for the detector.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its documentation."""
    return {status: {"model": ErrorResponse, "description": STATUS_DESCRIPTIONS[status]} for status in statuses}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "string", "format": "binary", "description": "An image file, or an .npy file."}
        },
    }
}

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"A {FORMATS_READ} file of one image, gray or colour, 8 or 16 bits, turned upright as its "
        "orientation tag says; an .npy file; or the bare values of an array in C order, uint8 or uint16 with the lower "
        "byte first, whose shape the query tells.",
        "content": {
            **{each: _BINARY for each in (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE)},
            "multipart/form-data": _FORM,
        },
    }
}
