"""``detect audit``: what is wrong in labelled data, file by file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .console import print_rich
from .verb import Verb, names

FORMAT_NAMES = ("voc", "coco", "yolo", "labelme")
TARGET_NAMES = (*FORMAT_NAMES, "csv")  # that are written; CSV is not read


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say what is read; the verb convert has the same."""
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="DIR", help="folders of images and labels, or label files"
    )
    parser.add_argument(
        "--from", dest="source", choices=FORMAT_NAMES, help="format of the labels (default: by looking at them)"
    )
    parser.add_argument(
        "--classes",
        type=names,
        metavar="A,B,...",
        help="the class names in the order of their ids (default: all, sorted)",
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--all", action="store_true", help="show every finding instead of a few of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def _run(args: argparse.Namespace) -> int:
    from ..audit import audit_table
    from ..conversion import audit_sources

    report = audit_sources(args.sources, source=args.source, categories=args.classes)
    if args.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, indent=1))
    elif args.all:
        print_rich(audit_table(report, each=len(report.findings), every_error=len(report.findings)))
    else:
        print_rich(audit_table(report))
    if not report.errors:
        return 0
    errors = "1 error" if len(report.errors) == 1 else f"{len(report.errors)} errors"
    print(f"detect: {errors} in the data; a conversion would stop there", file=sys.stderr)
    return 2


AUDIT = Verb(
    summary="Look through labelled data: what is wrong, file by file, and what to do.",
    details=(
        "Nothing is written. The exit code is 2 if there are errors; warnings and notes leave it at 0. Duplicates are\n"
        "found in the pixels, over all folders given."
    ),
    examples=["audit path/to/neu-det", "audit data/neu/train.json data/neu/val.json --all"],
    add_arguments=_add_arguments,
    run=_run,
)
