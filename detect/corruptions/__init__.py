"""What spoils pictures on a mill: nine kinds in five severities, each with a physical parameter, the same every time.

Benchmarks of this kind began with Hendrycks & Dietterich (2019), for detectors with Michaelis et al. (2019). Their
kinds are of streets and weather; these are of cameras over steel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..errors import DataError
from ..images import Pixels, likely_white
from . import effects
from .effects import Draws, Floats

SEVERITIES = 5


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind.

    Attributes:
        parameter, unit: that grows or falls with the severity.
        levels: its values at the severities 1 to 5.
        apply: pixels, value of the parameter, random numbers -> pixels, not yet clipped.
        what: happens to the picture, in words.
    """

    parameter: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Floats, float, Draws], Floats]
    what: str


def corrupt(
    pixels: Pixels, name: str, severity: int, *, seed: int = 0, image: int = 0, max_value: int | None = None
) -> Pixels:
    """A copy of a picture as it would have come in worse conditions.

    What is drawn at random (noise, directions, places of pits) depends on seed, image and name alone: a higher severity
    is more of the same, so that a curve over severities shows these and not another draw.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB, linear in light as far as is known.
        name: a key of ``CORRUPTIONS``.
        severity: 0, the picture itself, to 5.
        seed, image: of the random numbers; the image's position in its data set.
        max_value: white of 16-bit pixels; None: 1023, 4095, 16383 or 65535, the least that holds the brightest.

    Returns:
        Pixels of the same shape and type.

    Raises:
        DataError: an unknown name or severity, or an array that is no picture.
    """
    (kind,) = checked_names([name])
    checked_severities([severity], least=0)
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim != 2 and pixels.shape[2:] != (3,)) or not pixels.size:
        found = f"an array of {pixels.dtype} with shape {pixels.shape} is no image"
        raise DataError(found, fix="give uint8 or uint16 of shape [height, width] or [height, width, 3]")
    if severity == 0:
        return np.array(pixels)
    white = _white(pixels, max_value)
    corruption = CORRUPTIONS[kind]
    draws = np.random.default_rng((seed, image, crc32(kind.encode())))
    floats = corruption.apply(pixels.astype(np.float32) / np.float32(white), corruption.levels[severity - 1], draws)
    return np.asarray(np.rint(np.clip(floats, 0, 1) * white), dtype=pixels.dtype)


def checked_names(names: Iterable[str]) -> list[str]:
    """The names, each once.

    Raises:
        DataError: one that is no key of ``CORRUPTIONS``.
    """
    unique = list(dict.fromkeys(names))
    for name in unique:
        if name not in CORRUPTIONS:
            raise DataError(f"no corruption is called '{name}'", fix=f"choose from {', '.join(CORRUPTIONS)}")
    return unique


def checked_severities(severities: Iterable[int], *, least: int = 1) -> list[int]:
    """The severities, each once, rising.

    Raises:
        DataError: one below ``least`` or above 5.
    """
    for severity in severities:
        if not least <= severity <= SEVERITIES:
            raise DataError(f"there is no severity {severity}", fix=f"give whole numbers from {least} to {SEVERITIES}")
    return sorted(set(severities))


def _white(pixels: Pixels, max_value: int | None) -> int:
    if pixels.dtype == np.uint8:
        return 255
    return max_value or max(likely_white(int(pixels.max())), 1023)


CORRUPTIONS = {
    "noise": Corruption(
        *("signal-to-noise ratio", "dB", (20, 15, 10, 5, 0), effects.noise),
        "Gaussian noise in every pixel, by the ratio of the picture's own variance to the noise's",
    ),
    "blur": Corruption("sigma", "px", (0.5, 1, 1.5, 2.5, 4), effects.blur, "Gaussian blur, out of focus"),
    "motion_blur": Corruption(
        *("length", "px", (3, 5, 9, 15, 25), effects.motion_blur),
        "even motion while the shutter is open, in a direction drawn for each picture",
    ),
    "illumination": Corruption(
        *("more and less light at the ends", "%", (20, 35, 50, 65, 80), effects.illumination),
        "light that grows evenly across the picture, in a direction drawn for each",
    ),
    "overexposure": Corruption(
        "exposure", "EV", (0.25, 0.5, 0.75, 1, 1.5), effects.expose, "more light, cut off at white"
    ),
    "underexposure": Corruption(
        "exposure", "EV", (-0.5, -1, -1.5, -2, -3), effects.expose, "less light, rounded to the picture's own steps"
    ),
    "contrast": Corruption(
        "contrast kept", "%", (70, 50, 35, 20, 10), effects.contrast, "grays drawn towards their mean"
    ),
    "jpeg": Corruption("quality", "of 100", (70, 40, 20, 10, 5), effects.jpeg, "JPEG compression"),
    "scale_pits": Corruption(
        *("pits", "per 10,000 px", (2, 4, 8, 16, effects.MOST_PITS), effects.scale_pits),
        "ragged dark specks, as of scale, of 0.7 to 3.2 px radius, that take 40 to 80 % of the light",
    ),
}
