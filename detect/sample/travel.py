"""How a strip moves under an area camera: frames overlap, the speed is constant or drifts, the edges wander."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fields import line_drift

SPEEDS = (0.1, 0.3)  # of the frame's height from frame to frame: 20 to 60 of 200 pixels
WANDER = 0.03  # largest shift to either side, of the frame's height
EXPOSURE = 0.03  # share of the time between two frames that the shutter is open, in a clean frame


def travel(rng: np.random.Generator, frames: int, height: int) -> NDArray[np.int64]:
    """Where the camera's window lies on the strip in each frame: its left and top in whole pixels, int64[frames, 2].

    It starts at 0, 0 but for the wander and only goes down the strip, so that the surface rises in the picture. Half
    of all strips keep their speed; on the others it changes over some twelve frames, within ``SPEEDS``.
    """
    slowest, fastest = SPEEDS[0] * height, SPEEDS[1] * height
    speed = rng.uniform(slowest, fastest)
    changes = 0.25 * line_drift(rng, frames, 12) if rng.random() < 0.5 else np.zeros(frames)
    steps = np.clip(speed * (1 + changes), slowest, fastest)
    down = np.cumsum(steps) - steps[0]
    across = np.clip(0.5 * WANDER * height * line_drift(rng, frames, 10), -WANDER * height, WANDER * height)
    return np.asarray(np.rint(np.stack([across, down], axis=1)), np.int64)


def motions(origins_xy: NDArray[np.int64]) -> NDArray[np.int64]:
    """The surface's motion in the picture since the frame before, right and down, int64[frames, 2].

    The first frame has that of the second: the strip was moving already.
    """
    if len(origins_xy) < 2:
        return np.zeros_like(origins_xy)
    moved = -np.diff(origins_xy, axis=0)
    return np.concatenate([moved[:1], moved])
