"""Command line shared by the scripts that draw data sets: options, image files, and labels as COCO JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray

from detect.datasets import coco
from detect.errors import DataError, DetectError
from detect.images import write_image
from detect.structures import Box, Dataset, Image
from detect.synthetic.defects import PlacedDefect
from detect.synthetic.scenes import make_folder

LabelledImage = tuple[NDArray[np.uint8], tuple[Box, ...]]


def visible_box(mark: PlacedDefect, min_side_px: float) -> Box | None:
    """Box of the visible part of a mark; None if a side is shorter than ``min_side_px``."""
    box = mark.box()
    if box is None:
        return None
    x1, y1, x2, y2 = box.xyxy
    return box if min(x2 - x1, y2 - y1) >= min_side_px else None


def write_drawn_set(
    argv: Sequence[str] | None,
    draw_images: Callable[[int], Iterator[LabelledImage]],
    *,
    doc: str | None,
    images: int,
    stem: str,
    classes: Sequence[str],
) -> int:
    """Write ``<stem>_1.png``, ``<stem>_2.png``, ... and labels.json into ``--out``; returns the exit code.

    Args:
        argv: command-line arguments; None: those of the process.
        draw_images: seed -> endless iterator of images with boxes.
        doc: text of ``--help``.
        images: default number of images.
        stem: first part of the file names.
        classes: class names of the boxes.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=images, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    try:
        if args.images < 1 or args.seed < 0:
            message = f"--images is {args.images} and --seed is {args.seed}"
            raise DataError(message, fix="give 1 image or more and a seed of 0 or more")
        paths = [args.out / f"{stem}_{number}.png" for number in range(1, args.images + 1)]
        make_folder(args.out, {"labels.json", *(path.name for path in paths)})
        drawn = []
        for path, (pixels, boxes) in zip(paths, islice(draw_images(args.seed), args.images)):
            write_image(path, pixels)
            drawn.append(Image(path, pixels.shape[1], pixels.shape[0], boxes))
        coco.write({"labels": Dataset(tuple(drawn), tuple(classes))}, args.out)
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(drawn):,} images with labels: {args.out}")
    return 0
