"""The arguments that say which images belong together, and the groups that they name."""

from __future__ import annotations

import argparse
from typing import Any

from .verb import UsageError


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    """``--group-key`` and ``--group-pattern``."""
    parser.add_argument(
        "--group-key", metavar="KEY", help="draw images together whose entries share it: video_id, coil"
    )
    parser.add_argument("--group-pattern", metavar="REGEX", help="or whose file names share what it matches")


def check_group_arguments(args: argparse.Namespace) -> None:
    """Refuse both at once.

    Raises:
        UsageError: two ways to group.
    """
    if args.group_key is not None and args.group_pattern is not None:
        raise UsageError("--group-key and --group-pattern both say what to draw", fix="give one of them")


def groups_from(args: argparse.Namespace, truth: dict[str, Any]) -> list[int] | None:
    """A number for each image of a COCO data set as the arguments group them; None where they don't.

    Raises:
        ConfigError, DataError: as ``groups_of``, or labels that can't be judged by.
    """
    from ..evaluation.grouping import groups_of
    from ..evaluation.validation import check_truth

    if args.group_key is None and args.group_pattern is None:
        return None
    check_truth(truth)
    return groups_of(truth["images"], key=args.group_key, pattern=args.group_pattern)
