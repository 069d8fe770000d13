"""``detect evaluate``: evaluate a run, a checkpoint or a file of detections, and write the reports."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..released import folder_of, is_released
from .common import (
    UsageError,
    Verb,
    add_depth_arguments,
    add_group_arguments,
    add_tile_arguments,
    check_group_arguments,
    check_tile_arguments,
    command,
    display_path,
    groups_from,
    parse_names,
    print_table,
    read_results,
    read_truth,
    report_bit_depth,
    report_dataset_tiling,
)

if TYPE_CHECKING:
    from ..evaluation.costs import Costs
    from ..evaluation.records import CocoEvaluation, Judgement
    from ..images import Pixels
    from ..inference.predictor import Predictor
    from ..inference.thresholds import Thresholds
    from ..structures import Dataset, Detections

    ScoreThresholds = float | Thresholds  # one score for all categories, or one per category

DEFAULT_THRESHOLD = 0.5


def choose_operating_point(
    evaluated: CocoEvaluation, costs: Costs, *, calibrate: bool, groups: Sequence[int] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of thresholds.json without its origin, and the same with curves, for report.json.

    Args:
        evaluated: the evaluated detections.
        costs: of every category.
        calibrate: whether scores will be calibrated before thresholds are applied.
        groups: group number of each image, such as its plate.
    """
    import numpy as np

    from ..evaluation.calibration import fit_calibration
    from ..evaluation.operating_point import froc, operating_point, recall_by_size

    fitted = fit_calibration(evaluated, groups=groups)
    point = operating_point(evaluated, costs, groups=groups, calibration=fitted if calibrate else None)
    stored = {**point, "calibration": _in_short(fitted) if calibrate else None, "costs": costs.as_dict()}
    at = np.array([each["uncalibrated_threshold"] for each in point["per_class"].values()])
    sizes = recall_by_size(evaluated, at, confidence=costs.confidence)
    curves = {"reliability": fitted, "froc": froc(evaluated), "recall_by_size": sizes}
    return stored, {**stored, **curves}


def store_thresholds(
    point: dict[str, Any], folder: Path, judgement: Judgement, *, made: dict[str, Any], weights: Path | None = None
) -> None:
    """Write thresholds.json into a run's folder or the folder of a report, and print where.

    Args:
        point: the first result of ``choose_operating_point``.
        folder: of the file.
        judgement: the evaluation that it was chosen on.
        made: its origin.
        weights: the evaluated checkpoint, if there is one; it is copied into the folder if it is elsewhere, because
            detect infer reads the thresholds in the folder of the weights.
    """
    from ..fileio import copy, sha256_of
    from ..inference.thresholds import FILE_NAME, write_thresholds

    made = {**made, "versions": judgement.summary["versions"]}
    if weights is not None:
        made["weights"] = {"file": weights.name, "epoch": made.pop("epoch", None), "sha256": sha256_of(weights)}
        if weights.resolve().parent != folder.resolve():
            copy(weights, folder / "best.pt")
            print(f"wrote {display_path(folder / 'best.pt')}, a copy of the weights that the thresholds are for")
    write_thresholds(folder / FILE_NAME, {**point, "made": made})
    print(f"wrote {display_path(folder / FILE_NAME)}")


def print_operating(point: dict[str, Any]) -> None:
    """Print thresholds with their rates on both parts, the limits, and escape and overkill rates."""
    from ..report.tables import operating_sentences

    parts = point["parts"]
    columns = ["class", "threshold", "missed", "holdout", "false per image", "holdout"]
    rows = [
        [
            name,
            f"{each['threshold']:.3f}",
            *(_share(each[part]["missed"]) for part in ("tuning", "holdout")),
            *(_rate(each[part]["false_alarms"]) for part in ("tuning", "holdout")),
        ]
        for name, each in point["per_class"].items()
    ]
    print()
    what = f"thresholds chosen on {parts['tuning']:,} images, confirmed on {parts['holdout']:,} holdout images"
    bound = f"{100 * parts['confidence']:.4g} % upper bound"
    if parts["joint"] is not None:
        bound += f", so that all {parts['joint']['limits']} limits hold with {100 * parts['joint']['confidence']:g} %"
    print_table(f"{what}; in brackets the {bound}", columns, rows)
    print()
    for name, each in point["per_class"].items():
        for sentence in operating_sentences(each, parts["confidence"]):
            print(f"{name}: {sentence}")
    for units in ("images", "groups"):
        if point["holdout"][units] is not None:
            print(f"on the holdout images, {_escapes(point['holdout'][units], units)}")
    costs = [point[part]["cost_per_image"] for part in ("tuning", "holdout")]
    if None not in costs:
        unit = f" {point['costs']['currency']}".rstrip()
        print(f"cost per image: {costs[1]:.3g}{unit} on the holdout images, {costs[0]:.3g}{unit} on the tuning images")
    if point["calibration"] is not None:
        was, now = (point["calibration"][key] for key in ("uncalibrated", "cross_validated"))
        if was["ece"] is not None:
            gain = f"expected calibration error {was['ece']:.3f} -> {now['ece']:.3f} in cross-validation"
            print(f"scores calibrated by {point['calibration']['method']}: {gain}")


def score_thresholds_for(weights: Path, threshold: float | None) -> ScoreThresholds:
    """The score thresholds to use; lines on stderr name them where they were chosen for this run.

    Args:
        weights: the checkpoint in use.
        threshold: the score that the user gave for all categories, if any.
    """
    return resolve_thresholds(matching_thresholds(weights, threshold), threshold)


def matching_thresholds(weights: Path, threshold: float | None) -> Thresholds | None:
    """The thresholds that were chosen for a checkpoint; a line on stderr if the file belongs to another one.

    Args:
        weights, threshold: as for ``score_thresholds_for``.
    """
    from ..inference.thresholds import thresholds_for_weights

    chosen = thresholds_for_weights(weights)
    if chosen is None or chosen.match_weights(weights):
        return chosen
    lowest = DEFAULT_THRESHOLD if threshold is None else threshold
    line = f"{display_path(chosen.path)} was not chosen for this {weights.name}, so {lowest:g} holds for all classes"
    print(f"detect: {line}; choose again with detect evaluate --costs", file=sys.stderr)
    return None


def resolve_thresholds(chosen: Thresholds | None, threshold: float | None) -> ScoreThresholds:
    """These thresholds, unless the user gave a score for all categories; stderr names them and the calibration."""
    if chosen is None:
        return DEFAULT_THRESHOLD if threshold is None else threshold
    where = display_path(chosen.path)
    if chosen.calibration:
        print(f"detect: scores are calibrated by {where}", file=sys.stderr)
    if threshold is not None:
        print(f"detect: --threshold {threshold:g} overrides the thresholds of {where}", file=sys.stderr)
        return threshold
    print(f"detect: thresholds of {where}: {chosen.in_words()}", file=sys.stderr)
    return chosen


def above_thresholds(found: Detections, lowest: ScoreThresholds) -> Detections:
    """The detections that reach their threshold."""
    return found.above(lowest) if isinstance(lowest, float) else lowest.apply(found)


def _in_short(fitted: dict[str, Any]) -> dict[str, Any]:
    """A calibration without its reliability diagrams."""
    overall, metrics = fitted["overall"], ("ece", "ece_by_chance", "debiased_error", "nll")
    return {
        "method": fitted["method"],
        "per_class": {
            name: {key: each[key] for key in ("temperature", "shift", "left")}
            for name, each in fitted["per_class"].items()
        },
        "uncalibrated": {key: overall[key] for key in metrics},
        "cross_validated": overall["cross_validated"][fitted["method"]],
    }


def _escapes(figures: dict[str, Any], units: str) -> str:
    from ..report.tables import escape_notes

    escape, incomplete, overkill = (figures[key] for key in ("escape", "incomplete", "overkill"))
    rates = []
    if escape["of"]:
        rates.append(f"{_share(escape)} of {escape['of']:,} defective {units} escape")
        rates.append(f"in {_share(incomplete)} not every defect is found")
    if overkill["of"]:
        rates.append(f"{_share(overkill)} of {overkill['of']:,} clean {units} are stopped")
    notes = escape_notes(figures, units.removesuffix("s"))
    return "; ".join([", ".join(rates), *notes] if rates else notes)


def _share(rate: dict[str, Any]) -> str:
    return "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} % ({100 * rate['high']:.1f})"


def _rate(rate: dict[str, Any]) -> str:
    return "-" if rate["rate"] is None else f"{rate['rate']:.3g} ({rate['high']:.3g})"


ALL = "all"


def add_corruption_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--corruptions`` and ``--severities``."""
    parser.add_argument(
        "--corruptions",
        nargs="?",
        const=[ALL],
        type=parse_names,
        metavar="A,B,...",
        help="also evaluate on noisy, blurred, badly lit, ... copies: all kinds, or those named; put RUN before it",
    )
    parser.add_argument(
        "--severities",
        type=_severities,
        metavar="N,N",
        help="severities of the corruptions, 1 to 5 (default: 1,2,3,4,5)",
    )


def check_corruption_arguments(args: argparse.Namespace) -> None:
    """Check the arguments before a detector is loaded.

    Raises:
        UsageError: severities without corruptions, or corruptions without a detector.
        DataError: an unknown name or severity.
    """
    if args.corruptions is None:
        if args.severities is not None:
            raise UsageError("--severities has no meaning without --corruptions", fix="add --corruptions")
        return
    if args.weights is None:
        raise UsageError("--corruptions needs a detector, not its detections", fix="name the run to evaluate")
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
    """Evaluate, print the table, and write corruptions.json, .md and .svg into ``out``.

    Args:
        predictor: the detector; frames of strips are processed singly, without memory.
        dataset: the images, in the order of the truth's images.
        truth: their COCO data set.
        args: with ``corruptions``, ``severities``, ``tile`` and ``overlap``.
        out: folder.
        meta: origin of the results; plain JSON values.
        groups: as for ``judge_corrupted``.

    Returns:
        The content of corruptions.json.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ..evaluation.robustness import judge_corrupted
    from ..fileio import write_json, write_text
    from ..report.robustness import robustness_summary, table_rows, to_markdown, to_svg

    chosen, severities = _chosen(args)

    def detect(images: Sequence[Pixels]) -> list[Detections]:
        return [predictor(pixels, tile=args.tile, overlap=args.overlap) for pixels in images]

    total = len(dataset.images) * (1 + len(chosen) * len(severities))
    print(f"evaluating {len(chosen)} corruptions at {len(severities)} severities: {total:,} images")
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
            progress=lambda count: bar.advance(task, count),
        )
    header, rows = table_rows(results)
    print_table("", header, rows)
    print(f"\n{robustness_summary(results)}")
    write_json(out / "corruptions.json", {**results, "meta": meta}, indent=1)
    write_text(out / "corruptions.md", to_markdown(results, meta))
    write_text(out / "corruptions.svg", to_svg(results))
    for name in ("corruptions.md", "corruptions.svg", "corruptions.json"):
        print(f"wrote {display_path(out / name)}")
    return results


def _chosen(args: argparse.Namespace) -> tuple[list[str], list[int]]:
    from ..synthetic.corruptions import CORRUPTIONS, SEVERITIES, checked_names, checked_severities

    names = list(CORRUPTIONS) if args.corruptions == [ALL] else args.corruptions
    return checked_names(names), checked_severities(args.severities or range(1, SEVERITIES + 1))


def _severities(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers such as 1,3,5") from None


_HEADLINE = ("AP", "AP50", "AP75")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", nargs="?", type=Path, metavar="RUN", help="run folder, checkpoint file, or released")
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels to evaluate against (default: the run's data.val)"
    )
    parser.add_argument(
        "--detections", type=Path, metavar="JSON", help="evaluate these COCO results instead of running a detector"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the reports (default: RUN/report)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--costs", type=Path, metavar="YAML", help="choose thresholds by these prices and limits, write thresholds.json"
    )
    parser.add_argument("--calibrate", action="store_true", help="with --costs: calibrate the scores that infer shows")
    add_depth_arguments(parser)
    add_tile_arguments(parser)
    add_group_arguments(parser)
    add_corruption_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    if args.weights is None and args.detections is None and args.corruptions not in (None, [ALL]):
        raise UsageError("no run was given", fix="put the run before --corruptions, or write --corruptions all RUN")
    if (args.weights is None) == (args.detections is None):
        raise UsageError("give either a run or --detections", fix="see detect evaluate --help")
    if args.calibrate and args.costs is None:
        raise UsageError("--calibrate needs --costs", fix="the calibration is kept with the thresholds chosen by costs")
    check_tile_arguments(args)
    check_group_arguments(args)
    check_corruption_arguments(args)
    return _judge_detections(args) if args.weights is None else _judge_run(args)


def _judge_detections(args: argparse.Namespace) -> int:
    if args.data is None:
        raise UsageError("--detections needs --data", fix="name the COCO labels of the images")
    if args.tile is not None or args.overlap is not None:
        raise UsageError("--tile and --overlap have no meaning with --detections", fix="leave them out")
    if args.device is not None:
        raise UsageError("--device has no meaning with --detections", fix="leave it out: no detector runs")
    if args.max_value is not None:
        raise UsageError("--max-value has no meaning with --detections", fix="leave it out: no detector runs")
    from ..evaluation.summary import judge

    out = args.out or args.detections.parent / "report"
    meta = {"detections": str(args.detections), "data": str(args.data), "judged": _now()}
    truth = read_truth(args.data)
    groups = groups_from(args, truth)
    ids = ([item["id"] for item in truth[key]] for key in ("images", "categories"))
    judgement = judge(truth, read_results(args.detections, *ids), groups=groups)
    costs = _costs(args, judgement.evaluated.truth.categories)
    _add_intervals(judgement, groups)
    point = _operate(judgement, costs, groups, args)
    _report(judgement, args.data.parent, out, log=None, meta=meta)
    if point is not None:
        store_thresholds(point, out, judgement, made=meta)
    return 0


def _judge_run(args: argparse.Namespace) -> int:
    if not is_released(args.weights) and not args.weights.exists():
        raise UsageError(f"{args.weights}: no such run or checkpoint", fix="give a run folder or a .pt file")
    run_dir = folder_of(args.weights)
    from ..datasets import coco
    from ..evaluation.summary import judge
    from ..fileio import read_json_lines
    from ..inference.predictor import Predictor

    # the error for a file that is no checkpoint comes before errors about a missing configuration
    load = partial(Predictor.load, args.weights, device=args.device, calibrated=False, max_value=args.max_value)
    predictor = load() if args.weights.is_file() else None
    data = args.data or _validation_data(run_dir)
    dataset = coco.read(data)
    costs = _costs(args, dataset.categories)  # a mistake in them is reported before the detector runs
    predictor = predictor or load()
    subject = f"the {len(dataset.images):,} images of {display_path(data)}"
    print(f"evaluating {display_path(predictor.weights_path)} on {subject}")
    truth = coco.load(data)  # with the ids and areas of the file
    groups = groups_from(args, truth)
    for item, image in zip(truth["images"], dataset.images):
        item["file_name"] = str(image.path)  # resolved
    report_dataset_tiling(predictor, dataset, args)
    results = predictor.detect_dataset(dataset, progress=True, tile=args.tile, overlap=args.overlap)
    found = coco.in_ids_of(truth, results, dataset)
    report_bit_depth(predictor)
    judgement = judge(truth, found, groups=groups)
    _add_intervals(judgement, groups)
    point = _operate(judgement, costs, groups, args)
    meta, out = _meta(predictor, data), args.out or run_dir / "report"
    log = read_json_lines(run_dir / "log.jsonl") or None
    _report(judgement, data.parent, out, log=log, meta=meta)
    if point is not None:
        store_thresholds(point, run_dir, judgement, made=meta, weights=predictor.weights_path)
    if args.corruptions is not None:
        judge_under_corruptions(predictor, dataset, truth, args, out, meta, groups)
    if dataset.images:
        unchosen = point is None and predictor.thresholds is None
        threshold = judgement.summary["best_f1"]["threshold"] if unchosen else None
        score = [] if threshold is None else ["--threshold", _threshold_text(threshold)]
        arguments = [display_path(dataset.images[0].path), "--draw", "--weights", display_path(args.weights), *score]
        print(f"next: {command('infer', *arguments, '--out', display_path(run_dir / 'detections'))}")
    return 0


def _costs(args: argparse.Namespace, categories: Sequence[str]) -> Costs | None:
    from ..evaluation.costs import read_costs

    return None if args.costs is None else read_costs(args.costs, categories)


def _add_intervals(judgement: Judgement, groups: Sequence[int] | None) -> None:
    """Add intervals to the summary, by a bootstrap over images or groups."""
    from ..evaluation.bootstrap import report_intervals

    threshold = judgement.summary["score_threshold"]
    judgement.summary["intervals"] = report_intervals(judgement.evaluated, groups=groups, threshold=threshold)


def _operate(
    judgement: Judgement, costs: Costs | None, groups: Sequence[int] | None, args: argparse.Namespace
) -> dict[str, Any] | None:
    """The content of thresholds.json, if costs were given; the summary gets it with curves."""
    if costs is None:
        return None
    point, judgement.summary["operating"] = choose_operating_point(
        judgement.evaluated, costs, calibrate=args.calibrate, groups=groups
    )
    return point


def _report(
    judgement: Judgement, images_root: Path, out: Path, *, log: list[dict[str, Any]] | None, meta: dict[str, Any]
) -> None:
    from ..report.page import write_report

    paths = write_report(judgement, out, images_root=images_root, log=log, meta=meta)
    _print_summary(judgement.summary)
    for path in (paths.html, paths.markdown, paths.json, paths.detections):
        print(f"wrote {display_path(path)}")


def _print_summary(summary: dict[str, Any]) -> None:
    from ..report.tables import box_bias_text, warning_sentence

    rows = [
        [name, str(values["boxes"]), *(_fraction(values[key]) for key in (*_HEADLINE, "AR100"))]
        for name, values in summary["per_class"].items()
    ]
    print_table("", ["class", "boxes", *_HEADLINE, "AR100"], rows)
    print()
    ends = summary["intervals"]["overall"]
    print("  ".join(f"{name} {_fraction(summary[name])}{_span(ends[name])}" for name in _HEADLINE))
    best = summary["best_f1"]
    if best["threshold"] is not None:
        print(f"best F1 {best['f1']:.3f} at a score threshold of {_threshold_text(best['threshold'])}")
    if any(summary["box_bias"]["clear"].values()):
        print(box_bias_text(summary["box_bias"]))
    for warning in summary["warnings"]:
        print(f"check this: {warning_sentence(warning, summary['detections'])}")
    if "operating" in summary:
        print_operating(summary["operating"])


def _meta(predictor: Predictor, data: Path) -> dict[str, Any]:
    """The origin of the numbers, for the report."""
    return {"weights": str(predictor.weights_path), "epoch": predictor.epoch, "data": str(data), "judged": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")


def _threshold_text(threshold: float) -> str:
    """Two decimals, rounded down, so that the detection that sets the threshold still reaches it."""
    return f"{math.floor(threshold * 100) / 100:g}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(ends: dict[str, float | None]) -> str:
    return "" if ends["low"] is None or ends["high"] is None else f" ({ends['low']:.3f} to {ends['high']:.3f})"


def _validation_data(run_dir: Path) -> Path:
    from ..config.loading import load_config

    config_file = run_dir / "config.yaml"
    if not config_file.exists():
        raise UsageError(
            f"there is no config.yaml in {run_dir} that names validation data", fix="name the COCO labels with --data"
        )
    data = load_config(config_file, []).data.val
    if data is None:
        raise UsageError(f"the run in {run_dir} had no validation data", fix="name COCO labels with --data")
    if not data.exists():
        raise UsageError(f"the run's validation data {data} doesn't exist", fix="name COCO labels with --data")
    return data


EVALUATE = Verb(
    summary="Evaluate a run, a checkpoint or a file of detections; write report.html, .md and .json.",
    details=(
        "AP, AP50 and AR are pycocotools' values, as fractions. --detections evaluates COCO results of any detector\n"
        "without loading PyTorch. --costs chooses a threshold for each class by prices and limits in a YAML\n"
        "file (docs/operating.md) and writes thresholds.json into the run, which detect infer uses. Large images are\n"
        "processed in tiles as by detect infer."
    ),
    examples=[
        "evaluate runs/neu",
        "evaluate released --data data/neu/val.json",
        "evaluate runs/neu/last.pt --data data/neu/test.json --out reports/last",
        "evaluate runs/neu --costs costs.yaml --calibrate",
        "evaluate runs/neu --corruptions noise,overexposure --severities 1,3,5",
        "evaluate --detections theirs.json --data data/neu/val.json --out reports/theirs",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
