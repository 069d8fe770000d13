"""Draw marks of twenty kinds on random textures: pictures of no material, which a detector can learn to see from.

    python tools/make_textures.py --out data/textures/raw --images 12000 --seed 7
    detect convert data/textures/raw/labels.json --out data/textures --split val=1-100,train=101-12000

Sample steel shows six defects on six surfaces, all within a narrow range. Here grain, light and contrast are anything,
and so are the outlines, sizes and strengths of the marks; what a mark is called depends on what it does to the texture
and on nothing else. Labels are COCO JSON. What it is worth before sample steel: docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import count
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray
from texture_fields import texture
from texture_marks import KINDS, MARKS, SIDE, SIZE_HW, Scene, Window

from detect.errors import DataError, DetectError
from detect.formats import coco
from detect.images import write_image
from detect.records import Box, Dataset, Image
from detect.sample.fields import SizeHw, drift
from detect.sample.write import make_folder

_LONG = ("streak", "curve_dark", "curve_bright")  # kinds whose windows are
_LEAST_SHOWN_PX = 8  # of each side of a mark's window, inside the picture
_LEAST_SEEN, _SMALLEST_PX = 12, 5  # pixels of a mark that are seen, and the smaller side of its box


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
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
        if min(part.stop - part.start for part in here) < _LEAST_SHOWN_PX:
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
    rows, columns = np.nonzero(seen)
    if len(rows) < _LEAST_SEEN:
        return None
    x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    if min(x2 - x1, y2 - y1) < _SMALLEST_PX:
        return None
    left, top = here[1].start, here[0].start
    return Box(kind, (float(left + x1), float(top + y1), float(left + x2), float(top + y2)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=12000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    try:
        if args.images < 1 or args.seed < 0:
            found = f"--images is {args.images} and --seed is {args.seed}"
            raise DataError(found, fix="give 1 image or more and a seed of 0 or more")
        make_folder(args.out, {"labels.json", *(f"texture_{n}.png" for n in range(1, args.images + 1))})
        images: list[Image] = []
        for number in count(1):
            pixels, boxes = draw(np.random.default_rng([args.seed, number]))
            if boxes:
                path = args.out / f"texture_{len(images) + 1}.png"
                write_image(path, pixels)
                images.append(Image(path, SIDE, SIDE, boxes))
            if len(images) == args.images:
                break
        coco.write({"labels": Dataset(tuple(images), KINDS)}, args.out)
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(images):,} images with their labels: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
