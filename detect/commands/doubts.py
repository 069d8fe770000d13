"""``detect doubts``: labels that a detector contradicts with confidence, ranked, as page, table and COCO."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..released import is_released
from .console import print_table, shown
from .depth import add_depth_arguments
from .verb import UsageError, Verb

if TYPE_CHECKING:
    from .doubt_sources import Source

_MOST, _SHOWN = 300, 15


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="run, checkpoint, released, or folder of a bench with --folds"
    )
    parser.add_argument("--detections", type=Path, metavar="JSON", help="COCO results of any detector, instead")
    parser.add_argument("--data", type=Path, metavar="JSON", help="COCO labels to doubt (default: those judged by)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (default: doubts, beside the run)")
    parser.add_argument(
        "--least", type=float, default=0.5, metavar="SCORE", help="lowest score of a doubt (default: %(default)s)"
    )
    parser.add_argument(
        "--most", type=int, default=_MOST, metavar="N", help="most doubts to write, the surest (default: %(default)s)"
    )
    add_depth_arguments(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def _run(args: argparse.Namespace) -> int:
    if (args.run is None) == (args.detections is None):
        raise UsageError("give either a run or --detections", fix="see detect doubts --help")
    if not 0 <= args.least <= 1:
        raise UsageError(f"--least is {args.least:g}", fix="give a score from 0 to 1")
    if args.most < 1:
        raise UsageError(f"--most is {args.most}", fix="give at least 1")
    source = _source(args)
    from ..evaluation.doubts import find_doubts
    from ..evaluation.matching import evaluate
    from ..evaluation.validation import check_detections, check_truth
    from ..report.doubt_words import counts, file_of, in_words
    from ..report.doubts import write_doubts

    labels = check_truth(source.truth)
    found = check_detections(source.detections, labels)
    doubts = find_doubts(evaluate(labels, found, sizes=False), least=args.least)
    warnings = [*source.warnings, *_cut_off(float(found.scores.min(initial=1)))]
    print(f"{len(doubts):,} doubts about {int((~labels.crowd).sum()):,} labels of {len(labels.images):,} images")
    print_table("", ["reason", "doubts"], [[reason, f"{number:,}"] for reason, number, _ in counts(doubts)])
    top = doubts[:_SHOWN]
    if top:
        rows = [[f"{doubt.score:.2f}", file_of(doubt), f"{doubt.reason}: {in_words(doubt)}"] for doubt in top]
        print_table(f"\nthe surest {len(top)}", ["score", "image", "why"], rows, text_columns=3)
    for warning in warnings:
        print(f"check this: {warning}")
    out = args.out or source.out
    kept = doubts[: args.most]
    meta = {**source.meta, "least score": args.least, "left out beyond the surest": len(doubts) - len(kept) or None}
    for path in write_doubts(kept, source.truth, out, pictures=source.pictures, meta=meta, warnings=warnings):
        print(f"wrote {shown(path)}")
    return 0


def _source(args: argparse.Namespace) -> Source:
    from .doubt_sources import folds_in, from_files, from_folds, from_run

    if args.detections is not None:
        if args.device is not None:
            raise UsageError("--device has no meaning with --detections", fix="leave it out: no detector runs")
        if args.max_value is not None:
            raise UsageError("--max-value has no meaning with --detections", fix="leave it out: no detector runs")
        if args.data is None:
            raise UsageError("--detections needs --data", fix="name the COCO labels that were detected on")
        return from_files(args.detections, args.data)
    if not is_released(args.run) and not args.run.exists():
        raise UsageError(f"{args.run}: no such run", fix="give a run folder, a .pt file or a bench's folder")
    if folds_in(args.run):
        return from_folds(args.run, args.data)
    systems = [each for each in sorted(args.run.iterdir()) if folds_in(each)] if args.run.is_dir() else []
    if len(systems) > 1:
        named = ", ".join(shown(each) for each in systems)
        raise UsageError(f"{args.run} holds the folds of {len(systems)} systems", fix=f"choose one of {named}")
    return from_folds(systems[0], args.data) if systems else from_run(args.run, args.data, args.device, args.max_value)


def _cut_off(least_score: float) -> list[str]:
    """A warning where detections of low score were left out before."""
    if least_score < 0.1 or least_score == 1:  # 1: there are none
        return []
    return [
        f"The detections start at a score of {least_score:.2f}, so 'not found' means not found from there on: keep "
        "those of low score, down to 0.05 or less."
    ]


DOUBTS = Verb(
    summary="Find labels that a detector contradicts with confidence: missing, wrong, badly drawn.",
    details=(
        "Writes doubts.html with a crop of each, doubts.md, and doubts.json: COCO with the proposed boxes, a reason\n"
        "each, for an annotation tool. A detector hardly contradicts what it was trained on: give the folder of\n"
        "'detect bench train ... --folds K', where each image was detected on by a run that has not seen it."
    ),
    examples=[
        "doubts runs/folds/neu --data data/neu/train.json",
        "doubts runs/neu",
        "doubts --detections theirs.json --data data/neu/val.json --out reports/doubts",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
