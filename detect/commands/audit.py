"""``detect audit``: what is wrong in labelled data, file by file."""

from __future__ import annotations

import argparse
from pathlib import Path

from .verb import Verb


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="DIR", help="folders (or COCO JSON files)")


def _run(args: argparse.Namespace) -> int:
    raise NotImplementedError


AUDIT = Verb(
    summary="Look through labelled data: what is wrong, file by file, and what to do.",
    details="Exit code 2 if there are errors; warnings and notes leave it at 0.",
    examples=["audit path/to/neu-det"],
    add_arguments=_add_arguments,
    run=_run,
)
