"""Image corruptions of cameras in a steel mill: nine kinds in five severities, each with a physical parameter.

Pixels are float32, [height, width] or [height, width, 3], 0 to 1, assumed to be linear in light intensity.

Corruption benchmarks were introduced by Hendrycks & Dietterich (2019), and for detectors by Michaelis et al. (2019),
with corruptions of street scenes and weather.
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
    """Gaussian noise in every pixel and channel. ``snr_db``: image variance divided by noise variance, in dB."""
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    std = float(gray.std(dtype=np.float64)) * 10 ** (-snr_db / 20)
    return np.asarray(pixels + np.float32(std) * rng.standard_normal(pixels.shape, dtype=np.float32))


def blur(pixels: Floats, sigma_px: float, _: Rng) -> Floats:
    """Gaussian blur, as out of focus. The image is mirrored at its borders, as in ``motion_blur``."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))


def motion_blur(pixels: Floats, length_px: float, rng: Rng) -> Floats:
    """Uniform motion during the exposure, in a random direction."""
    kernel = _line_kernel(length_px, rng.uniform(0, np.pi))
    return np.asarray(cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def _line_kernel(length_px: float, angle: float) -> Floats:
    """Kernel of a straight path of constant speed through the centre, with bilinear weights per point."""
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
    """Linear brightness gradient in a random direction, from -``percent`` to +``percent`` at the ends."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, size) for size in pixels.shape[:2])
    across = np.cos(angle) * x + np.sin(angle) * y[:, None]
    gain = 1 + percent / 100 * across / (abs(np.cos(angle)) + abs(np.sin(angle)))
    return pixels * _over_channels(gain, pixels)


def expose(pixels: Floats, stops_ev: float, _: Rng) -> Floats:
    """Exposure change: every stop doubles the light."""
    return np.asarray(pixels * np.float32(2**stops_ev))


def contrast(pixels: Floats, percent: float, _: Rng) -> Floats:
    """Reduced contrast: distances of the grays to their mean are scaled to ``percent``."""
    mean = pixels.mean(dtype=np.float64)
    return np.asarray(mean + percent / 100 * (pixels - mean), dtype=np.float32)


def jpeg(pixels: Floats, quality: float, _: Rng) -> Floats:
    """JPEG compression at 8 bits."""
    eight_bit = np.rint(pixels * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = np.ascontiguousarray(eight_bit[..., ::-1])  # RGB to OpenCV's BGR
    encoded = cv2.imencode(".jpg", eight_bit, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    return np.asarray((decoded if decoded.ndim == 2 else decoded[..., ::-1]) / 255, dtype=np.float32)


def scale_pits(pixels: Floats, per_10000_px: float, rng: Rng) -> Floats:
    """Irregular dark pits with log-uniform radii of 0.7 to 3.2 pixels."""
    height, width = pixels.shape[:2]
    count, max_count = (round(n * height * width / 10_000) for n in (per_10000_px, MAX_PITS))
    pits = rng.random((max_count, 8))[:count]  # the pits of a lower severity are also in a higher one
    light = np.ones((height, width), np.float32)
    for relative_x, relative_y, size, aspect, angle, depth, phase_2, phase_3 in pits:
        center_x, center_y, radius_px = relative_x * width, relative_y * height, 0.7 * 4.5**size
        left, top = (max(int(center - 3 * radius_px), 0) for center in (center_x, center_y))
        part = light[top : int(center_y + 3 * radius_px) + 1, left : int(center_x + 3 * radius_px) + 1]
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        offset = (x + left - center_x + 1j * (y + top - center_y)) * np.exp(1j * np.pi * angle) / radius_px
        offset = offset.real + 1j * offset.imag / (0.4 + 0.6 * aspect)
        polar_angle = np.angle(offset)
        outline = (
            1
            + 0.25 * np.cos(2 * (polar_angle + np.pi * phase_2))
            + 0.15 * np.cos(3 * (polar_angle + 2 * np.pi * phase_3))
        )
        part *= 1 - (0.4 + 0.4 * depth) * 0.5 ** ((abs(offset) * outline) ** 4)
    return pixels * _over_channels(light, pixels)


def _over_channels(gain: NDArray[np.floating[Any]], pixels: Floats) -> Floats:
    return np.asarray(gain if pixels.ndim == 2 else gain[..., None], dtype=np.float32)


SEVERITIES = 5


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        parameter, unit: name and unit of the parameter that changes with the severity.
        levels: values of the parameter at the severities 1 to 5.
        apply: pixels, value of the parameter, random generator -> pixels, not yet clipped.
        what: description of the change.
    """

    parameter: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Floats, float, Rng], Floats]
    what: str


def corrupt(
    pixels: Pixels, name: str, severity: int, *, seed: int = 0, image: int = 0, max_value: int | None = None
) -> Pixels:
    """A corrupted copy of an image.

    The random values (noise, directions, positions of pits) depend on seed, image and name only, not on the severity:
    a curve over severities doesn't mix in another random sample.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB, assumed to be linear in light.
        name: a key of ``CORRUPTIONS``.
        severity: 0 (unchanged) to 5.
        seed: random seed.
        image: index of the image in its data set, for the random generator.
        max_value: white of 16-bit pixels; None: the smallest of 1023, 4095, 16383 and 65535 that isn't exceeded.

    Returns:
        Pixels of the same shape and type.

    Raises:
        DataError: an unknown name or severity, or an array that is no image.
    """
    (kind,) = checked_names([name])
    checked_severities([severity], minimum=0)
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim != 2 and pixels.shape[2:] != (3,)) or not pixels.size:
        message = f"an array of {pixels.dtype} with shape {pixels.shape} is no image"
        raise DataError(message, fix="give uint8 or uint16 of shape [height, width] or [height, width, 3]")
    if severity == 0:
        return np.array(pixels)
    white = _white(pixels, max_value)
    corruption = CORRUPTIONS[kind]
    rng = np.random.default_rng((seed, image, crc32(kind.encode())))
    floats = corruption.apply(pixels.astype(np.float32) / np.float32(white), corruption.levels[severity - 1], rng)
    return np.asarray(np.rint(np.clip(floats, 0, 1) * white), dtype=pixels.dtype)


def checked_names(names: Iterable[str]) -> list[str]:
    """The names without repetitions.

    Raises:
        DataError: a name that is no key of ``CORRUPTIONS``.
    """
    unique = list(dict.fromkeys(names))
    for name in unique:
        if name not in CORRUPTIONS:
            raise DataError(f"no corruption is called '{name}'", fix=f"choose from {', '.join(CORRUPTIONS)}")
    return unique


def checked_severities(severities: Iterable[int], *, minimum: int = 1) -> list[int]:
    """The severities without repetitions, in rising order.

    Raises:
        DataError: a severity below ``minimum`` or above 5.
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
        "Gaussian noise in every pixel; the ratio is image variance to noise variance",
    ),
    "blur": Corruption("sigma", "px", (0.5, 1, 1.5, 2.5, 4), blur, "Gaussian blur, out of focus"),
    "motion_blur": Corruption(
        *("length", "px", (3, 5, 9, 15, 25), motion_blur),
        "uniform motion during the exposure, in a random direction per image",
    ),
    "illumination": Corruption(
        *("brightness change at the ends", "%", (20, 35, 50, 65, 80), illumination),
        "linear brightness gradient, in a random direction per image",
    ),
    "overexposure": Corruption("exposure", "EV", (0.25, 0.5, 0.75, 1, 1.5), expose, "more light, clipped at white"),
    "underexposure": Corruption(
        "exposure", "EV", (-0.5, -1, -1.5, -2, -3), expose, "less light, rounded to the image's gray levels"
    ),
    "contrast": Corruption(
        "contrast kept", "%", (70, 50, 35, 20, 10), contrast, "distances of the grays to their mean are reduced"
    ),
    "jpeg": Corruption("quality", "of 100", (70, 40, 20, 10, 5), jpeg, "JPEG compression"),
    "scale_pits": Corruption(
        *("pits", "per 10,000 px", (2, 4, 8, 16, MAX_PITS), scale_pits),
        "outline dark specks, as of scale, of 0.7 to 3.2 px radius, that take 40 to 80 % of the light",
    ),
}
