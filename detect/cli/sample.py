"""``detect sample``: write synthetic steel with its labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import UsageError, Verb, command, display_path

_IMAGES, _STRIPS = 300, 30


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--images", type=int, metavar="N", help=f"number of still images (default: {_IMAGES})")
    parser.add_argument("--frames", type=int, metavar="N", help="write moving strips of N frames each instead")
    parser.add_argument("--strips", type=int, metavar="M", help=f"number of strips (default: {_STRIPS})")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="height and width of the frames of strips in pixels (default: 200)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed gives the same files (default: %(default)s)"
    )


def _run(args: argparse.Namespace) -> int:
    for option in ("images", "frames", "strips"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option} is {value}", fix="give at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}", fix="give 0 or more")
    if args.frames is None:
        if args.strips is not None:
            raise UsageError("--strips needs --frames", fix="add --frames, the number of frames per strip")
        if args.size is not None:
            raise UsageError(
                "--size needs --frames; still images are 200 x 200 pixels", fix="add --frames or leave it out"
            )
        labels = _write_stills(args.out, args.images or _IMAGES, args.seed)
    else:
        if args.images is not None:
            raise UsageError(
                "--images and --frames exclude each other", fix="give --images for still images or --frames for strips"
            )
        labels = _write_strips(args.out, args.frames, args.strips or _STRIPS, args.seed, args.size)
    print(f"next: {command('convert', str(labels), '--out', f'{args.out}-coco', '--split', 'train=0.8,val=0.2')}")
    return 0


def _write_stills(out: Path, images: int, seed: int) -> Path:
    from ..synthetic.scenes import write_sample

    write_sample(out, images=images, seed=seed)
    print(f"{images} images with their labels: {display_path(out)}")
    return out


def _write_strips(out: Path, frames: int, strips: int, seed: int, size: int | None) -> Path:
    from ..datasets import coco
    from ..synthetic.strips import SIDE_PX, write_strips

    dataset = write_strips(out, frames=frames, strips=strips, seed=seed, side_px=SIDE_PX if size is None else size)
    labels = coco.write({"strips": dataset}, out)["strips"]
    bad = sum(image.frame is not None and image.frame.condition != "clean" for image in dataset.images)
    print(f"{strips} strips of {frames} frames, {bad} of them in bad condition: {display_path(labels)}")
    return labels


SAMPLE = Verb(
    summary="Write synthetic sample data: hot-rolled steel with six classes of defects.",
    details="Still images come in NEU-DET's own layout: BMP images in IMAGES, Pascal-VOC labels in ANNOTATIONS.\n"
    "Frames of moving strips are BMP images in IMAGES and one COCO JSON, strips.json, with the strip, position and\n"
    "condition of each frame: clean, blurred, overexposed, noisy or dropped.",
    examples=[
        "sample --out data/demo/steel --images 300 --seed 0",
        "sample --out data/strips --frames 40 --strips 30 --seed 0",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
