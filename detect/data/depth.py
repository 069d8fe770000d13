"""How deep pixels are: which gray value is white, and pixels as fractions of it."""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import Pixels, likely_white

MIN_WHITE = 255  # a camera's largest gray value can't be less
MOST = 65535  # gray value of white in 16-bit pixels, unless data.max_value says otherwise


def white_of(pixels: Pixels, max_value: int | None) -> int:
    """The gray value of white: 255 of 8-bit pixels, of 16-bit ones ``max_value``, and 65535 where it is None."""
    return 255 if pixels.dtype == np.uint8 else max_value or MOST


def unit_range(pixels: Pixels, max_value: int | None = None) -> NDArray[np.float32]:
    """uint8 or uint16 -> float32 in 0 to 1: black is 0, white is 1; all 16 bits are kept.

    Args:
        pixels: of any shape.
        max_value: white of 16-bit pixels; None: 65535. Those of 8 bits have their white at 255 in any case.
    """
    return np.asarray(pixels.astype(np.float32) * np.float32(1 / white_of(pixels, max_value)))


def check_depth(pixels: Pixels, max_value: int | None, where: str | PathLike[str] | None = None) -> Pixels:
    """The pixels, if none of them is beyond white: clipped, they would lose what the camera saw.

    Raises:
        DataError: 16-bit pixels hold more than ``max_value``.
    """
    if max_value is not None and pixels.dtype == np.uint16 and int(pixels.max(initial=0)) > max_value:
        found = f"the image has gray values up to {int(pixels.max()):,}, beyond the white of {max_value:,}"
        fix = "tell the white of its camera (--max-value; in training data.max_value), or give images of another depth"
        raise DataError(found, where=where, fix=fix)
    return pixels


def depth_in_words(
    brightest: int, max_value: int | None, *, setting: str = "data.max_value="
) -> tuple[str, str | None]:
    """What 16-bit images are taken for, and a warning where their brightest gray value is that of fewer bits.

    Args:
        brightest: their largest gray value.
        max_value: white; None: 65535, as nothing else was said.
        setting: what says it, as it is written before the number.
    """
    white = max_value or MOST
    said = f"16-bit images: black is 0 and white {white:,} ({setting.rstrip(' =') if max_value else 'the whole depth'})"
    likely = likely_white(brightest)
    if max_value is not None or likely == MOST:
        return said, None
    bits = likely.bit_length()
    warning = (
        f"the 16-bit images go up to {brightest:,} of {white:,}, as those of a camera of {bits} bits do: "
        f"{setting}{likely} would give them the whole range"
    )
    return said, warning
