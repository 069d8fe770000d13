"""A request's body, read no further than the limits allow and no longer than the clock does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from fastapi import Request

from .decoding import ALIASES, IMAGE_TYPES, NPY_TYPE, RAW_TYPE, Upload, parse_shape
from .limits import Limits
from .refusals import Refusal, busy

_FORM_TYPE = "multipart/form-data"
_LONGEST_NAME = 100  # characters of a file's name in messages
_TAKEN = (*IMAGE_TYPES, NPY_TYPE, RAW_TYPE, _FORM_TYPE)


class Intake:
    """How many requests are at work, and the most that are taken on."""

    def __init__(self, most: int) -> None:
        self.most, self.now = most, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one while a request is at work.

        Raises:
            Refusal: none is left.
        """
        if self.now >= self.most:
            raise busy(f"{self.now} requests are at work, as many as are taken on")
        self.now += 1
        try:
            yield
        finally:
            self.now -= 1


async def read_upload(request: Request, limits: Limits, *, shape: str | None, dtype: str) -> Upload:
    """What a request sends.

    Args:
        request: its head; the body is still to come.
        limits: of bytes and time.
        shape, dtype: of an array without a header, as the query tells them.

    Raises:
        Refusal: a type that isn't read, too long, too slow, or a malformed form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = ALIASES.get(kind, kind)
    if kind not in _TAKEN:
        found = f"the content type is {kind!r:.60}" if kind else "no content type is told"
        raise Refusal(415, found, fix=f"send one of {', '.join(_TAKEN)}")
    if shape is not None and kind != RAW_TYPE:
        raise Refusal(422, f"shape is told for {kind}", fix=f"leave it out, or send the bare values as {RAW_TYPE}")
    _check_length(request, limits)
    limited = Request(request.scope, _limited(request, limits))
    try:
        if kind == _FORM_TYPE:
            upload = await asyncio.wait_for(_from_form(limited), limits.timeout_s)
        else:
            content = await asyncio.wait_for(limited.body(), limits.timeout_s)
            upload = Upload(content, shape=None if shape is None else parse_shape(shape), dtype=dtype)
    except asyncio.TimeoutError:
        found = f"the upload took more than {limits.timeout_s:g} s"
        headers = {"Connection": "close"}
        raise Refusal(408, found, fix="send a smaller file, or over a faster connection", headers=headers) from None
    return upload


def _check_length(request: Request, limits: Limits) -> None:
    told = request.headers.get("content-length")
    if told is not None and told.isdecimal() and int(told) > limits.max_bytes:
        raise _too_long(int(told), limits)


def _too_long(length: int, limits: Limits) -> Refusal:
    found = f"the body has {length:,} bytes or more, and {limits.max_mb:g} MiB ({limits.max_bytes:,}) are taken"
    return Refusal(413, found, fix="send a smaller file, or start the server with more --max-mb")


def _limited(request: Request, limits: Limits) -> Any:
    """The request's messages, as long as they stay within the limit."""
    came = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal came
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the client has gone before its upload was whole", fix="send it again")
        came += len(message.get("body", b""))
        if came > limits.max_bytes:
            raise _too_long(came, limits)
        return message

    return receive


async def _from_form(request: Request) -> Upload:
    """The part named image."""
    async with request.form(max_files=1, max_fields=8, max_part_size=1024) as form:
        part = form.get("image")
        if part is None or isinstance(part, str):
            fix = "send one part named image, with a file in it: curl -F image=@plate.png"
            raise Refusal(422, "the form holds no file named image", fix=fix)
        name = (part.filename or "")[:_LONGEST_NAME]
        return Upload(await part.read(), name or "the image")
