"""Image files <-> arrays: gray stays one channel, 16 bits stay 16 bits, what is no whole image is an error."""

from __future__ import annotations

import mmap
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from .errors import DataError
from .whole import whole_file

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff")
MOST_PIXELS = 50_000_000  # that an image may claim, half of it in 16-bit colour: decoded within 1 GB
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")  # Pillow knows more, and starts other programs to decode some of them
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_BLOCK_PIXELS = 4_000_000  # brought to another kind at once
_MOST_SCANS = 200  # passes over a JPEG, of which writers make 10 or so; each costs time and hardly a byte
_CAMERA_BITS = (8, 10, 12, 14)  # that 16-bit files may hold no more than

Pixels = NDArray[Any]  # uint8 or uint16, [height, width] or [height, width, 3] RGB


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header, without decoding it.

    Raises:
        DataError: missing, not an image, or one that claims more than ``MOST_PIXELS``.
    """
    with _open(path) as image:
        return int(image.size[0]), int(image.size[1])


def read_image(path: Path) -> Pixels:
    """Decode a BMP, JPEG, PNG or TIFF file.

    Returns:
        uint8 or uint16 array, [height, width] for gray, [height, width, 3] RGB for colour, with the values that the
        file holds: those of 10 or 12 bits are not brought to 16. Transparency is dropped.

    Raises:
        DataError: missing, truncated, not an image, of more than ``MOST_PIXELS``, or gray values that 16 bits can't
            hold.
    """
    try:
        with _open(path) as image:
            layout = _deep_layout(image)
            if image.format in ("JPEG", "MPO"):
                _check_scans(path)
            image.load()
            if image.mode in _SIXTEEN_BIT:
                return _sixteen_bit(image, path)
            if image.mode == "F":  # Pillow would cut its values off at 255
                raise DataError("gray values with fractions", where=path, fix="save it as 8- or 16-bit gray")
            if layout is None:
                return _eight_bit(image)
        return _deep_channels(path, layout)
    except DataError:
        raise
    except MemoryError:
        found = "the image needs more memory than there is"
        raise DataError(found, where=path, fix="cut it into tiles, or close other programs") from None
    except Exception as error:  # Pillow raises whatever the damage led to: OSError, SyntaxError, struct.error, ...
        found = f"the image is damaged or cut short ({_reason(error)})"
        raise DataError(found, where=path, fix="replace the file") from None


def as_pixels(array: Any) -> Pixels:
    """An array, if it is an image: uint8 or uint16, [height, width] or [height, width, 3]; one channel is dropped.

    Raises:
        DataError: an array of another kind.
    """
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim != 2 and pixels.shape[2:] != (3,)) or not pixels.size:
        found = f"an array of {pixels.dtype} with shape {pixels.shape} is no image"
        raise DataError(found, fix="give uint8 or uint16 of shape [height, width] or [height, width, 3]")
    return pixels


def to_gray(pixels: Pixels) -> Pixels:
    """[height, width] of the same depth; three equal channels give back that channel exactly."""
    if pixels.ndim == 2:
        return pixels
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
        return np.ascontiguousarray(pixels[..., 0])
    gray = np.empty(pixels.shape[:2], pixels.dtype)
    for rows in _blocks(pixels.shape[1], pixels.shape[0]):
        luma = pixels[rows].astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        gray[rows] = np.rint(luma)
    return gray


def to_rgb(pixels: Pixels) -> Pixels:
    """[height, width, 3] of the same depth."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def likely_white(brightest: int) -> int:
    """The white of the camera that wrote 16-bit files with this brightest value: 255, 1023, 4095, 16383 or 65535."""
    return next((2**bits - 1 for bits in _CAMERA_BITS if brightest < 2**bits), 2**16 - 1)


def write_image(path: Path, pixels: Pixels) -> None:
    """Write gray or RGB pixels as a ``whole_file``; the suffix chooses the format."""
    with whole_file(path) as file:
        Pillow.fromarray(pixels).save(file, Pillow.registered_extensions()[path.suffix.lower()])


@contextmanager
def _open(path: Path) -> Iterator[Pillow.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata; damage that matters is an error
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        with _header(path) as image:
            width, height = image.size
            most = MOST_PIXELS if _deep_layout(image) is None else MOST_PIXELS // 2
            if width * height > most:
                raise _too_large(path, f"{width} x {height}", most)
            if width * height < 1:
                raise DataError("the image claims to have no pixels", where=path, fix="replace the file")
            yield image


def _header(path: Path) -> Pillow.Image:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would be waited for
            raise DataError("it is no file but a pipe or device", where=path, fix="give a BMP, JPEG, PNG or TIFF file")
        return Pillow.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise DataError("no such image", where=path, fix="check the path") from None
    except Pillow.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))  # Pillow refuses what is larger still
        raise _too_large(path, claimed[0] if claimed else "too many", MOST_PIXELS) from None
    except DataError:
        raise
    except Exception as error:  # as when it is decoded
        reason = "its content is no image" if isinstance(error, UnidentifiedImageError) else _reason(error)
        fix = "give a BMP, JPEG, PNG or TIFF file"
        raise DataError(f"the image can't be read ({reason})", where=path, fix=fix) from None


def _too_large(path: Path, claimed: str, most: int) -> DataError:
    found = f"the image claims {claimed} pixels, more than the {most:,} that are read"
    return DataError(found, where=path, fix="cut it into tiles, or into files for detect infer --strip")


def _check_scans(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        scans, at = 0, content.find(b"\xff\xda")
        while at >= 0 and scans <= _MOST_SCANS:
            scans, at = scans + 1, content.find(b"\xff\xda", at + 2)
    if scans > _MOST_SCANS:
        found = f"the JPEG has more than {_MOST_SCANS} scans, which only a trap needs"
        raise DataError(found, where=path, fix="replace the file")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split()) or repr(error)


def _blocks(width: int, height: int) -> Iterator[slice]:
    rows = max(1, _BLOCK_PIXELS // max(width, 1))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _eight_bit(image: Pillow.Image) -> Pixels:
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    width, height = image.size
    pixels = np.empty((height, width) if mode == "L" else (height, width, 3), np.uint8)
    for rows in _blocks(width, height):  # whole, Pillow's copies on the way would add up to several images
        pixels[rows] = np.asarray(image.crop((0, rows.start, width, rows.stop)).convert(mode))
    return pixels


def _sixteen_bit(image: Pillow.Image, path: Path) -> Pixels:
    width, height = image.size
    pixels = np.empty((height, width), np.uint16)
    for rows in _blocks(width, height):
        values = np.asarray(image.crop((0, rows.start, width, rows.stop)))
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise DataError("the gray values don't fit 16 bits", where=path, fix="save it as 8- or 16-bit gray")
        pixels[rows] = values
    return pixels


def _deep_layout(image: Pillow.Image) -> str | None:
    """How several channels of 16 bits lie in the file, "LA;16B" say; None of other files. Asked before decoding."""
    if image.format not in ("PNG", "TIFF") or image.mode in _SIXTEEN_BIT:
        return None
    arguments = [tile.args for tile in getattr(image, "tile", ())]
    told = [each if isinstance(each, str) else str(each[0]) for each in arguments if each]
    return next((layout for layout in told if ";16" in layout), None)


def _deep_channels(path: Path, layout: str) -> Pixels:
    """A file that Pillow found whole, read in the depth of which Pillow keeps the upper half only."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise DataError("colour of 16 bits in an unusual layout", where=path, fix="save it as plain 16-bit RGB")
    if layout.startswith("LA"):  # of gray, OpenCV makes three equal channels
        return np.ascontiguousarray(pixels[..., 0])
    rgb = pixels if pixels.shape[2] == 3 else np.empty((*pixels.shape[:2], 3), np.uint16)
    for rows in _blocks(pixels.shape[1], pixels.shape[0]):
        rgb[rows] = pixels[rows, :, 2::-1]
    return np.asarray(rgb)
