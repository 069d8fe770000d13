"""``detect compare``: compare detectors with the first, from their runs, benchmarks or files of detections."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    EvaluatedRun,
    UsageError,
    Verb,
    add_group_arguments,
    check_group_arguments,
    display_path,
    groups_from,
    labels_by_fold,
    parse_names,
    print_table,
    read_results,
    read_truth,
    runs_of,
    system_names,
)

if TYPE_CHECKING:
    from ..evaluation.records import CocoEvaluation, GroundTruth

_MIN_RESAMPLES = 100
_SHOWN = ("AP50", "AP")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "given",
        nargs="+",
        type=Path,
        metavar="A",
        help="run folder, folder of a system of 'bench train', or COCO results",
    )
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels to evaluate against (default: the runs' data.val)"
    )
    parser.add_argument(
        "--names", type=parse_names, metavar="NAME,NAME", help="names of the systems (default: from their paths)"
    )
    add_group_arguments(parser)
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="folder of the page and the tables (default: %(default)s)",
    )


def _run(args: argparse.Namespace) -> int:
    _check(args)
    systems = dict(zip(system_names(args.given, args.names), map(runs_of, args.given)))
    data = labels_by_fold(systems, args.data)
    from ..evaluation.compare import compare
    from ..evaluation.records import check_truth
    from ..report.compare import warnings as comparison_warnings
    from ..report.compare import write_comparison

    truths = {fold: read_truth(path) for fold, path in data.items()}
    labels = {fold: check_truth(truth) for fold, truth in truths.items()}
    warnings = _other_labels(systems, data, labels, chosen=args.data is not None)
    frames = [image.get("video_id") is not None for truth in truths.values() for image in truth["images"]]
    found = [groups_from(args, truth) for truth in truths.values()]
    groups = [each for each in found if each is not None] or None
    if all(frames) and groups is None:
        warnings.append(
            "The images are frames of strips, which are not independent: use --group-key video_id to draw whole strips."
        )
    judged = {name: _judged(name, runs, labels) for name, runs in systems.items()}
    images = sum(len(each.images) for each in labels.values())
    print(f"bootstrap: {args.resamples:,} resamples of {images:,} images", flush=True)
    comparison = compare(judged, groups=groups, resamples=args.resamples, seed=args.seed)
    comparison["warnings"] += warnings
    paths = write_comparison(
        comparison,
        {name: [runs[0] for runs in folds] for name, folds in judged.items()},
        args.out,
        images_roots=[path.parent for path in data.values()],
        meta={
            "data": ", ".join(map(str, data.values())),
            **{
                f"detections of {name}": ", ".join(str(run.detections) for run in runs)
                for name, runs in systems.items()
            },
            "groups": args.group_key or args.group_pattern,
            "resamples": f"{args.resamples:,} with seed {args.seed}",
            "compared": datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds"),
        },
    )
    _print(comparison)
    for warning in comparison_warnings(comparison):
        print(f"check this: {warning}")
    for path in (paths.html, paths.markdown, paths.json):
        print(f"wrote {display_path(path)}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if len(args.given) < 2:
        raise UsageError(f"{args.given[0]} alone can't be compared", fix="name two or more")
    check_group_arguments(args)
    if args.resamples < _MIN_RESAMPLES:
        raise UsageError(f"--resamples is {args.resamples}", fix=f"give {_MIN_RESAMPLES} or more")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}", fix="give 0 or more")


def _judged(
    name: str, runs: Sequence[EvaluatedRun], labels: Mapping[int | None, GroundTruth]
) -> list[list[CocoEvaluation]]:
    """A system's runs, by fold."""
    from ..errors import DataError
    from ..evaluation.coco_eval import run_coco_eval
    from ..evaluation.records import check_detections

    judged: dict[int | None, list[CocoEvaluation]] = {fold: [] for fold in labels}
    for number, run in enumerate(runs, start=1):
        print(
            f"evaluating {name}{f' [{number}/{len(runs)}]' if len(runs) > 1 else ''}: {display_path(run.detections)}",
            flush=True,
        )
        truth = labels[run.fold]
        results = read_results(run.detections, (image.id for image in truth.images), truth.category_ids)
        try:
            found = check_detections(results, truth)
        except DataError as error:
            where = str(run.detections) if error.where is None else f"{run.detections}, {error.where}"
            raise DataError(error.found, where=where, fix=error.fix) from None
        judged[run.fold].append(run_coco_eval(truth, found, sizes=False))
    return list(judged.values())


def _other_labels(
    systems: Mapping[str, Sequence[EvaluatedRun]],
    data: Mapping[int | None, Path],
    labels: Mapping[int | None, GroundTruth],
    *,
    chosen: bool,
) -> list[str]:
    """Warnings where a run was evaluated against other labels before; an error unless --data was given."""
    from ..evaluation.bootstrap import same_labels
    from ..evaluation.records import check_truth

    warnings, known = [], {path.resolve(): labels[fold] for fold, path in data.items()}
    for name, runs in systems.items():
        for run in runs:
            if run.labels is None or run.labels.resolve() == data[run.fold].resolve() or not run.labels.exists():
                continue
            other = run.labels.resolve()
            if other not in known:
                known[other] = check_truth(read_truth(run.labels))
            if same_labels(known[other], labels[run.fold]):
                continue
            found = (
                f"{name} was evaluated against {display_path(run.labels)} before, not {display_path(data[run.fold])}"
            )
            if not chosen:
                raise UsageError(found, fix="name the labels for all systems with --data")
            warnings.append(f"{found}.")
    return list(dict.fromkeys(warnings))


def _print(comparison: dict[str, Any]) -> None:
    from ..report.compare import class_rows, explanation, interval_text, percent, sentences
    from ..report.tables import fraction, signed_text

    share = percent(comparison)
    scores = [
        [
            row["name"],
            str(row["runs"]),
            *(c for key in _SHOWN for c in (fraction(row[key]["value"]), interval_text(row[key]))),
        ]
        for row in comparison["systems"]
    ]
    print()
    print_table("", ["system", "runs", *(cell for key in _SHOWN for cell in (key, share))], scores)
    for other in comparison["systems"][1:]:
        rows = []
        for row in class_rows(comparison, other):
            difference = row["difference"]["AP50"]
            values = [fraction(row[each]["AP50"]["value"]) for each in ("first", "other")]
            rows.append(
                [
                    *(row["name"], *values, signed_text(difference["value"])),
                    *(interval_text(difference, signs=True), difference["verdict"]),
                ]
            )
        print()
        columns = ["AP50", comparison["against"], other["name"], "difference", share, "verdict"]
        print_table("", columns, rows)
    print()
    for sentence in sentences(comparison):
        print(sentence)
    print(explanation(comparison))


COMPARE = Verb(
    summary="Compare detectors on the same images: differences with intervals, verdicts, and a page side by side.",
    details=(
        "The others are compared with the first. Each is an evaluated run folder (detect evaluate), the folder of a\n"
        "system of 'detect bench train' with all its seeds and folds, or COCO results of any detector. No detector\n"
        "runs and PyTorch is not loaded. Writes compare.html, compare.md and compare.json."
    ),
    examples=[
        "compare runs/plain runs/neu",
        "compare runs/bench/plain3 runs/bench/neu --out runs/bench/compare",
        "compare theirs.json runs/neu --data data/neu/val.json --names yolo,ours",
        "compare runs/a runs/b --group-key coil",
        "compare runs/a runs/b --group-pattern '(plate\\d+)_'",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
