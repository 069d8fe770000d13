"""``detect sample``: write synthetic steel with its labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from .console import command, shown
from .verb import UsageError, Verb


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write IMAGES, ANNOTATIONS to")
    parser.add_argument("--images", type=int, default=300, metavar="N", help="number of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes (default: %(default)s)")


def _run(args: argparse.Namespace) -> int:
    if args.images < 1:
        raise UsageError(f"--images is {args.images}", fix="give at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}", fix="give 0 or more")
    from ..sample import write_sample

    write_sample(args.out, images=args.images, seed=args.seed)
    print(f"{args.images} images with their labels: {shown(args.out)}")
    print(f"next: {command('convert', str(args.out), '--out', f'{args.out}-coco', '--split', 'train=0.8,val=0.2')}")
    return 0


SAMPLE = Verb(
    summary="Write sample data: hot-rolled steel with six kinds of defect, drawn by code.",
    details="The files have NEU-DET's own layout: BMP images in IMAGES, Pascal-VOC labels in ANNOTATIONS.",
    examples=["sample --out data/demo/steel --images 300 --seed 0"],
    add_arguments=_add_arguments,
    run=_run,
)
