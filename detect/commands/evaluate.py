"""``detect evaluate``: judge a run, a checkpoint, or anyone's detections, and write the reports."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..released import folder_of, is_released
from .console import command, print_table, shown
from .contestants import read_results, read_truth
from .corruptions import add_corruption_arguments, check_corruption_arguments, judge_under_corruptions
from .depth import add_depth_arguments, say_depth
from .grouping import add_group_arguments, check_group_arguments, groups_from
from .operating import operate, print_operating, store
from .tiles import add_tile_arguments, check_tile_arguments, say_tilings
from .verb import UsageError, Verb

if TYPE_CHECKING:
    from ..evaluation import Judgement
    from ..evaluation.operating.costs import Costs
    from ..inference import Predictor

_HEADLINE = ("AP", "AP50", "AP75")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", nargs="?", type=Path, metavar="RUN", help="run folder, checkpoint file, or released")
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels to judge by (default: the run's data.val)"
    )
    parser.add_argument(
        "--detections", type=Path, metavar="JSON", help="judge these COCO results instead of running a detector"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the reports go (default: RUN/report)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--costs", type=Path, metavar="YAML", help="choose thresholds by these prices and limits; write thresholds.json"
    )
    parser.add_argument("--calibrate", action="store_true", help="with --costs: calibrate the scores that infer shows")
    add_depth_arguments(parser)
    add_tile_arguments(parser)
    add_group_arguments(parser)
    add_corruption_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    if (args.weights is None) == (args.detections is None):
        raise UsageError("give either a run to judge or --detections", fix="see detect evaluate --help")
    if args.calibrate and args.costs is None:
        raise UsageError("--calibrate needs --costs", fix="the calibration is kept with the thresholds chosen by costs")
    check_tile_arguments(args)
    check_group_arguments(args)
    check_corruption_arguments(args)
    return _judge_detections(args) if args.weights is None else _judge_run(args)


def _judge_detections(args: argparse.Namespace) -> int:
    if args.data is None:
        raise UsageError("--detections needs --data", fix="name the COCO labels that the detections are judged by")
    if args.tile is not None or args.overlap is not None:
        raise UsageError("--tile and --overlap have no meaning with --detections", fix="leave them out")
    if args.device is not None:
        raise UsageError("--device has no meaning with --detections", fix="leave it out: no detector runs")
    if args.max_value is not None:
        raise UsageError("--max-value has no meaning with --detections", fix="leave it out: no detector runs")
    from ..evaluation import judge

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
        store(point, out, judgement, made=meta)
    return 0


def _judge_run(args: argparse.Namespace) -> int:
    if not is_released(args.weights) and not args.weights.exists():
        raise UsageError(f"{args.weights}: no such run or checkpoint", fix="give a run folder or a .pt file")
    run_dir = folder_of(args.weights)
    from ..evaluation import judge
    from ..formats import coco
    from ..formats.files import read_json_lines
    from ..inference import Predictor

    # a file that is no checkpoint is told so, before anything that it lacks
    load = partial(Predictor.load, args.weights, device=args.device, calibrated=False, max_value=args.max_value)
    predictor = load() if args.weights.is_file() else None
    data = args.data or _validation_data(run_dir)
    dataset = coco.read(data)
    costs = _costs(args, dataset.categories)  # a mistake in them is told before the detector runs
    predictor = predictor or load()
    print(f"judging {shown(predictor.weights_path)} by the {len(dataset.images):,} images of {shown(data)}")
    truth = coco.load(data)  # the file itself is the judge's truth: its ids, its areas
    groups = groups_from(args, truth)
    for item, image in zip(truth["images"], dataset.images):
        item["file_name"] = str(image.path)  # where it was found
    say_tilings(predictor, dataset, args)
    results = predictor.detect_dataset(dataset, progress=True, tile=args.tile, overlap=args.overlap)
    found = coco.in_ids_of(truth, results, dataset)
    say_depth(predictor)
    judgement = judge(truth, found, groups=groups)
    _add_intervals(judgement, groups)
    point = _operate(judgement, costs, groups, args)
    meta, out = _meta(predictor, data), args.out or run_dir / "report"
    log = read_json_lines(run_dir / "log.jsonl") or None
    _report(judgement, data.parent, out, log=log, meta=meta)
    if point is not None:
        store(point, run_dir, judgement, made=meta, weights=predictor.weights_path)
    if args.corruptions is not None:
        judge_under_corruptions(predictor, dataset, truth, args, out, meta, groups)
    if dataset.images:
        unchosen = point is None and predictor.thresholds is None
        threshold = judgement.summary["best_f1"]["threshold"] if unchosen else None
        score = [] if threshold is None else ["--threshold", f"{math.floor(threshold * 100) / 100:g}"]
        arguments = [shown(dataset.images[0].path), "--draw", "--weights", shown(args.weights), *score]
        print(f"next: {command('infer', *arguments, '--out', shown(run_dir / 'detections'))}")
    return 0


def _costs(args: argparse.Namespace, categories: Sequence[str]) -> Costs | None:
    from ..evaluation.operating.costs import read_costs

    return None if args.costs is None else read_costs(args.costs, categories)


def _add_intervals(judgement: Judgement, groups: Sequence[int] | None) -> None:
    """How far the report's figures can be trusted, by a bootstrap over images or the groups they belong to."""
    from ..evaluation.report_intervals import report_intervals

    threshold = judgement.summary["score_threshold"]
    judgement.summary["intervals"] = report_intervals(judgement.evaluated, groups=groups, threshold=threshold)


def _operate(
    judgement: Judgement, costs: Costs | None, groups: Sequence[int] | None, args: argparse.Namespace
) -> dict[str, Any] | None:
    """What to keep in thresholds.json, if costs were given; the report gets it with its curves."""
    if costs is None:
        return None
    point, judgement.summary["operating"] = operate(judgement.evaluated, costs, calibrate=args.calibrate, groups=groups)
    return point


def _report(
    judgement: Judgement, images_root: Path, out: Path, *, log: list[dict[str, Any]] | None, meta: dict[str, Any]
) -> None:
    from ..report import write_report

    paths = write_report(judgement, out, images_root=images_root, log=log, meta=meta)
    _print_summary(judgement.summary)
    for path in (paths.html, paths.markdown, paths.json, paths.detections):
        print(f"wrote {shown(path)}")


def _print_summary(summary: dict[str, Any]) -> None:
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
        print(f"best F1 {best['f1']:.3f} with scores from {best['threshold']:.2f} on")
    if any(summary["displacement"]["clear"].values()):
        print(summary["displacement"]["words"])
    for warning in summary["warnings"]:
        print(f"check this: {warning}")
    if "operating" in summary:
        print_operating(summary["operating"])


def _meta(predictor: Predictor, data: Path) -> dict[str, Any]:
    """Where the figures come from, for the report."""
    return {"weights": str(predictor.weights_path), "epoch": predictor.epoch, "data": str(data), "judged": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(ends: dict[str, float | None]) -> str:
    return "" if ends["low"] is None or ends["high"] is None else f" ({ends['low']:.3f} to {ends['high']:.3f})"


def _validation_data(run_dir: Path) -> Path:
    from ..config import load_config

    config_file = run_dir / "config.yaml"
    if not config_file.exists():
        raise UsageError(f"no config.yaml in {run_dir} says what to judge by", fix="name the COCO labels with --data")
    data = load_config(config_file, []).data.val
    if data is None:
        raise UsageError(f"the run in {run_dir} had no validation data", fix="name COCO labels with --data")
    if not data.exists():
        raise UsageError(f"the run's validation data {data} isn't there", fix="name COCO labels with --data")
    return data


EVALUATE = Verb(
    summary="Judge a run, a checkpoint or a file of detections; write report.html, .md and .json.",
    details=(
        "AP, AP50 and AR are pycocotools' figures, as fractions. With --detections, COCO results of any detector are\n"
        "judged, and PyTorch is not even loaded. --costs chooses a threshold for each class by prices and limits in a\n"
        "YAML file (docs/operating.md) and writes thresholds.json into the run, which detect infer obeys. Large\n"
        "images are seen in tiles where detect infer would do so."
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
