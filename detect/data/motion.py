"""How far a strip has moved between two frames, read from the frames themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import Pixels

_MIN_PEAK = 30.0  # correlation times the root of the cells compared; unrelated frames and black ones stay below
_MIN_CORRELATION = 0.75  # a correlation that is trusted in frames too small to reach that
_MAX_MOTION = 0.5  # of the frame's sides: with a motion beyond that, the frames share too little
_GRAIN_PX, _LIGHT_PX = 2.0, 12.0  # details finer than the one are noise, coarser than the other they are light

Plane = NDArray[np.float32]


def estimate_motion(before: Pixels, after: Pixels, max_value: int | None = None) -> tuple[float, float] | None:
    """Pixels (right, down) that the surface moved from one frame to the next.

    The frames are freed of light and noise and laid over each other in all ways at once; what they then share is
    correlated (normalised cross-correlation of overlapping parts by Fourier transform: Padfield 2012). Phase
    correlation, which is quicker, is wrong and sure of it where a frame is blurred: blur turns phases around.

    Args:
        before, after: gray or RGB pixels of one size, at least 16 each way.
        max_value: white of 16-bit pixels; None: 65535.

    Returns:
        The motion, or None where the frames share too little to tell (a dropped frame, more than about half a frame
        of motion).
    """
    a, b = _normalised_detail(before, max_value), _normalised_detail(after, max_value)
    if a.shape != b.shape or min(a.shape) < 8:
        return None
    correlation, reach_y, reach_x = _cross_correlation(a, b)
    i, j = np.unravel_index(int(correlation.argmax()), correlation.shape)
    if correlation[i, j] < min(_MIN_CORRELATION, _MIN_PEAK / np.sqrt(a.size)):
        return None
    down = i - reach_y + _subpixel_peak(correlation[max(i - 1, 0) : i + 2, j])
    right = j - reach_x + _subpixel_peak(correlation[i, max(j - 1, 0) : j + 2])
    return 2 * float(right), 2 * float(down)


def _normalised_detail(pixels: Pixels, max_value: int | None) -> Plane:
    """What lies on the steel, of one strength everywhere, at half the size; 0 where nothing can be seen."""
    import cv2

    white = 255 if pixels.dtype == np.uint8 else max_value or np.iinfo(np.uint16).max
    plane = pixels.astype(np.float32) * np.float32(255 / white)
    plane = plane if plane.ndim == 2 else np.asarray(plane.mean(axis=2, dtype=np.float32))
    detail = cv2.GaussianBlur(plane, (0, 0), _GRAIN_PX)[::2, ::2]
    detail = detail - cv2.GaussianBlur(detail, (0, 0), _LIGHT_PX / 2)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LIGHT_PX / 2))
    return np.asarray(detail / (strength + 1), np.float32)


def _cross_correlation(a: Plane, b: Plane) -> tuple[NDArray[np.float64], int, int]:
    """For each motion from -reach to reach, the correlation of the parts of two planes that then overlap.

    It is scaled down by the root of the overlap's share, as little is easily alike by chance.
    """
    import cv2

    height, width = a.shape
    reach_y, reach_x = int(height * _MAX_MOTION), int(width * _MAX_MOTION)
    dy, dx = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    size = cv2.getOptimalDFTSize(height + reach_y), cv2.getOptimalDFTSize(width + reach_x)
    product = np.fft.irfft2(np.conj(np.fft.rfft2(a, size)) * np.fft.rfft2(b, size), size)[np.ix_(dy, dx)]
    shared = (height - np.abs(dy))[:, None] * (width - np.abs(dx))[None]
    sum_a, sum_b = _overlap_sums(a, -dy, -dx), _overlap_sums(b, dy, dx)
    spread_a = _overlap_sums(a * a, -dy, -dx) - sum_a**2 / shared
    spread_b = _overlap_sums(b * b, dy, dx) - sum_b**2 / shared
    alike = (product - sum_a * sum_b / shared) / np.sqrt(np.maximum(spread_a * spread_b, 1e-6))
    return np.asarray(alike * np.sqrt(shared / shared.max())), reach_y, reach_x


def _overlap_sums(plane: Plane, dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of the part of a plane that overlaps one that lies ``dy`` up and ``dx`` to the left of it, for each pair."""
    height, width = plane.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = plane.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    top, bottom = np.maximum(0, dy), height - np.maximum(0, -dy)
    left, right = np.maximum(0, dx), width - np.maximum(0, -dx)
    corners = (total[np.ix_(y, x)] for y, x in ((bottom, right), (top, right), (bottom, left), (top, left)))
    first, second, third, fourth = corners
    return np.asarray(first - second - third + fourth)


def _subpixel_peak(values: NDArray[np.float64]) -> float:
    """Where a parabola through three neighbours has its top, counted from the middle one."""
    if len(values) < 3:
        return 0.0
    before, top, after = values
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
