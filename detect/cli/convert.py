"""``detect convert``: read labels in one format, audit and split them, and write them in another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .audit import TARGET_NAMES, add_source_arguments, read_options
from .common import UsageError, Verb, command, display_path, print_rich

if TYPE_CHECKING:
    from ..datasets.convert import Conversion


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the labels and audit.json")
    parser.add_argument(
        "--to", dest="target", choices=TARGET_NAMES, default="coco", help="format to write (default: %(default)s)"
    )
    parser.add_argument(
        "--split",
        metavar="PARTS",
        help="by the number that ends a file name, train=1-200,val=201-240, or by share, train=0.8,val=0.1,test=0.1",
    )
    parser.add_argument("--folds", type=int, metavar="N", help="split into N folds for cross-validation")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of a split by share or into folds (default: 0)")
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        help="keep images in one part whose paths share the match, such as those of a coil or day",
    )
    parser.add_argument(
        "--difficult",
        choices=("keep", "ignore", "drop"),
        default="keep",
        help="objects flagged as difficult: keep, ignore in the evaluation, or drop (default: %(default)s)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images with errors")


def _run(args: argparse.Namespace) -> int:
    if args.split is not None and args.folds is not None:
        raise UsageError("--split and --folds exclude each other", fix="give one of them")
    if args.seed is not None and args.split is None and args.folds is None:
        raise UsageError("--seed has no meaning without --split or --folds", fix="add one of them or leave it out")
    if args.group_pattern is not None and args.split is None and args.folds is None:
        raise UsageError("--group-pattern has no meaning without --split or --folds", fix="add one of them")
    from ..datasets.audit import audit_table
    from ..datasets.convert import LabelError, convert

    try:
        done = convert(
            args.sources,
            args.out,
            source=args.source,
            target=args.target,
            split=args.split,
            folds=args.folds,
            seed=args.seed or 0,
            group_pattern=args.group_pattern,
            difficult=args.difficult,
            categories=args.classes,
            skip_bad=args.skip_bad,
            clip=args.clip,
            options=read_options(args),
        )
    except LabelError as error:
        print_rich(audit_table(error.report))
        raise
    print_rich(audit_table(done.report))
    for path in [*done.files.values(), args.out / "audit.json"]:
        print(f"wrote {display_path(path)}")
    _print_next(done, args.target)
    return 0


def _print_next(done: Conversion, target: str) -> None:
    train, val = done.files.get("train"), done.files.get("val")
    if target == "coco" and train is not None and val is not None:
        data = [f"data.train={display_path(train)}", f"data.val={display_path(val)}"]
        print(f"next: {command('train', 'configs/neu.yaml', f'run.dir=runs/{train.resolve().parent.name}', *data)}")


CONVERT = Verb(
    summary="Read labels, audit and split them, and write them in another format.",
    details=(
        "COCO and CSV reference the images in place, the other formats get copies. Several folders are read as one\n"
        "data set: an image may be in one and its labels in another. Errors stop the conversion with a list, unless\n"
        "--skip-bad is given; audit.json names every finding and everything that was left out. Near-duplicates stay\n"
        "in one part, unless the split is by number."
    ),
    examples=[
        "convert path/to/neu-det --out data/neu --split train=1-200,val=201-240",
        "convert images labels --out data/mine --split train=0.8,val=0.1,test=0.1 --seed 0",
        "convert images labels --out data/mine --folds 5 --group-pattern '(coil\\d+)_'",
        "convert data/neu/train.json --to yolo --out data/neu-yolo",
        "convert export/annotations/instances_default.json pictures --out data/mine --split train=0.8,val=0.2",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
