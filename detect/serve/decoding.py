"""Bytes that strangers send -> pixels, with size and shape looked at before anything is decoded or allocated."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy

from ..errors import DataError
from ..images import FORMATS_READ, GIVE_AN_IMAGE, Pixels, as_pixels, read_image, read_size
from .refusals import Refusal

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
_LONGEST_HEADER = 4096  # bytes of an .npy header; an image's has 80


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
        Refusal: no content, or more pixels than ``max_pixels``.
        DataError: damaged, or no image.
    """
    if not upload.content:
        raise Refusal(422, "the body is empty", where=upload.name, fix="send the bytes of an image or an array")
    if upload.shape is not None:
        dtype = np.dtype(upload.dtype).newbyteorder("<")
        return _array(upload, upload.shape, dtype, upload.content, max_pixels)
    if upload.content.startswith(_NPY_MAGIC):
        return _npy(upload, max_pixels)
    return _image(upload, max_pixels)


def parse_shape(text: str) -> tuple[int, ...]:
    """ "200,200" or "200,200,3" -> the shape of an array.

    Raises:
        Refusal: anything else.
    """
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise Refusal(422, f"shape is {text!r:.60}", fix="give height,width or height,width,3, such as 200,200")
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
        shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
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
        raise Refusal(413, found, where=upload.name, fix="send it in parts, or start the server with more --max-pixels")
