"""What spoils single frames of a moving strip: blur along the motion, over-exposure, noise, a frame that never came.

Pixels are floats, [height, width] or [height, width, channels], 0 to 1, and come back in the same type. Severities go
from 0, clearly seen, to 1, hardly usable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

SHARES = {"blurred": 0.32, "overexposed": 0.32, "noisy": 0.24, "dropped": 0.12}  # of all degraded frames


def draw_condition(rng: np.random.Generator, rate: float) -> tuple[str, float]:
    """A frame's condition, other than "clean" with probability ``rate``, and its severity, even in 0 to 1."""
    chance, kind, severity = rng.random(3)
    if chance >= rate:
        return "clean", 0.0
    return str(np.array(list(SHARES))[np.searchsorted(np.cumsum(list(SHARES.values())), kind)]), float(severity)


def degrade(
    pixels: Floats, condition: str, severity: float, motion_xy: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """A picture as the camera would have given it in this condition.

    Args:
        pixels: the clean picture.
        condition: a key of ``SHARES``; any other, such as "clean", changes nothing.
        severity: 0 to 1.
        motion_xy: how far the strip moves from frame to frame, in pixels to the right and down; only the larger of
            the two blurs.
        rng: makes the noise.
    """
    if condition == "blurred":
        axis = int(abs(motion_xy[0]) > abs(motion_xy[1]))
        return motion_blur(pixels, smear_px(severity, motion_xy[1 - axis]), axis)
    if condition == "overexposed":
        return overexpose(pixels, 0.5 + 0.45 * severity)
    if condition == "noisy":
        return add_noise(pixels, 0.08 + 0.16 * severity, rng)
    return np.zeros_like(pixels) if condition == "dropped" else pixels


def smear_px(severity: float, motion_px: float) -> float:
    """Length of a blurred frame's smear: the shutter is open for 0.2 to 0.6 of the time between two frames.

    At least 6 pixels, so that a strip almost at rest is seen to shake.
    """
    return max(6.0, (0.2 + 0.4 * severity) * abs(motion_px))


def motion_blur(pixels: Floats, length_px: float, axis: int) -> Floats:
    """The mean over a path of ``length_px`` along an axis (0: down, 1: across) around each pixel; borders repeat."""
    reach = int(np.ceil(length_px / 2 - 0.5))
    if reach < 1:
        return pixels
    padding = [(reach, reach) if i == axis else (0, 0) for i in range(pixels.ndim)]
    padded, size = np.pad(pixels, padding, mode="edge"), pixels.shape[axis]
    total = np.zeros_like(pixels)
    for offset in range(-reach, reach + 1):
        # how much of this pixel the path covers, 1 except at its two ends
        covered = min(abs(offset) + 0.5, length_px / 2) - (abs(offset) - 0.5) if offset else min(1.0, length_px)
        total += pixels.dtype.type(covered) * padded.take(range(reach + offset, reach + offset + size), axis)
    return np.asarray(total / pixels.dtype.type(length_px))


def overexpose(pixels: Floats, white: float) -> Floats:
    """So much more light that a share ``white`` of the pixels is at the end of the scale."""
    least = float(np.quantile(pixels, 1 - white))
    return np.asarray(np.clip(pixels * pixels.dtype.type(1 / max(least, 1e-3)), 0, 1))


def add_noise(pixels: Floats, std: float, rng: np.random.Generator) -> Floats:
    """Independent Gaussian noise in every pixel, as of a sensor with too little light, amplified."""
    return np.asarray(np.clip(pixels + rng.normal(0, std, pixels.shape).astype(pixels.dtype), 0, 1))
