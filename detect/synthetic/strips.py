"""Moving strips: a long piece of steel under a camera, with its motion, degraded frames and files.

Pixels are floats, [height, width] or [height, width, channels], 0 to 1; results have the same type. Severities range
from 0 (mild) to 1 (hardly usable).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import write_image
from ..structures import Box, Dataset, Frame, Image, recognisable
from .defects import PlacedDefect, lookalikes, place_defect, plan
from .scenes import CATEGORIES, draw, make_folder, numbered
from .steel import SURFACES, Field, SizeHw, Surface, line_drift

Floats = NDArray[np.floating[Any]]

SHARES = {"blurred": 0.32, "overexposed": 0.32, "noisy": 0.24, "dropped": 0.12}  # among degraded frames


def draw_condition(rng: np.random.Generator, rate: float) -> tuple[str, float]:
    """Random condition of a frame, degraded with probability ``rate``, and its severity, uniform in 0 to 1."""
    chance, kind, severity = rng.random(3)
    if chance >= rate:
        return "clean", 0.0
    return str(np.array(list(SHARES))[np.searchsorted(np.cumsum(list(SHARES.values())), kind)]), float(severity)


def degrade(
    pixels: Floats, condition: str, severity: float, motion_xy: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """The image in the given condition.

    Args:
        pixels: the clean image.
        condition: a key of ``SHARES``; any other, such as "clean", changes nothing.
        severity: 0 to 1.
        motion_xy: motion of the strip between frames, in pixels right and down; motion blur follows the larger of the
            two.
        rng: random generator for the noise.
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
    """Length of the motion blur in a blurred frame, in pixels: the exposure takes 0.2 to 0.6 of the frame interval.

    At least 6 pixels, as from vibration, so that frames of an almost resting strip are blurred too.
    """
    return max(6.0, (0.2 + 0.4 * severity) * abs(motion_px))


def motion_blur(pixels: Floats, length_px: float, axis: int) -> Floats:
    """Mean over ``length_px`` along an axis (0: down, 1: across), centred on each pixel; border pixels are repeated."""
    reach = int(np.ceil(length_px / 2 - 0.5))
    if reach < 1:
        return pixels
    padding = [(reach, reach) if i == axis else (0, 0) for i in range(pixels.ndim)]
    padded, size = np.pad(pixels, padding, mode="edge"), pixels.shape[axis]
    total = np.zeros_like(pixels)
    for offset in range(-reach, reach + 1):
        # length of the path within this pixel: 1 except at the two ends
        covered = min(abs(offset) + 0.5, length_px / 2) - (abs(offset) - 0.5) if offset else min(1.0, length_px)
        total += pixels.dtype.type(covered) * padded.take(range(reach + offset, reach + offset + size), axis)
    return np.asarray(total / pixels.dtype.type(length_px))


def overexpose(pixels: Floats, white: float) -> Floats:
    """Raise the brightness until a share ``white`` of the pixels is white."""
    threshold = float(np.quantile(pixels, 1 - white))
    return np.asarray(np.clip(pixels * pixels.dtype.type(1 / max(threshold, 1e-3)), 0, 1))


def add_noise(pixels: Floats, std: float, rng: np.random.Generator) -> Floats:
    """Independent Gaussian noise in every pixel, as from a sensor with high gain in low light."""
    return np.asarray(np.clip(pixels + rng.normal(0, std, pixels.shape).astype(pixels.dtype), 0, 1))


SPEEDS = (0.1, 0.3)  # motion per frame, as a share of the frame height: 20 to 60 of 200 pixels
WANDER = 0.03  # maximum sideways shift, as a share of the frame height
EXPOSURE = 0.03  # exposure time of a clean frame, as a share of the frame interval


def travel(rng: np.random.Generator, frames: int, height: int) -> NDArray[np.int64]:
    """Position of the camera window on the strip per frame: left and top in whole pixels, int64[frames, 2].

    The window starts at top 0 and moves down the strip only, so the surface moves up in the image. It also shifts
    sideways, within ``WANDER``. Half of all strips have constant speed; the speed of the others changes over about
    twelve frames, within ``SPEEDS``.
    """
    slowest, fastest = SPEEDS[0] * height, SPEEDS[1] * height
    speed = rng.uniform(slowest, fastest)
    changes = 0.25 * line_drift(rng, frames, 12) if rng.random() < 0.5 else np.zeros(frames)
    steps = np.clip(speed * (1 + changes), slowest, fastest)
    down = np.cumsum(steps) - steps[0]
    across = np.clip(0.5 * WANDER * height * line_drift(rng, frames, 10), -WANDER * height, WANDER * height)
    return np.asarray(np.rint(np.stack([across, down], axis=1)), np.int64)


def motions(origins_xy: NDArray[np.int64]) -> NDArray[np.int64]:
    """Motion of the surface in the image since the previous frame, right and down in pixels, int64[frames, 2].

    The first frame has the motion of the second, because the strip is already moving.
    """
    if len(origins_xy) < 2:
        return np.zeros_like(origins_xy)
    moved = -np.diff(origins_xy, axis=0)
    return np.concatenate([moved[:1], moved])


_DENSITY = 0.5  # defects per area relative to still images: much of a strip is sound
_TILE_PX = 200  # defect-like marks are drawn in tiles of this length, faded at both ends
_FADE_PX = 20


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Steel without lighting.

    Attributes:
        steel: reflected light relative to a plain surface, float64[length, width].
        marks: defects.
    """

    steel: Field
    marks: tuple[PlacedDefect, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """What doesn't change while the strip moves.

    Attributes:
        light: gray level that a plain surface gives in each pixel, 0 to 255, float64[height, width].
        noise_gray: standard deviation of the sensor's noise in gray levels.
    """

    light: Field
    noise_gray: float


@dataclass(frozen=True, slots=True)
class Shot:
    """Position, motion and condition of one frame.

    Attributes:
        left, top: corner of the camera window on the strip, in pixels.
        motion_px: motion of the strip along its length between frames, in pixels.
        flicker: relative brightness of the lamps, about 1.
        condition, severity: see ``degrade``.
    """

    left: int
    top: int
    motion_px: float
    flicker: float = 1.0
    condition: str = "clean"
    severity: float = 0.0


def make_camera(category: str, rng: np.random.Generator, size_hw: SizeHw) -> Camera:
    """A camera with the typical lighting for steel of ``category``."""
    return Camera(SURFACES[category](rng, size_hw).light, rng.uniform(0.6, 1.4))


def make_strip(category: str, rng: np.random.Generator, size_hw: SizeHw, level_gray: float) -> Strip:
    """A strip with defects of ``category`` and sometimes of a second category.

    Args:
        category: one of ``CATEGORIES``.
        rng: the only source of randomness.
        size_hw: length and width in pixels.
        level_gray: mean gray level of the lit strip, which determines how visible a defect is.
    """
    surface = SURFACES[category](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    lit = Surface(np.full(size_hw, level_gray), surface.relief, noise * level_gray)
    steel = 1 + surface.relief
    for top in range(0, size_hw[0], _TILE_PX):
        tile = steel[top : top + _TILE_PX]
        ends = np.minimum(np.arange(len(tile)), np.arange(len(tile))[::-1])[:, None]
        tile += np.minimum(ends / _FADE_PX, 1) * lookalikes(rng, (tile.shape[0], tile.shape[1]), noise)
    shade = np.ones(size_hw)
    marks = [
        place_defect(draw(label, category, rng, window), label, window, lit, shade)
        for label, window in plan(category, rng, size_hw, density=_DENSITY)
    ]
    return Strip(steel * np.minimum(shade, 1) + np.maximum(shade - 1, 0), tuple(marks))


def expose(strip: Strip, camera: Camera, shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image from the camera, uint8[height, width]; "dropped" frames are black."""
    height, width = camera.light.shape
    blurred = shot.condition == "blurred"
    smear = smear_px(shot.severity, shot.motion_px) if blurred else EXPOSURE * abs(shot.motion_px)
    # Surface that enters the image during the exposure comes from outside its border.
    margin = int(np.ceil(smear / 2))
    first = max(shot.top - margin, 0)
    extended = strip.steel[first : shot.top + height + margin, shot.left : shot.left + width]
    steel = motion_blur(extended, smear, 0)[shot.top - first :][:height]
    gray = shot.flicker * camera.light * steel + camera.noise_gray * rng.standard_normal((height, width))
    pixels = np.clip(gray / 255, 0, 1)
    if not blurred:
        pixels = np.asarray(degrade(pixels, shot.condition, shot.severity, (0, shot.motion_px), rng), np.float64)
    return np.rint(255 * pixels).astype(np.uint8)


def boxes_of(strip: Strip, shot: Shot, size_hw: SizeHw) -> tuple[Box, ...]:
    """Boxes of the defects inside the window at the middle of the exposure.

    A box is the bounding box of the defect's pixels inside the window, which can be smaller than its whole box clipped
    to the window. It is left out if it isn't ``recognisable``. Degraded frames have the boxes of the clean frame.
    """
    window = (shot.top, shot.left, shot.top + size_hw[0], shot.left + size_hw[1])
    boxes = []
    for mark in strip.marks:
        whole, cut = mark.box(), mark.box(window)
        if whole and cut and recognisable(np.array(cut.xyxy), np.array(whole.xyxy)):
            boxes.append(cut)
    return tuple(boxes)


SIDE_PX = 200
SIDES_PX = (100, 2000)  # range; smaller frames hardly contain a defect
DEGRADED = 0.25  # share of degraded frames, split by ``SHARES``
MAX_FRAMES = 1000  # of 200 x 200 pixels: the strip is drawn at once, so memory limits its area
_MARGIN_PX = 24  # steel beyond the first and last window, for motion during the exposure
_STRIPS = 100  # offset in the seed, so that strips and still images have different random numbers


def max_frames(side_px: int) -> int:
    """Maximum length of a strip, in frames of ``side_px`` x ``side_px`` pixels."""
    return max(1, MAX_FRAMES * SIDE_PX**2 // side_px**2)


def write_strips(
    out: Path, *, frames: int, strips: int, seed: int, degraded: float = DEGRADED, side_px: int = SIDE_PX
) -> Dataset:
    """Write ``out/IMAGES/<strip>_<frame>.bmp``, square 8-bit gray images.

    Strips are spread evenly over the six classes and named ``<class>_<n>``. A strip depends on ``seed``, its class,
    its number, ``frames``, ``degraded`` and ``side_px`` only, so a larger set contains the smaller one. The sizes of
    defects in pixels don't depend on the frame size; a larger frame contains more of them.

    Args:
        out: the folder; created if missing.
        frames: number of frames per strip, 1 to ``max_frames(side_px)``.
        strips: number of strips, at least 1.
        seed: 0 or more.
        degraded: share of frames that are blurred, overexposed, noisy or dropped, 0 to 1.
        side_px: height and width of a frame in pixels, within ``SIDES_PX``; also sets the width of the strip.

    Returns:
        The frames strip by strip, as ``datasets.coco.write`` takes them.

    Raises:
        DataError: a wrong number, or a folder that contains other files.
    """
    if not SIDES_PX[0] <= side_px <= SIDES_PX[1]:
        fix = f"give {SIDES_PX[0]} to {SIDES_PX[1]}"
        raise DataError(f"the frame side of {side_px} pixels is out of range", fix=fix)
    if not 1 <= frames <= max_frames(side_px) or strips < 1 or seed < 0 or not 0 <= degraded <= 1:
        message = f"frames={frames}, strips={strips}, seed={seed}, degraded={degraded:g} are out of range"
        fix = f"give 1 to {max_frames(side_px)} frames, 1 strip or more, a seed of 0 or more and a share of 0 to 1"
        raise DataError(message, fix=fix)
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
    """Frames of the strip ``<category>_<number>`` of ``write_strips``: pixels, boxes and frame record."""
    rng = np.random.default_rng([seed, _STRIPS + CATEGORIES.index(category), number])
    size_hw = (side_px, side_px)
    camera = make_camera(category, rng, size_hw)
    origins = travel(rng, frames, side_px)
    moved = motions(origins)
    side_margin = int(np.ceil(WANDER * side_px))
    origins += np.array([side_margin, _MARGIN_PX])
    strip_hw = (int(origins[-1, 1]) + side_px + _MARGIN_PX, side_px + 2 * side_margin)
    strip = make_strip(category, rng, strip_hw, float(camera.light.mean()))
    # Lamps on alternating current interfere with the frame rate, and their flashes vary.
    beat, phase = rng.uniform(0.3, 2.8), rng.uniform(0, 2 * np.pi)
    for k in range(frames):
        flicker = 1 + 0.03 * np.sin(phase + beat * k) + 0.01 * rng.standard_normal()
        condition, severity = draw_condition(rng, degraded)
        (left, top), motion_px = origins[k].tolist(), float(moved[k, 1])
        shot = Shot(left, top, motion_px, float(flicker), condition, severity)
        frame = Frame(f"{category}_{number}", k, (float(left), float(top)), condition)
        yield expose(strip, camera, shot, rng), boxes_of(strip, shot, size_hw), frame
