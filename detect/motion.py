"""How far a strip has moved between two frames, read from the frames themselves."""

from __future__ import annotations

import numpy as np

from .images import Pixels

_TRUSTED = 0.08  # peak of the phase correlation; unrelated frames stay below


def motion_between(before: Pixels, after: Pixels) -> tuple[float, float] | None:
    """Pixels (right, down) that the surface moved from one frame to the next, by phase correlation.

    Args:
        before, after: gray or RGB pixels of one size.

    Returns:
        The motion, or None where the frames share too little to tell (a dropped frame, more than about half a frame
        of motion).
    """
    import cv2

    a, b = _plane(before), _plane(after)
    if a.shape != b.shape:
        return None
    window = cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F)
    (x, y), peak = cv2.phaseCorrelate(a, b, window)
    return (float(x), float(y)) if peak >= _TRUSTED else None


def _plane(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    plane = pixels.astype(np.float32)
    return plane if plane.ndim == 2 else np.asarray(plane.mean(axis=2, dtype=np.float32))
