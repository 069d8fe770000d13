"""``detect bench infer``: how fast detectors are on this machine, and how accurate in the same form."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..released import folder_of, is_released
from .console import shown
from .verb import UsageError, Verb

if TYPE_CHECKING:
    from ..images import Pixels
    from ..records import Dataset

_RUNTIMES = ("eager", "compile", "onnx", "openvino")
_PRECISIONS = ("fp32", "int8")
_MADE = 24  # sample images that speed is measured on where there are no others
_RANGES = 100  # calibration images


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, checkpoint files, or released")
    parser.add_argument(
        "--runtime", default="eager", metavar="NAME,NAME", help=f"of {', '.join(_RUNTIMES)} (default: eager)"
    )
    parser.add_argument("--precision", default="fp32", metavar="NAME,NAME", help="of fp32, int8 (default: fp32)")
    parser.add_argument("--threads", default="2", metavar="N,N", help="that a detector may use (default: 2)")
    parser.add_argument("--batch", default="1", metavar="N,N", help="images a call (default: 1)")
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="timed for each row (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels: measure on their images, and tell the accuracy"
    )
    parser.add_argument("--calibration", type=Path, metavar="JSON", help="with int8: COCO labels of training images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, as a list")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw accuracy against time; needs --data")


def _run(args: argparse.Namespace) -> int:
    runtimes = _among(args.runtime, _RUNTIMES, "--runtime")
    precisions = _among(args.precision, _PRECISIONS, "--precision")
    threads, batches = _counts(args.threads, "--threads"), _counts(args.batch, "--batch")
    if args.calls < 1:
        raise UsageError(f"--calls is {args.calls}", fix="give 1 or more")
    if args.plot is not None and args.data is None:
        raise UsageError("--plot needs accuracy to draw", fix="name COCO labels with --data")
    if "int8" in precisions and not {"onnx", "openvino"} & set(runtimes):
        raise UsageError("int8 is for exported models", fix="add onnx or openvino to --runtime")
    from contextlib import ExitStack

    from ..bench.speed import measure, pareto_plot, to_markdown
    from ..bench.speed.variants import variants_of
    from ..checkpoint import load_checkpoint
    from ..formats.files import write_json, write_text

    checkpoints = [load_checkpoint(run) for run in args.runs]
    channels = {each.detector.channels for each in checkpoints}
    if len(channels) > 1:
        raise UsageError("some of these detectors are for gray images and some for RGB", fix="measure them apart")
    images, truth = _images(args.data, channels.pop())
    calibration = _calibration(args, images) if "int8" in precisions else []
    with ExitStack() as stack:
        variants = [
            variant
            for run, checkpoint in zip(args.runs, checkpoints)
            for variant in stack.enter_context(
                variants_of(
                    _name(run),
                    checkpoint,
                    runtimes=runtimes,
                    precisions=precisions,
                    threads=threads,
                    example=images[0],
                    calibration=calibration,
                )
            )
        ]
        rows = measure(variants, images, batches=batches, calls=args.calls, truth=truth)
    print(to_markdown(rows), end="")
    if truth is None:
        print("measured on sample images made by code; --data names images, and tells the accuracy on them")
    if args.json is not None:
        write_json(args.json, rows, indent=1)
        print(f"wrote {shown(args.json)}")
    if args.plot is not None:
        write_text(args.plot, pareto_plot(rows))
        print(f"wrote {shown(args.plot)}")
    return 0


def _name(run: Path) -> str:
    return str(run) if is_released(run) else folder_of(run).resolve().name


def _among(text: str, known: Sequence[str], flag: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{flag} {unknown[0]!r} is not known", fix=f"choose among {', '.join(known)}")
    return names


def _counts(text: str, flag: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and 0 < int(part) < 1000 for part in parts):
        raise UsageError(f"{flag} is {text}", fix="give whole numbers from 1 on, such as 1,2")
    return list(dict.fromkeys(map(int, parts)))


def _images(data: Path | None, channels: int) -> tuple[list[Pixels], tuple[Dataset, dict[str, Any]] | None]:
    """Arrays as the networks take them, and what they are judged by."""
    from ..data import as_channels

    if data is None:
        from ..sample import CATEGORIES, sample_image

        made = [sample_image(CATEGORIES[i % len(CATEGORIES)], i, seed=0)[0] for i in range(_MADE)]
        return [as_channels(each, channels) for each in made], None
    import numpy as np

    from ..formats import coco
    from ..images import read_image

    dataset, labels = coco.read(data), coco.load(data)
    images = [np.ascontiguousarray(as_channels(read_image(image.path), channels)) for image in dataset.images]
    if len({(image.shape, image.dtype) for image in images}) != 1:
        raise DataError("the images differ in size or depth", where=data, fix="measure on images of one size")
    return images, (dataset, labels)


def _calibration(args: argparse.Namespace, images: Sequence[Pixels]) -> list[Pixels]:
    if args.calibration is None:
        raise UsageError(
            "int8 needs training images to find the ranges of its numbers", fix="name them with --calibration"
        )
    found, _ = _images(args.calibration, 1 if images[0].ndim == 2 else 3)
    return found[:: max(len(found) // _RANGES, 1)][:_RANGES]


BENCH_INFER = Verb(
    summary="Measure how fast detectors are here, runtime by runtime, with their accuracy beside it.",
    details=(
        "A call goes the whole way from image arrays to boxes. All rows are measured in turns, so that their ratios\n"
        "hold on a busy machine as well; exported models take one image at a time, whatever the batch. The time in\n"
        "the last column is an image's, against the first row's."
    ),
    examples=[
        "bench infer released",
        "bench infer runs/neu --data data/neu/val.json --runtime eager,onnx,openvino --threads 1,2 --batch 1,8",
        "bench infer runs/n runs/s --runtime onnx --precision fp32,int8 --calibration data/neu/train.json",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
