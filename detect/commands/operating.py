"""The operating point at the command line: chosen by costs.yaml, said, kept in thresholds.json, and obeyed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import print_table, shown

if TYPE_CHECKING:
    from ..evaluation import Evaluated, Judgement
    from ..evaluation.operating.costs import Costs
    from ..records import Detections
    from ..thresholds import Thresholds

    Lowest = float | Thresholds  # one score for all categories, or each its own

DEFAULT_THRESHOLD = 0.5


def operate(
    evaluated: Evaluated, costs: Costs, *, calibrate: bool, groups: Sequence[int] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What thresholds.json says, but for where it comes from; and the same with the curves, for report.json.

    Args:
        evaluated: the judged detections.
        costs: of every category.
        calibrate: whether scores will be calibrated before thresholds are applied.
        groups: a number an image, those of one plate alike.
    """
    import numpy as np

    from ..evaluation.operating.calibration import calibration
    from ..evaluation.operating.froc import froc
    from ..evaluation.operating.point import operating_point
    from ..evaluation.operating.sizes import recall_by_size

    fitted = calibration(evaluated, groups=groups)
    point = operating_point(evaluated, costs, groups=groups, calibration=fitted if calibrate else None)
    stored = {**point, "calibration": _in_short(fitted) if calibrate else None, "costs": costs.as_dict()}
    at = np.array([each["uncalibrated_threshold"] for each in point["per_class"].values()])
    sizes = recall_by_size(evaluated, at, confidence=costs.confidence)
    curves = {"reliability": fitted, "froc": froc(evaluated), "recall_by_size": sizes}
    return stored, {**stored, **curves}


def store(
    point: dict[str, Any], folder: Path, judgement: Judgement, *, made: dict[str, Any], weights: Path | None = None
) -> None:
    """Write thresholds.json into a run's folder, or beside a report, and say so.

    Args:
        point: what ``operate`` gave to keep.
        folder: where it goes.
        judgement: that it was chosen by.
        made: where it comes from.
        weights: the checkpoint that was judged, if one was; a copy is made where it lies elsewhere, since detect infer
            looks for thresholds beside the weights.
    """
    from ..formats.files import copy
    from ..thresholds import FILE_NAME, sha256_of, write_thresholds

    made = {**made, "versions": judgement.summary["versions"]}
    if weights is not None:
        made["weights"] = {"file": weights.name, "epoch": made.pop("epoch", None), "sha256": sha256_of(weights)}
        if weights.resolve().parent != folder.resolve():
            copy(weights, folder / "best.pt")
            print(f"wrote {shown(folder / 'best.pt')}, a copy of the weights that the thresholds lie beside")
    write_thresholds(folder / FILE_NAME, {**point, "made": made})
    print(f"wrote {shown(folder / FILE_NAME)}")


def print_operating(point: dict[str, Any]) -> None:
    """Thresholds with their rates on both parts, what each limit is worth, and what leaves the line wrongly."""
    parts = point["parts"]
    columns = ["class", "threshold", "missed", "on others", "false an image", "on others"]
    rows = [
        [
            name,
            f"{each['threshold']:.3f}",
            *(_share(each[part]["missed"]) for part in ("choosing", "confirming")),
            *(_rate(each[part]["false_alarms"]) for part in ("choosing", "confirming")),
        ]
        for name, each in point["per_class"].items()
    ]
    print()
    what = f"thresholds chosen on {parts['choosing']:,} images, confirmed on {parts['confirming']:,} others"
    bound = f"{100 * parts['confidence']:.4g} % upper bound"
    if parts["joint"] is not None:
        bound += f", so that all {parts['joint']['limits']} limits hold with {100 * parts['joint']['confidence']:g} %"
    print_table(f"{what}; in brackets the {bound}", columns, rows)
    print()
    for name, each in point["per_class"].items():
        for words in each["words"]:
            print(f"{name}: {words}")
    for units in ("images", "groups"):
        if point["confirming"][units] is not None:
            print(f"on the others, {_escapes(point['confirming'][units], units)}")
    costs = [point[part]["cost_per_image"] for part in ("choosing", "confirming")]
    if None not in costs:
        unit = f" {point['costs']['currency']}".rstrip()
        print(
            f"an image costs {costs[1]:.3g}{unit} on the others, {costs[0]:.3g}{unit} where the thresholds were chosen"
        )
    if point["calibration"] is not None:
        was, now = (point["calibration"][key] for key in ("as_judged", "cross_validated"))
        if was["ece"] is not None:
            gain = f"expected calibration error {was['ece']:.3f} -> {now['ece']:.3f} in cross-validation"
            print(f"scores calibrated by {point['calibration']['method']}: {gain}")


def lowest_scores(weights: Path, asked: float | None) -> Lowest:
    """The lowest scores to show, and lines on stderr that say so where thresholds were chosen for this run.

    Args:
        weights: the checkpoint in use.
        asked: one score for all categories, if one was given.
    """
    return obeyed(thresholds_for(weights, asked), asked)


def thresholds_for(weights: Path, asked: float | None) -> Thresholds | None:
    """The thresholds that were chosen for a checkpoint; a line on stderr where the file is for another one.

    Args:
        weights, asked: as for ``lowest_scores``.
    """
    from ..thresholds import thresholds_beside

    chosen = thresholds_beside(weights)
    if chosen is None or chosen.are_for(weights):
        return chosen
    lowest = DEFAULT_THRESHOLD if asked is None else asked
    line = f"{shown(chosen.path)} was not chosen for this {weights.name}, so {lowest:g} holds for all classes"
    print(f"detect: {line}; choose again with detect evaluate --costs", file=sys.stderr)
    return None


def obeyed(chosen: Thresholds | None, asked: float | None) -> Lowest:
    """These thresholds, unless one score for all categories was asked for; stderr says which, and what calibrates."""
    if chosen is None:
        return DEFAULT_THRESHOLD if asked is None else asked
    where = shown(chosen.path)
    if chosen.calibration:
        print(f"detect: scores are calibrated by {where}", file=sys.stderr)
    if asked is not None:
        print(f"detect: --threshold {asked:g} overrides the thresholds of {where}", file=sys.stderr)
        return asked
    print(f"detect: thresholds of {where}: {chosen.in_words()}", file=sys.stderr)
    return chosen


def kept(found: Detections, lowest: Lowest) -> Detections:
    """The detections to show."""
    return found.above(lowest) if isinstance(lowest, float) else lowest.kept(found)


def _in_short(fitted: dict[str, Any]) -> dict[str, Any]:
    """A calibration without its diagrams."""
    overall, figures = fitted["overall"], ("ece", "ece_by_chance", "debiased_error", "nll")
    return {
        "method": fitted["method"],
        "per_class": {
            name: {key: each[key] for key in ("temperature", "shift", "left")}
            for name, each in fitted["per_class"].items()
        },
        "as_judged": {key: overall[key] for key in figures},
        "cross_validated": overall["cross_validated"][fitted["method"]],
    }


def _escapes(figures: dict[str, Any], units: str) -> str:
    escape, incomplete, overkill = (figures[key] for key in ("escape", "incomplete", "overkill"))
    said = []
    if escape["of"]:
        said.append(f"{_share(escape)} of {escape['of']:,} defective {units} escape")
        said.append(f"in {_share(incomplete)} not every defect is found")
    if overkill["of"]:
        said.append(f"{_share(overkill)} of {overkill['of']:,} clean {units} are stopped")
    return "; ".join([", ".join(said), *figures["notes"]] if said else figures["notes"])


def _share(rate: dict[str, Any]) -> str:
    return "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} % ({100 * rate['high']:.1f})"


def _rate(rate: dict[str, Any]) -> str:
    return "-" if rate["rate"] is None else f"{rate['rate']:.3g} ({rate['high']:.3g})"
