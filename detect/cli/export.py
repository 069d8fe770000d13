"""``detect export``: a detector for ONNX Runtime or OpenVINO, with a check that its detections are the same."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ..released import folder_of
from .common import UsageError, Verb, display_path, print_table
from .evaluate import DEFAULT_THRESHOLD, matching_thresholds

_SIZE = re.compile(r"(\d+)[xX](\d+)")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="RUN", help="run folder, checkpoint file, or released")
    parser.add_argument("--to", required=True, choices=("onnx", "openvino"), help="the runtime")
    parser.add_argument(
        "--int8", action="store_true", help="8-bit convolutions and products, calibrated on training data"
    )
    parser.add_argument(
        "--size", metavar="HxW", help="height and width of every image (default: that of --data's images)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels for the check (default: the run's data.val)"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="JSON", help="with --int8: training images (default: the run's data.train)"
    )
    parser.add_argument(
        "--max-recall-loss",
        type=float,
        metavar="SHARE",
        help="with --int8: largest loss of recall of a class, 0 to 1 (default: 0.02)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/export/RUNTIME)")


def _run(args: argparse.Namespace) -> int:
    if not args.int8 and (args.calibration is not None or args.max_recall_loss is not None):
        raise UsageError("--calibration and --max-recall-loss need --int8", fix="leave them out")
    if args.max_recall_loss is not None and not 0 <= args.max_recall_loss <= 1:
        raise UsageError(f"--max-recall-loss is {args.max_recall_loss}", fix="give a share from 0 to 1")
    from ..export.export import MAX_RECALL_LOSS, export
    from ..models.checkpoint import find_checkpoint, load_checkpoint

    weights = find_checkpoint(args.weights)
    checkpoint = load_checkpoint(weights)
    data = args.data or _of_run(args.weights, "val", "--data")
    calibration = (args.calibration or _of_run(args.weights, "train", "--calibration")) if args.int8 else None
    chosen = matching_thresholds(weights, None)
    if chosen is not None and chosen.calibration:
        line = f"the calibration of {display_path(chosen.path)} can't be exported, so its thresholds are not used"
        print(f"detect: {line}; {DEFAULT_THRESHOLD} is the threshold of all classes", file=sys.stderr)
        chosen = None
    categories = checkpoint.detector.categories
    thresholds = dict.fromkeys(categories, DEFAULT_THRESHOLD) if chosen is None else dict(chosen.per_class)
    name = args.to + ("-int8" if args.int8 else "")
    made = export(
        checkpoint,
        args.out or folder_of(args.weights) / "export" / name,
        runtime=args.to,
        int8=args.int8,
        size_hw=_size(args.size, data),
        data=data,
        calibration=calibration,
        thresholds=thresholds,
        max_recall_loss=MAX_RECALL_LOSS if args.max_recall_loss is None else args.max_recall_loss,
    )
    rows = [[model, *(f"{each[key]:.4f}" for key in ("AP", "AP50"))] for model, each in made.scores.items()]
    print_table("", ["", "AP", "AP50"], rows)
    if args.int8:
        lost = ", ".join(
            f"{name} {share:+.1%}" for name, share in made.proof["recall_loss"].items() if share is not None
        )
        print(f"loss of recall by class: {lost}")
    else:
        proof = made.proof
        difference = f"{proof['largest_px']:.2g} px and {proof['largest_score']:.2g} of score"
        print(f"all {proof['compared']:,} compared detections agree, with differences of at most {difference}")
    print(f"wrote {display_path(made.folder)}: the model, contract.json, golden images and example.py")
    return 0


def _of_run(run: Path, part: str, flag: str) -> Path:
    """The training or validation labels of a run."""
    from ..config.loading import load_config

    config_file = folder_of(run) / "config.yaml"
    data = None
    if config_file.exists():
        of_run = load_config(config_file, []).data
        data = of_run.train if part == "train" else of_run.val
    if data is None or not data.exists():
        raise UsageError(f"there are no labels for {flag}", fix=f"name COCO labels with {flag}")
    return data


def _size(given: str | None, data: Path) -> tuple[int, int]:
    if given is not None:
        parts = _SIZE.fullmatch(given)
        if parts is None or not int(parts[1]) or not int(parts[2]):
            raise UsageError(f"--size is {given}", fix="give HEIGHTxWIDTH in pixels, such as 200x200")
        return int(parts[1]), int(parts[2])
    from ..datasets import coco

    sizes = {(image.height, image.width) for image in coco.read(data).images}
    if len(sizes) != 1:
        raise UsageError(
            f"the images of {display_path(data)} have {len(sizes)} sizes", fix="choose one with --size HxW"
        )
    return sizes.pop()


EXPORT = Verb(
    summary="Write a detector for ONNX Runtime or OpenVINO, and check that its detections are the same.",
    details=(
        "One graph of fixed size takes the camera's array and returns boxes, scores and labels, without any further\n"
        "steps. Detector and exported model run on the same labelled images. In float32 all detections must agree, in\n"
        "int8 the recall of no class may fall by more than --max-recall-loss; otherwise nothing is written.\n"
        "docs/line.md describes the folder."
    ),
    examples=[
        "export runs/neu --to onnx",
        "export released --to openvino --data data/neu/val.json --out line/model",
        "export runs/neu --to onnx --int8",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
