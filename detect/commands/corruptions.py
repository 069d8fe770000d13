"""``detect evaluate --corruptions``: the same pictures in worse conditions, judged, as table, chart and JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import print_table, shown
from .verb import UsageError, names

if TYPE_CHECKING:
    from ..images import Pixels
    from ..inference import Predictor
    from ..records import Dataset, Detections

ALL = "all"


def add_corruption_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``detect evaluate`` that ask for corrupted copies."""
    parser.add_argument(
        "--corruptions",
        nargs="?",
        const=[ALL],
        type=names,
        metavar="A,B,...",
        help="judge noisy, blurred, badly lit, ... copies too: all kinds, or those named",
    )
    parser.add_argument(
        "--severities", type=_severities, metavar="N,N", help="how bad, 1 to 5 (with --corruptions; default: 1,2,3,4,5)"
    )


def check_corruption_arguments(args: argparse.Namespace) -> None:
    """Refuse, before a detector is loaded, what can't be meant.

    Raises:
        UsageError: severities without corruptions, or corruptions where there is no detector to run.
        DataError: a name or severity that there isn't.
    """
    if args.corruptions is None:
        if args.severities is not None:
            raise UsageError("--severities has no meaning without --corruptions", fix="add --corruptions")
        return
    if args.weights is None:
        raise UsageError("--corruptions needs a detector, not its detections", fix="name the run to judge")
    _chosen(args)


def judge_under_corruptions(
    predictor: Predictor,
    dataset: Dataset,
    truth: dict[str, Any],
    args: argparse.Namespace,
    out: Path,
    meta: dict[str, Any],
    groups: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Judge, print the table, and write corruptions.json, .md and .svg into ``out``.

    Args:
        predictor: the detector; frames of strips are seen alone, without memory of the frames before.
        dataset: the pictures, in the order of the truth's images.
        truth: the COCO data set they come from.
        args: with ``corruptions``, ``severities``, ``tile`` and ``overlap``.
        out: folder.
        meta: where it comes from; plain JSON values.
        groups: as for ``judge_corrupted``.

    Returns:
        What is in corruptions.json.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ..formats.files import write_json, write_text
    from ..report.robustness import gist, table_rows, to_markdown, to_svg
    from ..robustness import judge_corrupted

    chosen, severities = _chosen(args)

    def detect(pictures: Sequence[Pixels]) -> list[Detections]:
        return [predictor(pixels, tile=args.tile, overlap=args.overlap) for pixels in pictures]

    total = len(dataset.images) * (1 + len(chosen) * len(severities))
    print(f"judging {len(chosen)} corruptions in {len(severities)} severities: {total:,} pictures")
    with Progress(transient=True, disable=not sys.stderr.isatty(), console=Console(stderr=True)) as bar:
        task = bar.add_task("detecting", total=total)
        results = judge_corrupted(
            detect,
            [image.path for image in dataset.images],
            truth,
            names=chosen,
            severities=severities,
            groups=groups,
            max_value=predictor.max_value,
            progress=lambda seen: bar.advance(task, seen),
        )
    header, rows = table_rows(results)
    print_table("", header, rows)
    print(f"\n{gist(results)}")
    write_json(out / "corruptions.json", {**results, "meta": meta}, indent=1)
    write_text(out / "corruptions.md", to_markdown(results, meta))
    write_text(out / "corruptions.svg", to_svg(results))
    for name in ("corruptions.md", "corruptions.svg", "corruptions.json"):
        print(f"wrote {shown(out / name)}")
    return results


def _chosen(args: argparse.Namespace) -> tuple[list[str], list[int]]:
    from ..corruptions import CORRUPTIONS, SEVERITIES, checked_names, checked_severities

    wanted = list(CORRUPTIONS) if args.corruptions == [ALL] else args.corruptions
    return checked_names(wanted), checked_severities(args.severities or range(1, SEVERITIES + 1))


def _severities(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 1,3,5") from None
