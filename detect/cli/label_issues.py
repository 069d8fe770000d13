"""``detect label-issues``: labels that a detector contradicts with confidence, ranked, as page, table and COCO."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..released import folder_of, is_released
from .common import UsageError, Verb, add_depth_arguments, display_path, print_table, read_results, report_bit_depth

_FOLD = re.compile(r"seed(\d+)_fold(\d+)")
_OUT_OF_FOLD_HINT = (
    "use detections out of fold (detect bench train CONFIG --folds 5, then detect label-issues on its folder)"
)


@dataclass(frozen=True)
class IssueSource:
    """Labels and detections to compare.

    Attributes:
        truth: a COCO data set.
        detections: COCO results in its ids.
        pictures: image id -> file.
        meta: their origin.
        out: default folder of the results.
        warnings: sentences on what makes the issues less reliable.
    """

    truth: dict[str, Any]
    detections: list[dict[str, Any]]
    pictures: dict[Any, Path]
    meta: dict[str, Any]
    out: Path
    warnings: list[str] = field(default_factory=list)


def from_files(detections: Path, data: Path) -> IssueSource:
    """COCO results of any detector and the labels of their images; the images need not exist.

    Raises:
        DataError: a file that can't be read.
    """
    from ..datasets.paths import is_inside, roots_around

    truth = _labels(data)
    named = {each["id"]: data.parent / str(each.get("file_name", "")) for each in truth["images"]}
    inside = roots_around(data.parent)
    pictures = {key: path for key, path in named.items() if is_inside(path, inside)}
    run = next((d for d in (detections.parent, detections.parent.parent) if (d / "config.yaml").exists()), None)
    warnings = [] if run is None else _training_overlap_warnings(run, list(pictures.values()))
    if len(pictures) < len(named):
        outside = len(named) - len(pictures)
        warnings.append(f"{outside:,} of the file names point outside the data; these images were not opened.")
    meta = {"detections": str(detections), "data": str(data)}
    return IssueSource(truth, _results(detections, truth), pictures, meta, detections.parent / "label_issues", warnings)


def from_run(weights: Path, data: Path | None, device: str | None, max_value: int | None = None) -> IssueSource:
    """A run on its own validation data, or on other labels.

    Raises:
        DetectError: no run, or no labels.
    """
    from ..config.loading import load_config
    from ..datasets import coco

    run = folder_of(weights)
    kept = run / "detections.json"
    own = load_config(run / "config.yaml", []).data.val if (run / "config.yaml").exists() else None
    labels = data or own
    if labels is None:
        raise DataError("the run has no validation data", where=run, fix="name COCO labels with --data")
    dataset, truth = coco.read(labels), _labels(labels)
    pictures = {each["id"]: image.path for each, image in zip(truth["images"], dataset.images)}
    warnings = _training_overlap_warnings(run, list(pictures.values()))
    meta = {"weights": str(weights), "data": str(labels)}
    if data is None and max_value is None and weights.is_dir() and kept.exists():
        meta = {"detections": str(kept)} | meta
        return IssueSource(truth, _results(kept, truth), pictures, meta, run / "label_issues", warnings)
    from ..inference.predictor import Predictor

    predictor = Predictor.load(weights, device=device, calibrated=False, max_value=max_value)
    print(f"detecting on the {len(dataset.images):,} images of {display_path(labels)}")
    found = coco.in_ids_of(truth, predictor.detect_dataset(dataset, progress=True), dataset)
    report_bit_depth(predictor)
    return IssueSource(truth, found, pictures, meta, run / "label_issues", warnings)


def folds_in(folder: Path) -> dict[int, Path]:
    """Fold -> run folder of the lowest seed, in the folder of a system trained on folds; empty for other folders."""
    runs: dict[int, dict[int, Path]] = {}
    for each in folder.iterdir() if folder.is_dir() else ():
        named = _FOLD.fullmatch(each.name)
        if named and each.is_dir():
            runs.setdefault(int(named[1]), {})[int(named[2])] = each
    return dict(sorted(runs[min(runs)].items())) if runs else {}


def from_folds(system: Path, data: Path | None) -> IssueSource:
    """The folds of a system: each image with the detections of the run that was not trained on it.

    Args:
        system: its folder in the benchmark.
        data: labels to check; their images are found in the folds by their files. None: all images of the folds, with
            new ids.

    Raises:
        DataError: a fold that isn't finished, or labels of images that no fold has.
    """
    from ..datasets import coco

    runs, folder = folds_in(system), system.parent / "folds"
    results: list[tuple[Path, str, dict[str, Any]]] = []
    parts: list[tuple[dict[str, Any], Sequence[Path]]] = []
    for part in sorted(folder.glob("fold*_val.json")):
        fold = int(part.stem.removeprefix("fold").removesuffix("_val"))
        if fold not in runs or not (runs[fold] / "detections.json").exists():
            fix = "finish the benchmark: the same 'detect bench train' command resumes it"
            raise DataError(f"fold {fold} has no detections.json", where=system, fix=fix)
        truth, paths = _labels(part), [image.path for image in coco.read(part).images]
        parts.append((truth, paths))
        file_of = {each["id"]: path.resolve() for each, path in zip(truth["images"], paths)}
        name_of = {each["id"]: each["name"] for each in truth["categories"]}
        for each in _results(runs[fold] / "detections.json", truth):
            results.append((file_of[each["image_id"]], name_of[each["category_id"]], each))
    if not parts:
        raise DataError(
            "the folds of the benchmark don't exist", where=folder, fix="give the folder of a benchmark with --folds"
        )
    if data is None:
        truth, paths = _joined(parts)
    else:
        truth, paths = _labels(data), [image.path for image in coco.read(data).images]
    image_of = {path.resolve(): each["id"] for each, path in zip(truth["images"], paths)}
    unknown = set(image_of) - {path.resolve() for _, members in parts for path in members}
    if unknown:
        found = f"{len(unknown)} of its {len(image_of)} images are in none of the folds"
        raise DataError(found, where=data, fix="give labels of images that the benchmark was trained on")
    category_of = {each["name"]: each["id"] for each in truth["categories"]}
    detections = [
        {**each, "image_id": image_of[path], "category_id": category_of[name]}
        for path, name, each in results
        if path in image_of and name in category_of
    ]
    pictures = {each["id"]: path for each, path in zip(truth["images"], paths)}
    meta = {"bench": str(system), "folds": len(parts), "data": None if data is None else str(data)}
    return IssueSource(truth, detections, pictures, meta, system / "label_issues")


def _joined(parts: Sequence[tuple[dict[str, Any], Sequence[Path]]]) -> tuple[dict[str, Any], list[Path]]:
    """One data set of all parts, with new ids of images and annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for truth, _ in parts:
        new_id = {each["id"]: len(images) + i for i, each in enumerate(truth["images"], start=1)}
        images += [{**each, "id": new_id[each["id"]]} for each in truth["images"]]
        for each in truth["annotations"]:
            annotations.append({**each, "id": len(annotations) + 1, "image_id": new_id[each["image_id"]]})
    joined = {"images": images, "annotations": annotations, "categories": parts[0][0]["categories"]}
    return joined, [path for _, paths in parts for path in paths]


def _training_overlap_warnings(run: Path, pictures: Sequence[Path]) -> list[str]:
    """A warning if the run's configuration says that it was trained on some of these images."""
    from ..config.loading import load_config

    if not (run / "config.yaml").exists():
        return []
    train = load_config(run / "config.yaml", []).data.train
    if not train.exists():
        return []
    trained_on = {(train.parent / str(each["file_name"])).resolve() for each in _labels(train)["images"]}
    known = sum(path.resolve() in trained_on for path in pictures)
    text = f"The detector was trained on {known:,} of the {len(pictures):,} images and rarely contradicts their labels"
    return [f"{text}: {_OUT_OF_FOLD_HINT}."] if known else []


def _labels(path: Path) -> dict[str, Any]:
    from ..datasets import coco

    return coco.load(path)


def _results(path: Path, truth: dict[str, Any]) -> list[dict[str, Any]]:
    ids = ([item["id"] for item in truth[key]] for key in ("images", "categories"))
    results: list[dict[str, Any]] = read_results(path, *ids)
    return results


_MAX_ISSUES, _SHOWN = 300, 15


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="run, checkpoint, released, or folder of a benchmark with --folds",
    )
    parser.add_argument("--detections", type=Path, metavar="JSON", help="COCO results of any detector, instead")
    parser.add_argument("--data", type=Path, metavar="JSON", help="COCO labels to check (default: the run's data.val)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: RUN/label_issues)")
    parser.add_argument(
        "--min-score", type=float, default=0.5, metavar="SCORE", help="lowest score of an issue (default: %(default)s)"
    )
    parser.add_argument(
        "--max-issues",
        type=int,
        default=_MAX_ISSUES,
        metavar="N",
        help="largest number of issues to write, the most probable first (default: %(default)s)",
    )
    add_depth_arguments(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")


def _run(args: argparse.Namespace) -> int:
    if (args.run is None) == (args.detections is None):
        raise UsageError("give either a run or --detections", fix="see detect label-issues --help")
    if not 0 <= args.min_score <= 1:
        raise UsageError(f"--min-score is {args.min_score:g}", fix="give a score from 0 to 1")
    if args.max_issues < 1:
        raise UsageError(f"--max-issues is {args.max_issues}", fix="give at least 1")
    source = _issue_source(args)
    from ..evaluation.coco_eval import run_coco_eval
    from ..evaluation.label_issues import find_label_issues
    from ..evaluation.records import check_detections, check_truth
    from ..report.label_issues import image_file_name, issue_sentence, reason_counts, write_label_issues

    labels = check_truth(source.truth)
    found = check_detections(source.detections, labels)
    issues = find_label_issues(run_coco_eval(labels, found, sizes=False), min_score=args.min_score)
    warnings = [*source.warnings, *_low_score_warnings(float(found.scores.min(initial=1)))]
    print(f"{len(issues):,} label issues about {int((~labels.crowd).sum()):,} labels of {len(labels.images):,} images")
    print_table("", ["reason", "issues"], [[reason, f"{number:,}"] for reason, number, _ in reason_counts(issues)])
    top = issues[:_SHOWN]
    if top:
        rows = [
            [f"{issue.score:.2f}", image_file_name(issue), f"{issue.reason}: {issue_sentence(issue)}"] for issue in top
        ]
        print_table(f"\nthe {len(top)} most probable", ["score", "image", "why"], rows, text_columns=3)
    for warning in warnings:
        print(f"check this: {warning}")
    out = args.out or source.out
    kept = issues[: args.max_issues]
    meta = {
        **source.meta,
        "lowest score": args.min_score,
        "issues left out": len(issues) - len(kept) or None,
    }
    for path in write_label_issues(kept, source.truth, out, pictures=source.pictures, meta=meta, warnings=warnings):
        print(f"wrote {display_path(path)}")
    return 0


def _issue_source(args: argparse.Namespace) -> IssueSource:
    if args.detections is not None:
        if args.device is not None:
            raise UsageError("--device has no meaning with --detections", fix="leave it out: no detector runs")
        if args.max_value is not None:
            raise UsageError("--max-value has no meaning with --detections", fix="leave it out: no detector runs")
        if args.data is None:
            raise UsageError("--detections needs --data", fix="name the COCO labels of the images")
        return from_files(args.detections, args.data)
    if not is_released(args.run) and not args.run.exists():
        raise UsageError(f"{args.run}: no such run", fix="give a run folder, a .pt file or a benchmark's folder")
    if folds_in(args.run):
        systems = [args.run]
    else:
        systems = [each for each in sorted(args.run.iterdir()) if folds_in(each)] if args.run.is_dir() else []
    if systems and (args.device is not None or args.max_value is not None):
        raise UsageError("--device and --max-value have no meaning with folds", fix="leave them out: no detector runs")
    if len(systems) > 1:
        named = ", ".join(display_path(each) for each in systems)
        raise UsageError(f"{args.run} holds the folds of {len(systems)} systems", fix=f"choose one of {named}")
    return from_folds(systems[0], args.data) if systems else from_run(args.run, args.data, args.device, args.max_value)


def _low_score_warnings(min_score: float) -> list[str]:
    """A warning if the detections hold none of low score."""
    if min_score < 0.1 or min_score == 1:  # 1: there are none
        return []
    return [
        f"The lowest score of the detections is {min_score:.2f}, so 'not found' means not found with that score: "
        "include detections down to a score of 0.05 or less."
    ]


LABEL_ISSUES = Verb(
    summary="Find labels that a detector contradicts with confidence: missing, wrong, badly drawn.",
    details=(
        "Writes label_issues.html with a crop of each, label_issues.md, and label_issues.json: COCO with the proposed\n"
        "boxes and their reasons, for an annotation tool. A detector rarely contradicts labels it was trained on:\n"
        "give the folder of 'detect bench train ... --folds K', where each image has detections of a run that was not\n"
        "trained on it."
    ),
    examples=[
        "label-issues runs/folds/neu --data data/neu/train.json",
        "label-issues runs/neu",
        "label-issues --detections theirs.json --data data/neu/val.json --out reports/label_issues",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
