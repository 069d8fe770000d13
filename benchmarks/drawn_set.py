"""The command of the tools that draw a set of pictures: their options, their folder, and labels as COCO JSON."""

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

Picture = tuple[NDArray[np.uint8], tuple[Box, ...]]


def boxed(mark: PlacedDefect, smallest_px: float) -> Box | None:
    """The box of what is seen of a mark; None if a side of it is smaller than that."""
    box = mark.box()
    if box is None:
        return None
    x1, y1, x2, y2 = box.xyxy
    return box if min(x2 - x1, y2 - y1) >= smallest_px else None


def main_of(
    argv: Sequence[str] | None,
    pictures: Callable[[int], Iterator[Picture]],
    *,
    doc: str | None,
    images: int,
    stem: str,
    classes: Sequence[str],
) -> int:
    """Write ``<stem>_1.png`` and so on, and labels.json, into ``--out``; returns the exit code.

    Args:
        argv: the command's arguments, None for the process's own.
        pictures: from a seed to pictures without end.
        doc: what ``--help`` says.
        images: how many, by default.
        stem: first word of the files' names.
        classes: that the boxes may have.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=images, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    try:
        if args.images < 1 or args.seed < 0:
            found = f"--images is {args.images} and --seed is {args.seed}"
            raise DataError(found, fix="give 1 image or more and a seed of 0 or more")
        paths = [args.out / f"{stem}_{number}.png" for number in range(1, args.images + 1)]
        make_folder(args.out, {"labels.json", *(path.name for path in paths)})
        drawn = []
        for path, (pixels, boxes) in zip(paths, islice(pictures(args.seed), args.images)):
            write_image(path, pixels)
            drawn.append(Image(path, pixels.shape[1], pixels.shape[0], boxes))
        coco.write({"labels": Dataset(tuple(drawn), tuple(classes))}, args.out)
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(drawn):,} images with their labels: {args.out}")
    return 0
