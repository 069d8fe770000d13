"""Untrusted requests: read within limits, decoded safely, and rejected with one sentence; schemas of the API."""

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
        max_mb: size of a request body, in MiB.
        max_pixels: pixels of an image, from its header; the limit of ``read_image`` applies as well.
        timeout_s: time for an upload, and again for its response, in seconds.
        queue: requests in progress at the same time, including uploads.
        batch: images of the same size per batch of the network.

    Raises:
        ConfigError: a limit is not above 0 or is too large.
    """

    max_mb: float = 20.0
    max_pixels: int = 20_000_000
    timeout_s: float = 30.0
    queue: int = 64
    batch: int = 8

    def __post_init__(self) -> None:
        for name, value, max_value in (
            ("max-mb", self.max_mb, 4096),
            ("max-pixels", self.max_pixels, MOST_PIXELS),
            ("timeout", self.timeout_s, 86_400),
            ("queue", self.queue, 10_000),
            ("batch", self.batch, 256),
        ):
            if not 0 < value <= max_value:
                raise ConfigError(f"--{name} is {value}", fix=f"give more than 0 and at most {max_value:,}")

    @property
    def max_bytes(self) -> int:
        """Size of a request body, in bytes."""
        return int(self.max_mb * MEBIBYTE)


RETRY_AFTER_S = 1  # seconds after which a client should retry

STATUS_DESCRIPTIONS: dict[int, str] = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    408: "The upload took too long.",
    413: "The body has too many bytes, or the image too many pixels.",
    415: "The content type of the body is not supported.",
    422: "A parameter is wrong, or the image or array can't be used.",
    500: "Internal error of the server.",
    503: "The server is busy, stopping, or out of memory; Retry-After gives the time until a retry.",
    504: "The response took too long.",
}


class RequestError(DetectError):
    """A request that is answered with an error.

    Args:
        status: HTTP status code.
        found, where, fix: as for every ``DetectError``.
        headers: additional response headers.
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


def busy_error(message: str) -> RequestError:
    """A 503 error, with the time until a retry."""
    return RequestError(503, message, fix=f"retry after {RETRY_AFTER_S} s", headers={"Retry-After": str(RETRY_AFTER_S)})


def error_response(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The JSON response of an error."""
    return JSONResponse({"error": sentence}, status, dict(headers or {}))


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app, including those of FastAPI, with one sentence in JSON."""

    async def request_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestError)
        return error_response(error.status, str(error), error.headers)

    async def data_error(_: Request, error: Exception) -> JSONResponse:
        return error_response(422, str(error))

    async def invalid_parameter(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(422, "; ".join(map(_validation_message, error.errors())))

    async def malformed_form(_: Request, error: Exception) -> JSONResponse:
        reason = str(getattr(error, "detail", error)).rstrip(".")
        fix = "send one part named image, as in curl -F image=@plate.png"
        return error_response(400, str(RequestError(400, f"the form is malformed ({reason})", fix=fix)))

    async def unknown_path(request: Request, _: Exception) -> JSONResponse:
        paths = ", ".join(sorted(app.openapi()["paths"]))
        error = RequestError(404, "the path does not exist", where=request.url.path[:200], fix=f"the paths are {paths}")
        return error_response(404, str(error))

    async def wrong_method(request: Request, error: Exception) -> JSONResponse:
        headers = getattr(error, "headers", None) or {}
        allowed = headers.get("Allow", "GET")
        message = f"{request.method} is not allowed here"
        return error_response(
            405, str(RequestError(405, message, where=request.url.path[:200], fix=f"use {allowed}")), headers
        )

    async def internal_error(_: Request, __: Exception) -> JSONResponse:  # uvicorn prints the traceback
        return error_response(500, "internal error; see the output of the server")

    app.add_exception_handler(RequestError, request_error)
    app.add_exception_handler(DetectError, data_error)
    app.add_exception_handler(RequestValidationError, invalid_parameter)
    app.add_exception_handler(400, malformed_form)
    app.add_exception_handler(404, unknown_path)
    app.add_exception_handler(405, wrong_method)
    app.add_exception_handler(Exception, internal_error)


def _validation_message(error: Mapping[str, Any]) -> str:
    """ "threshold is '7': input should be less than or equal to 1"."""
    name = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    given = repr(error.get("input"))
    message = str(error["msg"])
    return str(DetectError(f"{name} is {given:.60}: {message[:1].lower()}{message[1:]}"))


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
_MAX_NPY_HEADER = 4096  # bytes; the header of an image has 80


@dataclass(frozen=True, slots=True)
class Upload:
    """The content of a request.

    Attributes:
        content: the bytes of an image file, an .npy file, or a raw array.
        name: name for messages.
        shape: shape of a raw array; None: an image or .npy file.
        dtype: data type of a raw array: "uint8", or "uint16" in little-endian order.
    """

    content: bytes
    name: str = "the image"
    shape: tuple[int, ...] | None = None
    dtype: str = "uint8"


def decode(upload: Upload, max_pixels: int) -> Pixels:
    """The pixels of an upload, uint8 or uint16, [height, width] or [height, width, 3].

    Args:
        upload: the content of a request.
        max_pixels: maximum number of pixels.

    Raises:
        RequestError: no content, or more pixels than ``max_pixels``.
        DataError: the content is damaged or not an image.
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
        RequestError: the text has another form.
    """
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise RequestError(422, f"shape is {text!r:.60}", fix="give height,width or height,width,3, such as 200,200")
    return tuple(map(int, parts))


def _image(upload: Upload, max_pixels: int) -> Pixels:
    """Decode via a temporary file, because ``read_image`` is tested with damaged and hostile files."""
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
    """The fix of an error, worded for the sender of a file instead of its owner."""
    fixes = {"replace the file": "send another file", GIVE_AN_IMAGE: f"send a {FORMATS_READ} file"}
    return fixes.get(error.fix or "", error.fix)


def _npy(upload: Upload, max_pixels: int) -> Pixels:
    """Decode an .npy file: its header is parsed as literals and its values are not unpickled, so no code can run."""
    file = io.BytesIO(upload.content)
    fix = "save it with numpy.save from a uint8 or uint16 array"
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]}")
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:  # a damaged header can raise any exception
        reason = " ".join(str(error).split())[:120] or repr(error)
        raise DataError(f"the .npy header can't be read ({reason})", where=upload.name, fix=fix) from None
    if dtype.hasobject or dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise DataError(f"the .npy file contains {dtype!s:.40}, not pixels", where=upload.name, fix=fix)
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
        message = f"an array of shape {shape!s:.60} is no image"
        raise DataError(message, where=upload.name, fix="give [height, width] or [height, width, 3]")
    _check_pixels(upload, shape[1], shape[0], max_pixels)
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(values):
        message = f"shape {shape!s:.60} of {dtype.name} needs {needed:,} bytes, but {len(values):,} were received"
        raise DataError(message, where=upload.name, fix="send the complete array with its shape and dtype")
    array = np.frombuffer(values, dtype).reshape(shape, order=order)
    return np.ascontiguousarray(as_pixels(array.astype(dtype.newbyteorder("="))))


def _check_pixels(upload: Upload, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        message = f"{width} x {height} are more than the {max_pixels:,} pixels that this server accepts"
        raise RequestError(
            413, message, where=upload.name, fix="send it in parts, or start the server with a larger --max-pixels"
        )


_FORM_TYPE = "multipart/form-data"
_MAX_NAME_LENGTH = 100  # characters of a file name in messages
_CONTENT_TYPES = (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE, _FORM_TYPE)


class RequestLimiter:
    """Counts the requests in progress and limits their number."""

    def __init__(self, max_requests: int) -> None:
        self.max_requests, self.active = max_requests, 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count a request as in progress.

        Raises:
            RequestError: the maximum is reached.
        """
        if self.active >= self.max_requests:
            raise busy_error(f"{self.active} requests are in progress, which is the limit")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1


async def read_upload(request: Request, limits: Limits, *, shape: str | None, dtype: str) -> Upload:
    """Receive the body of a request.

    Args:
        request: the request, before its body is read.
        limits: limits for bytes and time.
        shape, dtype: query parameters of an array without a header.

    Raises:
        RequestError: the content type is not supported, the body is too large or too slow, or the form is malformed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content_type = ALIASES.get(content_type, content_type)
    if content_type not in _CONTENT_TYPES:
        message = f"the content type is {content_type!r:.60}" if content_type else "the content type is missing"
        raise RequestError(415, message, fix=f"send one of {', '.join(_CONTENT_TYPES)}")
    if shape is not None and content_type != RAW_TYPE:
        message = f"shape is given for {content_type}"
        raise RequestError(422, message, fix=f"leave it out, or send the raw values as {RAW_TYPE}")
    _check_length(request, limits)
    limited = Request(request.scope, _limited_receive(request, limits))
    try:
        if content_type == _FORM_TYPE:
            upload = await asyncio.wait_for(_from_form(limited), limits.timeout_s)
        else:
            content = await asyncio.wait_for(limited.body(), limits.timeout_s)
            upload = Upload(content, shape=None if shape is None else parse_shape(shape), dtype=dtype)
    except asyncio.TimeoutError:
        message = f"the upload took more than {limits.timeout_s:g} s"
        headers = {"Connection": "close"}
        raise RequestError(
            408, message, fix="send a smaller file, or over a faster connection", headers=headers
        ) from None
    return upload


def _check_length(request: Request, limits: Limits) -> None:
    length = request.headers.get("content-length")
    if length is not None and length.isdecimal() and int(length) > limits.max_bytes:
        raise _body_too_large(int(length), limits)


def _body_too_large(length: int, limits: Limits) -> RequestError:
    message = f"the body has {length:,} bytes or more, but the limit is {limits.max_mb:g} MiB ({limits.max_bytes:,})"
    return RequestError(413, message, fix="send a smaller file, or start the server with a larger --max-mb")


def _limited_receive(request: Request, limits: Limits) -> Any:
    """The ASGI receive function of a request, which raises when the body exceeds the limit."""
    received = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal received
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "the client disconnected before its upload was complete", fix="send it again")
        received += len(message.get("body", b""))
        if received > limits.max_bytes:
            raise _body_too_large(received, limits)
        return message

    return receive


async def _from_form(request: Request) -> Upload:
    """The form part named image."""
    async with request.form(max_files=1, max_fields=8, max_part_size=1024) as form:
        part = form.get("image")
        if part is None or isinstance(part, str):
            fix = "send one part named image, with a file in it: curl -F image=@plate.png"
            raise RequestError(422, "the form has no file named image", fix=fix)
        name = (part.filename or "")[:_MAX_NAME_LENGTH]
        return Upload(await part.read(), name or "the image")


Score = Annotated[float, Field(ge=0, le=1)]


class ErrorResponse(BaseModel):
    """An error."""

    error: str = Field(description="One sentence: the problem, where it is, and the fix.")


class DetectionResponse(BaseModel):
    """One detection."""

    label: str = Field(description="Class name.")
    score: Score
    box_xyxy: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the image, 0-based; x2 and y2 exclusive."
    )


class ImageInfo(BaseModel):
    """The decoded image."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    channels: int = Field(description="1: gray, 3: colour.")
    bits: int = Field(description="Bits per value, 8 or 16.")


class Timings(BaseModel):
    """Processing times in milliseconds."""

    decode: float = Field(description="Time to decode the image.")
    wait: float = Field(description="Time in the queue.")
    detect: float = Field(description="Time in the network, for the whole batch.")


class DetectResponse(BaseModel):
    """Detections of an image."""

    model: str = Field(description="Name of the detector.")
    image: ImageInfo
    thresholds: dict[str, Score] = Field(description="Score threshold of each class.")
    detections: list[DetectionResponse] = Field(description="Sorted by decreasing score.")
    batch: int = Field(description="Number of images in the batch.")
    ms: Timings


class LimitsResponse(BaseModel, from_attributes=True):
    """Limits of the server."""

    max_bytes: int
    max_pixels: int
    timeout_s: float
    queue: int
    batch: int


class ModelResponse(BaseModel):
    """The detector and the limits of the server."""

    model: str
    version: str = Field(description="Version of the library.")
    categories: list[str]
    thresholds: dict[str, Score] = Field(description="Score threshold of each class, used by default.")
    colours: dict[str, str] = Field(description="Colour of each class in drawn images, #rrggbb.")
    limits: LimitsResponse


class Health(BaseModel):
    """State of the server."""

    live: bool = Field(description="Whether the process responds.")
    ready: bool = Field(description="Whether the server accepts images now.")
    waiting: int = Field(description="Number of images that wait for the detector.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the OpenAPI schema."""
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
        "description": f"A {FORMATS_READ} file of one image, gray or colour, 8 or 16 bits, rotated according to its "
        "orientation tag; an .npy file; or the raw values of an array in C order, uint8 or little-endian uint16, with "
        "its shape in the query.",
        "content": {
            **{each: _BINARY for each in (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE)},
            "multipart/form-data": _FORM,
        },
    }
}
