"""Moving strips on disk: their frames as BMP images, and the records that tell what each shows and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import write_image
from ..records import Box, Dataset, Frame, Image
from .degrade import draw_condition
from .scene import CATEGORIES
from .strip import Shot, boxes_of, expose, make_camera, make_strip
from .travel import WANDER, motions, travel
from .write import make_folder, numbered

SIDE_PX = 200
SIDES_PX = (100, 2000)  # smaller ones hardly hold a defect
DEGRADED = 0.25  # share of frames in bad condition; ``degrade.SHARES`` divides it
MOST_FRAMES = 1000  # of 200 x 200 pixels: a strip is drawn whole, so its area is bounded by memory
_MARGIN_PX = 24  # steel beyond the first and last window, for what moves in and out while the shutter is open
_STRIPS = 100  # keeps a strip's random numbers apart from those of a still image


def most_frames(side_px: int) -> int:
    """The longest strip that is drawn, in frames of ``side_px`` pixels a side."""
    return max(1, MOST_FRAMES * SIDE_PX**2 // side_px**2)


def write_strips(
    out: Path, *, frames: int, strips: int, seed: int, degraded: float = DEGRADED, side_px: int = SIDE_PX
) -> Dataset:
    """Write ``out/IMAGES/<strip>_<frame>.bmp``, square, 8-bit gray.

    Strips are spread evenly over the six classes and called ``<class>_<n>``. A strip depends on ``seed``, its class,
    its number, ``frames`` and ``side_px``, so that more strips hold the fewer. Defects have the same sizes in pixels
    whatever the camera sees of the strip; a larger frame holds more of them.

    Args:
        out: the folder; made if missing.
        frames: frames of each strip, 1 to ``most_frames(side_px)``.
        strips: how many strips, at least 1.
        seed: 0 or more.
        degraded: share of frames that are blurred, over-exposed, noisy or dropped, 0 to 1.
        side_px: height and width of a frame, and so the strip's width, within ``SIDES_PX``.

    Returns:
        The frames strip by strip, as ``formats.coco.write`` takes them.

    Raises:
        DataError: a wrong number, or a folder that holds other files, which would be mixed up with these.
    """
    if not SIDES_PX[0] <= side_px <= SIDES_PX[1]:
        fix = f"give {SIDES_PX[0]} to {SIDES_PX[1]}"
        raise DataError(f"frames of {side_px} pixels a side can't be filmed", fix=fix)
    if not 1 <= frames <= most_frames(side_px) or strips < 1 or seed < 0 or not 0 <= degraded <= 1:
        found = f"frames={frames}, strips={strips}, seed={seed}, degraded={degraded:g} make no sample"
        fix = f"give 1 to {most_frames(side_px)} frames, 1 strip or more, a seed from 0 on and a share of 0 to 1"
        raise DataError(found, fix=fix)
    folder = out / "IMAGES"
    names = {(c, n): [f"{c}_{n}_{k:04d}.bmp" for k in range(frames)] for c, n in numbered(strips)}
    make_folder(folder, {name for files in names.values() for name in files})
    images: list[Image] = []
    for (category, number), files in names.items():
        filmed = film(category, number, frames=frames, seed=seed, degraded=degraded, side_px=side_px)
        for name, (pixels, boxes, frame) in zip(files, filmed, strict=True):
            write_image(folder / name, pixels)
            images.append(Image(folder / name, side_px, side_px, boxes, frame))
    return Dataset(tuple(images), CATEGORIES)


def film(
    category: str, number: int, *, frames: int, seed: int, degraded: float = DEGRADED, side_px: int = SIDE_PX
) -> Iterator[tuple[NDArray[np.uint8], tuple[Box, ...], Frame]]:
    """The frames of the strip that ``write_strips`` calls ``<category>_<number>``: pixels, boxes, place."""
    rng = np.random.default_rng([seed, _STRIPS + CATEGORIES.index(category), number])
    size_hw = (side_px, side_px)
    camera = make_camera(category, rng, size_hw)
    origins = travel(rng, frames, side_px)
    moved = motions(origins)
    room = int(np.ceil(WANDER * side_px))
    origins += np.array([room, _MARGIN_PX])
    strip_hw = (int(origins[-1, 1]) + side_px + _MARGIN_PX, side_px + 2 * room)
    strip = make_strip(category, rng, strip_hw, float(camera.light.mean()))
    # Lamps on alternating current beat against the frame rate, and no two flashes are equal.
    beat, phase = rng.uniform(0.3, 2.8), rng.uniform(0, 2 * np.pi)
    for k in range(frames):
        flicker = 1 + 0.03 * np.sin(phase + beat * k) + 0.01 * rng.standard_normal()
        condition, severity = draw_condition(rng, degraded)
        (left, top), motion_px = origins[k].tolist(), float(moved[k, 1])
        shot = Shot(left, top, motion_px, float(flicker), condition, severity)
        frame = Frame(f"{category}_{number}", k, (float(left), float(top)), condition)
        yield expose(strip, camera, shot, rng), boxes_of(strip, shot, size_hw), frame
