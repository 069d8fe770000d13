"""report.html: one page without a link to anything outside itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from ..evaluation import Judgement
from ..evaluation.breakdown import breakdown
from ..evaluation.mending import KINDS
from . import wording
from .charts import Frame, Line, bias_sketch, legend, line_chart, styled, until_zero
from .packing import as_script, pack
from .pictures import collect

_SMALL = Frame(width=250, height=190, left=44, right=8, top=8, bottom=32)
_LOSS_NAMES = {
    "loss_classifier": "classification",
    "loss_box_reg": "box regression",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal regression",
}


def to_html(judgement: Judgement, *, images_root: Path | None, log: list[dict[str, Any]], meta: dict[str, Any]) -> str:
    """Render page.html with its style sheet and script inlined; whatever came from outside is escaped."""
    summary = judgement.summary
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (wording.fraction, wording.signed, wording.gained, wording.count, wording.percent, wording.plural)
    environment.filters |= {function.__name__: function for function in formats}
    environment.filters["sketch"] = bias_sketch
    files = [outcome.image.file_name for outcome in judgement.outcomes]
    album = collect(files, _most_wrong_first(judgement), images_root)
    error_of, errors = _errors(judgement)
    packed = pack(judgement.evaluated, album, summary["score_threshold"], error_of, errors)
    return environment.get_template("page.html").render(
        s=summary,
        gist=wording.gist(summary),
        provenance=wording.provenance(summary, meta),
        subject=[str(meta[key]) for key in ("weights", "data") if meta.get(key)],
        pr=pr_charts(summary),
        by_iou=iou_chart(summary),
        kinds=[kind.name for kind in KINDS],
        thresholds=threshold_chart(summary),
        training=training_charts(log),
        with_pictures=images_root is not None,
        album=album,
        errors=packed["errors"],
        judged=as_script(packed),
    )


def _errors(judgement: Judgement) -> tuple[NDArray[np.int64], list[str]]:
    """Of each column of the matches the position of its kind of error, -1 for none; and the kinds of detections."""
    found = breakdown(judgement.evaluated)
    names = [kind.name for kind in KINDS if kind.name != "missed"]
    of_row = np.full(len(judgement.evaluated.found.scores), -1, dtype=np.int64)
    for position, name in enumerate(names):
        of_row[found.errors[name].detections] = position
    return of_row[judgement.evaluated.matches.order], names


def _most_wrong_first(judgement: Judgement) -> list[int]:
    """Positions of the images, so that those worth a look have a picture where there is no room for all."""
    wrong = [len(outcome.misses) + len(outcome.false_alarms) for outcome in judgement.outcomes]
    return sorted(range(len(wrong)), key=lambda position: -wrong[position])


def pr_charts(summary: dict[str, Any]) -> list[tuple[str, Markup]]:
    """(class, chart) for each class with a box to find; the dot is the point of the best F1."""
    recall = summary["pr_curves"]["recall"]
    charts = []
    for name, curves in summary["pr_curves"]["per_class"].items():
        if curves is None:
            continue
        lines = [
            Line("IoU 0.50", until_zero(recall, curves["0.50"]), "c1"),
            Line("IoU 0.75", until_zero(recall, curves["0.75"]), "c2 dash"),
        ]
        best = summary["per_class"][name]["best_f1"]
        mark = None if best["threshold"] is None else (best["recall"], best["precision"])
        title = f"Precision over recall of {name}"
        ranges: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1), "x_label": "recall", "y_label": "precision"}
        charts.append((name, line_chart(title, lines, mark=mark, frame=_SMALL, **ranges)))
    return charts


def iou_chart(summary: dict[str, Any]) -> Markup | None:
    """AP over the IoU from which a detection counts as right, of each class; None where nothing is to find."""
    lines = []
    for number, (name, of_class) in enumerate(summary["per_class"].items()):
        points = [(float(iou), ap) for iou, ap in of_class["ap_by_iou"].items() if ap is not None]
        lines.append(Line(name, points, styled(number)))
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    ranges: dict[str, Any] = {"x_range": (0.5, 0.95), "y_range": (0, 1), "x_label": "IoU"}
    return line_chart("AP over the IoU that is asked for", lines, **ranges) + legend(lines)


def threshold_chart(summary: dict[str, Any]) -> Markup | None:
    """Precision, recall and F1 over the score threshold; None where nothing was found or nothing is to find."""
    if not summary["boxes"] or not summary["detections"]:
        return None
    lines = []
    for key, name, style in (("precision", "precision", "c1"), ("recall", "recall", "c2"), ("f1", "F1", "c3")):
        points = [(t["threshold"], t[key]) for t in summary["thresholds"] if t[key] is not None]
        lines.append(Line(name, points, style))
    at, f1 = summary["score_threshold"], summary["at_threshold"]["f1"]
    chart = line_chart(
        "Precision, recall and F1 over the score threshold",
        lines,
        x_range=(0, 1),
        y_range=(0, 1),
        x_label="score threshold",
        mark=None if f1 is None else (at, f1),
    )
    return chart + legend(lines)


def training_charts(log: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """(title, chart) of the losses and of the validation, as far as the log holds them."""
    losses = [Line("total", _series(log, "loss"), "c1")]
    parts = list(dict.fromkeys(name for line in log for name in line.get("losses") or {}))
    for i, name in enumerate(parts):
        losses.append(Line(_LOSS_NAMES.get(name, name), _series(log, "losses", name), f"c{2 + i % 5} thin"))
    scores = [Line(key, _series(log, "val", key), f"c{i}") for i, key in enumerate(("AP50", "AP", "AP75"), 1)]
    charts = []
    for title, lines, top in (("Loss", losses, None), ("Validation", scores, 1.0)):
        lines = [line for line in lines if line.points]
        if not lines:
            continue
        epochs = [x for line in lines for x, _ in line.points]
        highest = top or 1.05 * max(y for line in lines for _, y in line.points)
        ranges: dict[str, Any] = {"x_range": (min(epochs), max(epochs)), "y_range": (0, highest)}
        chart = line_chart(f"{title} over epochs", lines, x_label="epoch", whole_x=True, **ranges)
        if title == "Validation" and (points := _series(log, "val", "AP")):
            epoch, best = max(points, key=lambda point: point[1])
            title = f"Validation: best AP {best:.3f} at epoch {epoch:g}"
        charts.append((title, chart + legend(lines)))
    return charts


def _series(log: list[dict[str, Any]], *keys: str) -> list[tuple[float, float]]:
    points = []
    for number, line in enumerate(log, 1):
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            points.append((float(line.get("epoch", number)), float(value)))
    return points
