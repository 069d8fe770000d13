"""Image files <-> arrays: gray stays one channel, 16 bits stay 16 bits, a truncated file is an error."""

from __future__ import annotations

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

SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")

Pixels = NDArray[Any]  # uint8 or uint16, [height, width] or [height, width, 3] RGB


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header, without decoding it."""
    with _open(path) as image:
        width, height = image.size
        return int(width), int(height)


def read_image(path: Path) -> Pixels:
    """Decode a BMP, JPEG, PNG or TIFF file.

    Returns:
        uint8 or uint16 array, [height, width] for gray, [height, width, 3] RGB for colour. Colour comes in 8 bits:
        of 16-bit colour files the upper half is read. Transparency is dropped.

    Raises:
        DataError: missing, truncated, not an image, or gray values that 16 bits can't hold.
    """
    with _open(path) as image:
        try:
            image.load()
            if image.mode in _SIXTEEN_BIT:
                return _sixteen_bit(np.asarray(image), path)
            if image.mode == "F":  # Pillow would cut its values off at 255
                raise DataError("gray values with fractions", where=path, fix="save it as 8- or 16-bit gray")
            if image.mode not in ("L", "RGB"):
                image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
            return np.array(image)
        except (OSError, SyntaxError, ValueError) as error:
            found = f"the image is damaged or cut short ({_reason(error)})"
            raise DataError(found, where=path, fix="replace the file") from None


def to_gray(pixels: Pixels) -> Pixels:
    """[height, width] of the same depth; three equal channels give back that channel exactly."""
    if pixels.ndim == 2:
        return pixels
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
        return np.ascontiguousarray(pixels[..., 0])
    luma = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    return np.asarray(np.rint(luma), dtype=pixels.dtype)


def to_rgb(pixels: Pixels) -> Pixels:
    """[height, width, 3] of the same depth."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def write_image(path: Path, pixels: Pixels) -> None:
    """Write gray or RGB pixels; the suffix chooses the format."""
    Pillow.fromarray(pixels).save(path)


@contextmanager
def _open(path: Path) -> Iterator[Pillow.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata; damage that matters is an error
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        try:
            image = Pillow.open(path)
        except FileNotFoundError:
            raise DataError("no such image", where=path, fix="check the path") from None
        except Pillow.DecompressionBombError as error:
            found = f"the image claims too many pixels ({error})"
            raise DataError(found, where=path, fix="cut it into tiles") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = "its content is no image" if isinstance(error, UnidentifiedImageError) else _reason(error)
            fix = "give a BMP, JPEG, PNG or TIFF file"
            raise DataError(f"the image can't be read ({reason})", where=path, fix=fix) from None
        with image:
            yield image


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _sixteen_bit(values: Pixels, path: Path) -> Pixels:
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
        raise DataError("the gray values don't fit 16 bits", where=path, fix="save it as 8- or 16-bit gray")
    return values.astype(np.uint16)
