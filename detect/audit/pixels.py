"""One look at an image's pixels: is it whole, and what would its copies share with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ..errors import DataError
from ..images import Pixels, read_image, read_orientation, read_size, to_gray

_LARGE_PIXELS = 4_000_000  # an image of more is decoded alone, so that several at once don't fill the memory
_ONE_AT_A_TIME = Lock()

SIDE = 32  # pixels; shrinking to it forgives compression, noise, scaling and a shift by a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What is kept of an image.

    Attributes:
        digest: of all gray values and the size; equal for equal pixels, whatever the file format.
        small: float32[32, 32], mean gray value of each tile.
        brightness, contrast: mean and standard deviation of the gray values; 1 is the brightest of the file's depth.
        brightest: the largest gray value of a 16-bit image; None for one of 8 bits.
        orientation: the file's orientation tag, 1 to 8, which the pixels were turned by.
    """

    digest: bytes
    small: NDArray[np.float32]
    brightness: float = 0.0
    contrast: float = 0.0
    brightest: int | None = None
    orientation: int = 1


def fingerprints(paths: Sequence[Path]) -> list[Fingerprint | DataError]:
    """Decode each file once, on all cores; the error stands in for a file that is damaged or cut short."""
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(_fingerprint, paths))


def _fingerprint(path: Path) -> Fingerprint | DataError:
    try:
        width, height = read_size(path)
        with _ONE_AT_A_TIME if width * height > _LARGE_PIXELS else nullcontext():
            return _of(to_gray(read_image(path)), read_orientation(path))
    except DataError as error:
        return error


def _of(gray: Pixels, orientation: int) -> Fingerprint:
    digest = blake2b(f"{gray.dtype} {gray.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(gray).data)
    picture = Pillow.fromarray(gray if gray.dtype == np.uint8 else gray.astype(np.float32))
    small = picture.resize((SIDE, SIDE), Pillow.Resampling.BOX)
    white = float(np.iinfo(gray.dtype).max)
    mean, spread = float(gray.mean()) / white, float(gray.std(dtype=np.float64)) / white
    brightest = int(gray.max()) if gray.dtype == np.uint16 else None
    return Fingerprint(digest.digest(), np.asarray(small, dtype=np.float32), mean, spread, brightest, orientation)
