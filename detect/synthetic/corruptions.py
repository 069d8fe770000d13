"""What spoils pictures on a mill: nine kinds in five severities, each with a physical parameter.

Pixels are float32, [height, width] or [height, width, 3], 0 to 1, taken to be linear in light.

Benchmarks of this kind began with Hendrycks & Dietterich (2019), for detectors with Michaelis et al. (2019). Their
kinds are of streets and weather; these are of cameras over steel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import Pixels, likely_white

Floats = NDArray[np.float32]
Rng = np.random.Generator

MAX_PITS = 32  # per 10,000 pixels


def noise(pixels: Floats, snr_db: float, rng: Rng) -> Floats:
    """Gaussian noise in every pixel and channel; ``snr_db`` is the picture's own variance over the noise's."""
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    std = float(gray.std(dtype=np.float64)) * 10 ** (-snr_db / 20)
    return np.asarray(pixels + np.float32(std) * rng.standard_normal(pixels.shape, dtype=np.float32))


def blur(pixels: Floats, sigma_px: float, _: Rng) -> Floats:
    """Out of focus. What lies beyond the border is taken to mirror what lies within, as in ``motion_blur``."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))


def motion_blur(pixels: Floats, length_px: float, rng: Rng) -> Floats:
    """Even motion while the shutter is open, in a direction drawn at random."""
    kernel = _line_kernel(length_px, rng.uniform(0, np.pi))
    return np.asarray(cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def _line_kernel(length_px: float, angle: float) -> Floats:
    """A straight path of even speed through the middle, each point shared out among the four pixels around it."""
    reach = int(np.ceil(length_px / 2)) + 1
    along = (np.arange(64 * reach) + 0.5) / (64 * reach) * length_px - length_px / 2
    x, y = along * np.cos(angle) + reach, along * np.sin(angle) + reach
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for dx in (0, 1):
        for dy in (0, 1):
            np.add.at(kernel, (top + dy, left + dx), (1 - abs(x - left - dx)) * (1 - abs(y - top - dy)))
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def illumination(pixels: Floats, percent: float, rng: Rng) -> Floats:
    """Light that grows evenly across the picture, in a direction drawn at random, by ``percent`` to either side."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, size) for size in pixels.shape[:2])
    across = np.cos(angle) * x + np.sin(angle) * y[:, None]
    gain = 1 + percent / 100 * across / (abs(np.cos(angle)) + abs(np.sin(angle)))
    return pixels * _over_channels(gain, pixels)


def expose(pixels: Floats, stops_ev: float, _: Rng) -> Floats:
    """Twice the light for each stop."""
    return np.asarray(pixels * np.float32(2**stops_ev))


def contrast(pixels: Floats, percent: float, _: Rng) -> Floats:
    """Grays drawn towards their mean, until ``percent`` of their distance is left."""
    mean = pixels.mean(dtype=np.float64)
    return np.asarray(mean + percent / 100 * (pixels - mean), dtype=np.float32)


def jpeg(pixels: Floats, quality: float, _: Rng) -> Floats:
    """Compressed and read again, at 8 bits."""
    eight_bit = np.rint(pixels * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = np.ascontiguousarray(eight_bit[..., ::-1])  # OpenCV's colours run from blue to red
    packed = cv2.imencode(".jpg", eight_bit, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    read = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))
    return np.asarray((read if read.ndim == 2 else read[..., ::-1]) / 255, dtype=np.float32)


def scale_pits(pixels: Floats, per_10000_px: float, rng: Rng) -> Floats:
    """Ragged dark specks, radius 0.7 to 3.2 pixels, small ones as often as large ones twice their size."""
    height, width = pixels.shape[:2]
    count, most = (round(n * height * width / 10_000) for n in (per_10000_px, MAX_PITS))
    pits = rng.random((most, 8))[:count]  # those of a lower severity are among those of a higher one
    light = np.ones((height, width), np.float32)
    for place_x, place_y, size, aspect, angle, depth, phase_2, phase_3 in pits:
        middle_x, middle_y, radius_px = place_x * width, place_y * height, 0.7 * 4.5**size
        left, top = (max(int(middle - 3 * radius_px), 0) for middle in (middle_x, middle_y))
        part = light[top : int(middle_y + 3 * radius_px) + 1, left : int(middle_x + 3 * radius_px) + 1]
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        offset = (x + left - middle_x + 1j * (y + top - middle_y)) * np.exp(1j * np.pi * angle) / radius_px
        offset = offset.real + 1j * offset.imag / (0.4 + 0.6 * aspect)
        turn = np.angle(offset)
        ragged = 1 + 0.25 * np.cos(2 * (turn + np.pi * phase_2)) + 0.15 * np.cos(3 * (turn + 2 * np.pi * phase_3))
        part *= 1 - (0.4 + 0.4 * depth) * 0.5 ** ((abs(offset) * ragged) ** 4)
    return pixels * _over_channels(light, pixels)


def _over_channels(gain: NDArray[np.floating[Any]], pixels: Floats) -> Floats:
    return np.asarray(gain if pixels.ndim == 2 else gain[..., None], dtype=np.float32)


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
    apply: Callable[[Floats, float, Rng], Floats]
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
    checked_severities([severity], minimum=0)
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


def checked_severities(severities: Iterable[int], *, minimum: int = 1) -> list[int]:
    """The severities, each once, rising.

    Raises:
        DataError: one below ``least`` or above 5.
    """
    for severity in severities:
        if not minimum <= severity <= SEVERITIES:
            raise DataError(
                f"there is no severity {severity}", fix=f"give whole numbers from {minimum} to {SEVERITIES}"
            )
    return sorted(set(severities))


def _white(pixels: Pixels, max_value: int | None) -> int:
    if pixels.dtype == np.uint8:
        return 255
    return max_value or max(likely_white(int(pixels.max())), 1023)


CORRUPTIONS = {
    "noise": Corruption(
        *("signal-to-noise ratio", "dB", (20, 15, 10, 5, 0), noise),
        "Gaussian noise in every pixel, by the ratio of the picture's own variance to the noise's",
    ),
    "blur": Corruption("sigma", "px", (0.5, 1, 1.5, 2.5, 4), blur, "Gaussian blur, out of focus"),
    "motion_blur": Corruption(
        *("length", "px", (3, 5, 9, 15, 25), motion_blur),
        "even motion while the shutter is open, in a direction drawn for each picture",
    ),
    "illumination": Corruption(
        *("more and less light at the ends", "%", (20, 35, 50, 65, 80), illumination),
        "light that grows evenly across the picture, in a direction drawn for each",
    ),
    "overexposure": Corruption("exposure", "EV", (0.25, 0.5, 0.75, 1, 1.5), expose, "more light, cut off at white"),
    "underexposure": Corruption(
        "exposure", "EV", (-0.5, -1, -1.5, -2, -3), expose, "less light, rounded to the picture's own steps"
    ),
    "contrast": Corruption("contrast kept", "%", (70, 50, 35, 20, 10), contrast, "grays drawn towards their mean"),
    "jpeg": Corruption("quality", "of 100", (70, 40, 20, 10, 5), jpeg, "JPEG compression"),
    "scale_pits": Corruption(
        *("pits", "per 10,000 px", (2, 4, 8, 16, MAX_PITS), scale_pits),
        "ragged dark specks, as of scale, of 0.7 to 3.2 px radius, that take 40 to 80 % of the light",
    ),
}
