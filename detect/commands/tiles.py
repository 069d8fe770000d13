"""What ``infer`` and ``evaluate`` share: the options of tiles, and what is said where images are seen in them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from .console import shown
from .verb import UsageError

if TYPE_CHECKING:
    from ..inference import Predictor
    from ..inference.tiling import Tiling
    from ..records import Dataset


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """``--tile`` and ``--overlap``."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="SIDE",
        help="see larger images in tiles of so many pixels a side; 0: see all whole (default: tiles as large as what "
        "was trained on, of images more than twice as wide or high)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="that neighbouring tiles share (default: a quarter of a tile)"
    )


def check_tile_arguments(args: argparse.Namespace) -> None:
    """Refuse what no tiles can be made of, before anything is read."""
    if args.tile is not None and args.tile < 0:
        raise UsageError(f"--tile is {args.tile}", fix="give a side in pixels, or 0 to see images whole")
    if args.tile == 0 and args.overlap is not None:
        raise UsageError("--overlap has no meaning with --tile 0", fix="leave one of them out")


def say_tiling(what: str, width: int, height: int, tiling: Tiling, *, asked: int | None) -> None:
    """A line on stderr.

    Args:
        what: is seen in tiles.
        width, height: of it in pixels.
        tiling: these.
        asked: what ``--tile`` said; None: nothing.
    """
    tiles = f"seen in {tiling.in_words(width, height)}"
    why = f"is much larger than the {tiling.side} px that were trained on, so it is {tiles}; --tile 0 sees it whole"
    print(f"detect: {what} ({width} x {height} px) {why if asked is None else f'is {tiles}'}", file=sys.stderr)


def say_tilings(predictor: Predictor, dataset: Dataset, args: argparse.Namespace) -> None:
    """The same for a data set: how many of its images, and the largest of them."""
    tilings = predictor.tilings(dataset, tile=args.tile, overlap=args.overlap)
    if not tilings:
        return
    largest = max(tilings, key=lambda i: dataset.images[i].width * dataset.images[i].height)
    image = dataset.images[largest]
    count = f"{len(tilings):,} of {len(dataset.images):,} images in tiles; the largest, {shown(image.path)}"
    say_tiling(count, image.width, image.height, tilings[largest], asked=args.tile)
