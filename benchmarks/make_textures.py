"""Draw marks of twenty kinds on random textures, as a data set for pre-training.

    python benchmarks/make_textures.py --out data/textures/raw --images 12000 --seed 7
    detect convert data/textures/raw/labels.json --out data/textures --split val=1-100,train=101-12000

Sample steel has six defects on six surfaces with a narrow range of appearance. Here grain, light and contrast vary
widely, and so do the outlines, sizes and strengths of the marks. The class of a mark depends only on how it changes the
texture. Labels are COCO JSON. docs/results.md has the gain of pre-training on this set before sample steel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import count
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray

from detect.structures import Box
from detect.synthetic.defects import PlacedDefect
from detect.synthetic.steel import SizeHw, drift
from drawn_set import LabelledImage, visible_box, write_drawn_set
from texture_fields import texture
from texture_marks import KINDS, MARKS, SIDE, SIZE_HW, Scene, Window

_LONG = ("streak", "curve_dark", "curve_bright")  # kinds with long windows
_MIN_SHOWN_PX = 8  # minimum side of a mark's window inside the image
_MIN_VISIBLE_PIXELS, _MIN_SIDE_PX = 12, 5  # minimum number of visible pixels, and minimum shorter side of a box


def draw(rng: np.random.Generator) -> LabelledImage:
    """An image, uint8[200, 200], with one to three kinds of marks, and the boxes of the visible marks."""
    relief = texture(rng, SIZE_HW)
    contrast = np.exp(rng.uniform(log(0.01), log(0.14)))
    level, waves = rng.uniform(60, 210), 0.6 * rng.uniform(0, 0.25)
    light = level * (1 + waves * drift(rng, SIZE_HW, (rng.uniform(60, 200), rng.uniform(60, 200))))
    relief = contrast * relief
    ground = np.maximum(light * (1 + relief), 0)
    image = ground.copy()
    boxes: list[Box] = []
    taken: list[tuple[int, int, int, int]] = []
    kinds = rng.choice(len(KINDS), rng.integers(1, 4), replace=False)
    for _ in range(rng.integers(1, 8)):
        kind = KINDS[int(rng.choice(kinds))]
        size_hw = _size(rng, kind)
        window = _free_window(rng, size_hw, taken)
        if window is None:
            continue
        taken.append(window)
        inside, part = _inside(window)
        if min(side.stop - side.start for side in inside) < _MIN_SHOWN_PX:
            continue
        depth = min(0.9, max(3 * contrast, 0.08) * np.exp(rng.uniform(0, 1.2)))
        drawn = MARKS[kind](Scene(rng, image, ground, light, relief, contrast, depth, size_hw, inside, part))
        box = None if drawn is None else _box(kind, drawn[1], inside)
        if drawn is not None and box is not None:
            image[inside] = drawn[0]
            boxes.append(box)
    image += rng.uniform(0.5, 3) * rng.standard_normal(SIZE_HW)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.0))
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8), tuple(boxes)


def _size(rng: np.random.Generator, kind: str) -> SizeHw:
    side = np.exp(rng.uniform(log(22), log(190)))
    spread = rng.choice([-1, 1]) * rng.uniform(0.4, 2.2) if kind in _LONG else rng.normal(0, 0.6)
    stretch = np.exp(spread) ** 0.5
    return int(np.clip(side * stretch, 12, 230)), int(np.clip(side / stretch, 12, 230))


def _free_window(
    rng: np.random.Generator, size_hw: SizeHw, taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A free window (top, bottom, left, right), up to a quarter of each side outside; None after 20 attempts."""
    for _ in range(20):
        top, left = (
            int(rng.integers(-side // 4, SIDE - side + side // 4 + 1)) if side < SIDE else int(rng.integers(-20, 1))
            for side in size_hw
        )
        bottom, right = top + size_hw[0], left + size_hw[1]
        if all(bottom + 2 <= t or b + 2 <= top or right + 2 <= x or r + 2 <= left for t, b, x, r in taken):
            return top, bottom, left, right
    return None


def _inside(window: tuple[int, int, int, int]) -> tuple[Window, Window]:
    top, bottom, left, right = window
    inside = (slice(max(top, 0), min(bottom, SIDE)), slice(max(left, 0), min(right, SIDE)))
    return inside, (
        slice(inside[0].start - top, inside[0].stop - top),
        slice(inside[1].start - left, inside[1].stop - left),
    )


def _box(kind: str, mask: NDArray[np.bool_], inside: Window) -> Box | None:
    if np.count_nonzero(mask) < _MIN_VISIBLE_PIXELS:
        return None
    return visible_box(PlacedDefect(kind, inside[0].start, inside[1].start, mask), _MIN_SIDE_PX)


def main(argv: Sequence[str] | None = None) -> int:
    return write_drawn_set(argv, _images, doc=__doc__, images=12000, stem="texture", classes=KINDS)


def _images(seed: int) -> Iterator[LabelledImage]:
    drawn = (draw(np.random.default_rng([seed, number])) for number in count(1))
    return (image for image in drawn if image[1])  # with boxes


if __name__ == "__main__":
    sys.exit(main())
