"""Draw marks of twenty kinds on random textures: pictures of no material, which a detector can learn to see from.

    python benchmarks/make_textures.py --out data/textures/raw --images 12000 --seed 7
    detect convert data/textures/raw/labels.json --out data/textures --split val=1-100,train=101-12000

Sample steel shows six defects on six surfaces, all within a narrow range. Here grain, light and contrast are anything,
and so are the outlines, sizes and strengths of the marks; what a mark is called depends on what it does to the texture
and on nothing else. Labels are COCO JSON. What it is worth before sample steel: docs/results.md.
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
from drawn_set import Picture, boxed, main_of
from texture_fields import texture
from texture_marks import KINDS, MARKS, SIDE, SIZE_HW, Scene, Window

_LONG = ("streak", "curve_dark", "curve_bright")  # kinds whose windows are
_MIN_SHOWN_PX = 8  # of each side of a mark's window, inside the picture
_MIN_VISIBLE_PIXELS, _MIN_SIDE_PX = 12, 5  # pixels of a mark that are seen, and the smaller side of its box


def draw(rng: np.random.Generator) -> Picture:
    """uint8[200, 200] with one to three kinds of mark, and their boxes; none where all are too small to be seen."""
    relief = texture(rng, SIZE_HW)
    contrast = np.exp(rng.uniform(log(0.01), log(0.14)))
    level, waves = rng.uniform(60, 210), 0.6 * rng.uniform(0, 0.25)
    light = level * (1 + waves * drift(rng, SIZE_HW, (rng.uniform(60, 200), rng.uniform(60, 200))))
    relief = contrast * relief
    ground = np.maximum(light * (1 + relief), 0)
    picture = ground.copy()
    boxes: list[Box] = []
    taken: list[tuple[int, int, int, int]] = []
    kinds = rng.choice(len(KINDS), rng.integers(1, 4), replace=False)
    for _ in range(rng.integers(1, 8)):
        kind = KINDS[int(rng.choice(kinds))]
        size_hw = _size(rng, kind)
        place = _room(rng, size_hw, taken)
        if place is None:
            continue
        taken.append(place)
        here, shown = _inside(place)
        if min(part.stop - part.start for part in here) < _MIN_SHOWN_PX:
            continue
        depth = min(0.9, max(3 * contrast, 0.08) * np.exp(rng.uniform(0, 1.2)))
        drawn = MARKS[kind](Scene(rng, picture, ground, light, relief, contrast, depth, size_hw, here, shown))
        box = None if drawn is None else _box(kind, drawn[1], here)
        if drawn is not None and box is not None:
            picture[here] = drawn[0]
            boxes.append(box)
    picture += rng.uniform(0.5, 3) * rng.standard_normal(SIZE_HW)
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.0))
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8), tuple(boxes)


def _size(rng: np.random.Generator, kind: str) -> SizeHw:
    side = np.exp(rng.uniform(log(22), log(190)))
    spread = rng.choice([-1, 1]) * rng.uniform(0.4, 2.2) if kind in _LONG else rng.normal(0, 0.6)
    stretch = np.exp(spread) ** 0.5
    return int(np.clip(side * stretch, 12, 230)), int(np.clip(side / stretch, 12, 230))


def _room(
    rng: np.random.Generator, size_hw: SizeHw, taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A free window (top, bottom, left, right), up to a quarter of each side outside; None: there is none."""
    for _ in range(20):
        top, left = (
            int(rng.integers(-side // 4, SIDE - side + side // 4 + 1)) if side < SIDE else int(rng.integers(-20, 1))
            for side in size_hw
        )
        bottom, right = top + size_hw[0], left + size_hw[1]
        if all(bottom + 2 <= t or b + 2 <= top or right + 2 <= x or r + 2 <= left for t, b, x, r in taken):
            return top, bottom, left, right
    return None


def _inside(place: tuple[int, int, int, int]) -> tuple[Window, Window]:
    top, bottom, left, right = place
    here = (slice(max(top, 0), min(bottom, SIDE)), slice(max(left, 0), min(right, SIDE)))
    return here, (
        slice(here[0].start - top, here[0].stop - top),
        slice(here[1].start - left, here[1].stop - left),
    )


def _box(kind: str, seen: NDArray[np.bool_], here: Window) -> Box | None:
    if np.count_nonzero(seen) < _MIN_VISIBLE_PIXELS:
        return None
    return boxed(PlacedDefect(kind, here[0].start, here[1].start, seen), _MIN_SIDE_PX)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(argv, _pictures, doc=__doc__, images=12000, stem="texture", classes=KINDS)


def _pictures(seed: int) -> Iterator[Picture]:
    drawn = (draw(np.random.default_rng([seed, number])) for number in count(1))
    return (picture for picture in drawn if picture[1])  # with boxes


if __name__ == "__main__":
    sys.exit(main())
