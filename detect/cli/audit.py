"""``detect audit``: errors in labelled data, file by file, and differences between its parts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import Verb, display_path, parse_names, print_rich

if TYPE_CHECKING:
    from ..datasets.reading import ReadOptions

FORMAT_NAMES = ("voc", "coco", "yolo", "labelme", "cvat")  # that are read
TARGET_NAMES = ("voc", "coco", "yolo", "labelme", "csv")  # that are written


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sources, shared with convert."""
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="DIR", help="folders of images and labels, or label files"
    )
    parser.add_argument(
        "--from", dest="source", choices=FORMAT_NAMES, help="format of the labels (default: detected from the files)"
    )
    parser.add_argument(
        "--classes",
        type=parse_names,
        metavar="A,B,...",
        help="the class names in the order of their ids (default: all, sorted)",
    )
    parser.add_argument("--clip", action="store_true", help="clip boxes that extend beyond their image by any distance")
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="images without a label file have no defect; label files without an image are only warnings",
    )
    parser.add_argument(
        "--voc-origin", type=int, choices=(0, 1), help="index of the first pixel in Pascal-VOC (default: from the data)"
    )
    parser.add_argument(
        "--ignore-orientation",
        action="store_true",
        help="boxes were drawn by a tool that ignores the orientation tag (EXIF) of images",
    )


def read_options(args: argparse.Namespace) -> ReadOptions:
    """The options for reading labels."""
    from ..datasets.reading import ReadOptions

    return ReadOptions(
        voc_origin=args.voc_origin, ignores_orientation=args.ignore_orientation, allow_empty=args.allow_empty
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument(
        "--split", metavar="PARTS", help="parts to compare, as detect convert makes them: train=1-200,val=201-240"
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="another data set, in any format, to compare with; may be given several times",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures of the findings")
    parser.add_argument("--all", action="store_true", help="print all findings instead of a few of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def _run(args: argparse.Namespace) -> int:
    from ..datasets.audit import audit_table
    from ..datasets.convert import audit_sources

    report = audit_sources(
        args.sources,
        source=args.source,
        categories=args.classes,
        split=args.split,
        against=args.against,
        clip=args.clip,
        options=read_options(args),
    )
    if args.json:
        from ..fileio import json_text

        print(json_text(report.as_dict(), sys.stdout.encoding, indent=1), end="")
    elif args.all:
        print_rich(audit_table(report, each=len(report.findings), every_error=len(report.findings)))
    else:
        print_rich(audit_table(report))
    if args.html is not None:
        from ..report.audit import write_audit_page

        write_audit_page(report, args.html, meta=_meta(args))
        print(f"wrote {display_path(args.html)}", file=sys.stderr if args.json else sys.stdout)
    if not report.errors:
        return 0
    errors = "1 error" if len(report.errors) == 1 else f"{len(report.errors)} errors"
    print(f"detect: {errors} in the data, which stop a conversion or a training", file=sys.stderr)
    return 2


def _meta(args: argparse.Namespace) -> dict[str, str]:
    """The origin of the data, for the page."""
    meta = {"data": ", ".join(map(str, args.sources))}
    if args.split is not None:
        meta["split"] = args.split
    if args.against:
        meta["compared with"] = ", ".join(map(str, args.against))
    return meta


AUDIT = Verb(
    summary="Check labelled data for errors, file by file, and its parts for differences.",
    details=(
        "Nothing is written, except the page of --html. The exit code is 2 if there are errors, and 0 with warnings\n"
        "and notes only. Duplicates are found by their pixels, in all data given. Parts (COCO files, folders of YOLO,\n"
        "several folders, those of --split) and other data sets are compared in classes, sizes and brightness, by\n"
        "tests that account for chance differences between images."
    ),
    examples=[
        "audit path/to/neu-det",
        "audit path/to/neu-det --split train=1-200,val=201-240 --html audit.html",
        "audit data/neu/train.json data/neu/val.json --all",
        "audit path/to/mine --against path/to/theirs",
    ],
    add_arguments=_add_arguments,
    run=_run,
    only_prints=lambda args: args.html is None,
)
