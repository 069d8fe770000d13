"""The physics behind each corruption: pixels, the value of its parameter, random numbers -> pixels, not yet clipped.

Pixels are float32, [height, width] or [height, width, 3], 0 to 1, taken to be linear in light.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Draws = np.random.Generator

MOST_PITS = 32  # per 10,000 pixels


def noise(pixels: Floats, snr_db: float, draws: Draws) -> Floats:
    """Gaussian noise in every pixel and channel; ``snr_db`` is the picture's own variance over the noise's."""
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    std = float(gray.std(dtype=np.float64)) * 10 ** (-snr_db / 20)
    return np.asarray(pixels + np.float32(std) * draws.standard_normal(pixels.shape, dtype=np.float32))


def blur(pixels: Floats, sigma_px: float, _: Draws) -> Floats:
    """Out of focus. What lies beyond the border is taken to mirror what lies within, as in ``motion_blur``."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))


def motion_blur(pixels: Floats, length_px: float, draws: Draws) -> Floats:
    """Even motion while the shutter is open, in a direction drawn at random."""
    kernel = _line_kernel(length_px, draws.uniform(0, np.pi))
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


def illumination(pixels: Floats, percent: float, draws: Draws) -> Floats:
    """Light that grows evenly across the picture, in a direction drawn at random, by ``percent`` to either side."""
    angle = draws.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, size) for size in pixels.shape[:2])
    across = np.cos(angle) * x + np.sin(angle) * y[:, None]
    gain = 1 + percent / 100 * across / (abs(np.cos(angle)) + abs(np.sin(angle)))
    return pixels * _over_channels(gain, pixels)


def expose(pixels: Floats, stops_ev: float, _: Draws) -> Floats:
    """Twice the light for each stop."""
    return np.asarray(pixels * np.float32(2**stops_ev))


def contrast(pixels: Floats, percent: float, _: Draws) -> Floats:
    """Grays drawn towards their mean, until ``percent`` of their distance is left."""
    mean = pixels.mean(dtype=np.float64)
    return np.asarray(mean + percent / 100 * (pixels - mean), dtype=np.float32)


def jpeg(pixels: Floats, quality: float, _: Draws) -> Floats:
    """Compressed and read again, at 8 bits."""
    eight_bit = np.rint(pixels * 255).astype(np.uint8)
    if eight_bit.ndim == 3:
        eight_bit = np.ascontiguousarray(eight_bit[..., ::-1])  # OpenCV's colours run from blue to red
    packed = cv2.imencode(".jpg", eight_bit, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    read = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))
    return np.asarray((read if read.ndim == 2 else read[..., ::-1]) / 255, dtype=np.float32)


def scale_pits(pixels: Floats, per_10000_px: float, draws: Draws) -> Floats:
    """Ragged dark specks, radius 0.7 to 3.2 pixels, small ones as often as large ones twice their size."""
    height, width = pixels.shape[:2]
    count, most = (round(n * height * width / 10_000) for n in (per_10000_px, MOST_PITS))
    pits = draws.random((most, 8))[:count]  # those of a lower severity are among those of a higher one
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
