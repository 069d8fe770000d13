"""The page's charts: what is drawn over what, from the numbers of a judgement and the log of a training."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from .charts import Frame, Line, legend, line_chart, styled, until_zero

_SMALL = Frame(width=250, height=190, left=44, right=8, top=8, bottom=32)
_MOST_ALARMS = 4.0  # false alarms an image that a chart reaches to
_LOSS_NAMES = {
    "loss_classifier": "classification",
    "loss_box_reg": "box regression",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal regression",
}


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


def operating_charts(operating: dict[str, Any] | None) -> list[tuple[str, Markup]]:
    """(title, chart) of sensitivity over false alarms, and of how often a score is right; none without a choice."""
    if operating is None:
        return []
    curves = {"all": operating["froc"]["overall"], **operating["froc"]["per_class"]}
    froc = []
    for number, (name, told) in enumerate(curves.items()):
        points = list(zip(told["curve"]["false_alarms_per_image"], told["curve"]["sensitivity"]))
        froc.append(
            Line(name, [point for point in points if point[0] <= _MOST_ALARMS and point[1] is not None], styled(number))
        )
    bins = operating["reliability"]["overall"]["bins"]
    right = [
        Line(
            "share that is right",
            [(each["mean_score"], each["hit_rate"]) for each in bins if each["hit_rate"] is not None],
            "c1",
        ),
        Line("as it would be if scores were exact", [(0, 0), (1, 1)], "c6 dash"),
    ]
    unit: dict[str, Any] = {"y_range": (0, 1)}
    labels: dict[str, Any] = {"x_label": "false alarms an image", "y_label": "sensitivity"}
    return [
        (
            "Sensitivity over false alarms (FROC)",
            line_chart("FROC", froc, x_range=(0, _MOST_ALARMS), **labels, **unit) + legend(froc),
        ),
        (
            "How often a score is right",
            line_chart("Reliability of scores", right, x_range=(0, 1), x_label="score", **unit) + legend(right),
        ),
    ]


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
