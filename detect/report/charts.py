"""Charts as inline SVG: lines, histograms and a report's curves, coloured by the page's own style sheet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

Point = tuple[float, float]

_COLOURS, _STROKES = 6, ("", " dash", " thin")


class Line(NamedTuple):
    """One curve.

    Attributes:
        name: shown in the legend; an empty one is not.
        points: (x, y), x rising.
        style: class of the style sheet, ``c1`` to ``c6`` for the colour, with ``thin`` or ``dash`` added.
    """

    name: str
    points: Sequence[Point]
    style: str


class ChartLayout(NamedTuple):
    """Size of a chart and the margins that its ticks need, in SVG units (pixels at scale 1)."""

    width: float = 360
    height: float = 220
    left: float = 38
    right: float = 10
    top: float = 10
    bottom: float = 34


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_range: Point,
    y_range: Point,
    x_label: str,
    y_label: str = "",
    mark: Point | None = None,
    frame: ChartLayout = ChartLayout(),  # noqa: B008 - immutable
    ticks: int = 5,
    whole_x: bool = False,
) -> Markup:
    """An SVG element with axes, grid, curves and, if given, one marked point; the page's script says its values.

    ``title`` is what a screen reader says; ``whole_x`` leaves out ticks between whole numbers, as of epochs.
    """

    def x(value: float) -> float:
        span = (x_range[1] - x_range[0]) or 1
        return frame.left + (value - x_range[0]) / span * (frame.width - frame.left - frame.right)

    def y(value: float) -> float:
        span = (y_range[1] - y_range[0]) or 1
        return frame.height - frame.bottom - (value - y_range[0]) / span * (frame.height - frame.top - frame.bottom)

    low, high = frame.height - frame.bottom, frame.top
    values = {
        "frame": (frame.left, frame.width - frame.right, frame.top, frame.height - frame.bottom),
        "x": x_range,
        "y": y_range,
        "label": x_label,
        "whole": whole_x,
        "lines": [{"name": name, "style": style, "points": _rounded(points)} for name, points, style in lines if name],
    }
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}" data-curves="{}">').format(
            frame.width, frame.height, title, json.dumps(values, separators=(",", ":"))
        )
    ]
    for value in nice_ticks(*y_range, ticks):
        line = '<line class="grid" x1="{:g}" x2="{:g}" y1="{:.1f}" y2="{:.1f}"/>'
        parts.append(Markup(line).format(frame.left, frame.width - frame.right, y(value), y(value)))
        text = '<text class="tick" x="{:g}" y="{:.1f}" text-anchor="end">{}</text>'
        parts.append(Markup(text).format(frame.left - 6, y(value) + 3.5, _number(value)))
    for value in nice_ticks(*x_range, ticks):
        if whole_x and value != round(value):
            continue
        text = '<text class="tick" x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>'
        parts.append(Markup(text).format(x(value), low + 15, _number(value)))
    axis = '<path class="axis" d="M{:g} {:g}H{:g}"/>'
    parts.append(Markup(axis).format(frame.left, low, frame.width - frame.right))
    label = '<text class="label" x="{:g}" y="{:g}" text-anchor="middle">{}</text>'
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup(label).format(middle, frame.height - 4, x_label))
    if y_label:
        turned = '<text class="label" transform="translate(11 {:g}) rotate(-90)" text-anchor="middle">{}</text>'
        parts.append(Markup(turned).format((low + high) / 2, y_label))
    parts += [_curve([(x(px), y(py)) for px, py in line.points], line.style) for line in lines if line.points]
    if mark is not None:
        parts.append(Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x(mark[0]), y(mark[1])))
    return Markup("").join([*parts, Markup("</svg>")])


def legend(lines: Sequence[Line]) -> Markup:
    """The names of the curves beside a stroke of each, as HTML that wraps where a line of SVG text can't."""
    stroke = Markup('<svg viewBox="0 0 22 8" width="22" height="8"><path class="line {}" d="M1 4H21"/></svg>')
    items = [Markup("<span>{}{}</span>").format(stroke.format(line.style), line.name) for line in lines if line.name]
    return Markup('<div class="legend">{}</div>').format(Markup("").join(items))


def box_bias_chart(bias_px: dict[str, float | None]) -> Markup:
    """A true box, dashed, and the mean detected box, its offsets much enlarged against the box."""
    left, top, right, bottom = (bias_px[edge] for edge in ("left", "top", "right", "bottom"))
    if left is None or top is None or right is None or bottom is None:
        return Markup("")
    x1, y1, x2, y2 = (
        corner + max(-9.0, min(9.0, 2.5 * offset))
        for corner, offset in ((10, left), (10, top), (46, right), (30, bottom))
    )
    return Markup(
        '<svg class="sketch" viewBox="0 0 56 40" width="48" height="34" aria-hidden="true">'
        '<rect class="sketch-true" x="10" y="10" width="36" height="20"/>'
        '<rect class="sketch-found" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></svg>'
    ).format(x1, y1, x2 - x1, y2 - y1)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round values from ``low`` to ``high``, some ``about`` of them, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _curve(points: Sequence[Point], style: str) -> Markup:
    if len(points) == 1:
        return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(style, *points[0])
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
    return Markup('<path class="line {}" d="{}"/>').format(style, escape(path))


def series_style(number: int) -> str:
    """Style of the ``number``-th of many curves: six colours, then the same dashed, then thin."""
    return f"c{1 + number % _COLOURS}{_STROKES[number // _COLOURS % len(_STROKES)]}"


def drop_zero_tail(recall: Sequence[float], precision: Sequence[float]) -> list[Point]:
    """A curve down to its first zero, since beyond the highest recall reached there is nothing; none if all is 0."""
    if not precision[0] > 0:
        return []
    end = next((i + 1 for i, value in enumerate(precision) if value <= 0), len(precision))
    return list(zip(recall[:end], precision[:end]))


def _rounded(points: Sequence[Point]) -> list[list[float]]:
    return [[round(x, 5), round(y, 4)] for x, y in points]


def _number(value: float) -> str:
    return f"{value:g}"


_HISTOGRAM_LAYOUT = ChartLayout(width=360, height=190, left=38, right=8, top=8, bottom=32)
_MAX_BINS = 16
_GAP = 0.16  # of a bin, between it and the next


def log2_bin_edges(values: Sequence[float]) -> list[float]:
    """Edges of bins that hold all values above 0: half-octaves, or whole ones where these would be too many."""
    low, high = math.log2(min(values)), math.log2(max(values))
    for step in (0.5, 1.0, 2.0, 4.0):
        first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
        if last - first <= _MAX_BINS or step == 4:
            break
    return [2.0 ** (k * step) for k in range(first, last + 1)]


def shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Share of the values in each bin; all 0 where there is none."""
    counts = np.histogram(values, edges)[0]
    return [float(count) / max(len(values), 1) for count in counts]


def histogram(
    title: str,
    edges: Sequence[float],
    parts: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
    frame: ChartLayout = _HISTOGRAM_LAYOUT,
) -> Markup:
    """An SVG element with the bars of all parts beside each other in each bin.

    Args:
        title: what a screen reader says.
        edges: of the bins, rising.
        parts: name and share of each bin, 0 to 1; the colours are those of ``charts.styled``.
        x_label: what the values are.
        frame: size and margins.
    """
    bins, wide = len(edges) - 1, frame.width - frame.left - frame.right
    base, tall = frame.height - frame.bottom, frame.height - frame.bottom - frame.top
    most = max((share for _, each in parts for share in each), default=0) or 1.0
    drawn = [Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(*frame[:2], title)]
    for value in nice_ticks(0, most, 3):
        y = base - value / most * tall
        drawn.append(
            Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{:.1f}" y2="{:.1f}"/>').format(
                frame.left, frame.left + wide, y, y
            )
        )
        drawn.append(
            Markup('<text x="{:g}" y="{:.1f}" text-anchor="end">{:.0f}%</text>').format(
                frame.left - 6, y + 3.5, 100 * value
            )
        )
    bar = wide / bins * (1 - _GAP) / max(len(parts), 1)
    for number, (name, each) in enumerate(parts):
        for k, share in enumerate(each):
            if share > 0:
                x, height = frame.left + wide / bins * (k + _GAP / 2) + number * bar, share / most * tall
                says = f"{name}: {100 * share:.1f} % from {edges[k]:.3g} to {edges[k + 1]:.3g} {x_label}"
                rect = (
                    '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
                )
                drawn.append(Markup(rect).format(series_style(number), x, base - height, bar, height, says))
    every = 1 if bins <= 8 else 2
    for k in range(0, bins + 1, every):
        text = '<text x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>'
        told = f"{edges[k]:.0f}" if edges[k] >= 10 else f"{edges[k]:.2g}"
        drawn.append(Markup(text).format(frame.left + wide / bins * k, base + 14, told))
    drawn.append(Markup('<path class="axis" d="M{:g} {:g}h{:g}"/>').format(frame.left, base, wide))
    label = '<text class="label" x="{:g}" y="{:g}" text-anchor="middle">{}</text>'
    drawn.append(Markup(label).format(frame.left + wide / 2, frame.height - 3, x_label))
    return Markup("").join([*drawn, Markup("</svg>")])


_SMALL_LAYOUT = ChartLayout(width=250, height=190, left=44, right=8, top=8, bottom=32)
_MAX_FALSE_ALARMS = 4.0  # false alarms an image that a chart reaches to
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
            Line("IoU 0.50", drop_zero_tail(recall, curves["0.50"]), "c1"),
            Line("IoU 0.75", drop_zero_tail(recall, curves["0.75"]), "c2 dash"),
        ]
        best = summary["per_class"][name]["best_f1"]
        mark = None if best["threshold"] is None else (best["recall"], best["precision"])
        title = f"Precision over recall of {name}"
        ranges: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1), "x_label": "recall", "y_label": "precision"}
        charts.append((name, line_chart(title, lines, mark=mark, frame=_SMALL_LAYOUT, **ranges)))
    return charts


def iou_chart(summary: dict[str, Any]) -> Markup | None:
    """AP over the IoU from which a detection counts as right, of each class; None where nothing is to find."""
    lines = []
    for number, (name, of_class) in enumerate(summary["per_class"].items()):
        points = [(float(iou), ap) for iou, ap in of_class["ap_by_iou"].items() if ap is not None]
        lines.append(Line(name, points, series_style(number)))
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
            Line(
                name,
                [point for point in points if point[0] <= _MAX_FALSE_ALARMS and point[1] is not None],
                series_style(number),
            )
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
            line_chart("FROC", froc, x_range=(0, _MAX_FALSE_ALARMS), **labels, **unit) + legend(froc),
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


_STYLE = Markup(
    "<style>text{font:10.5px Helvetica,Arial,sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#333;fill:none}"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke:currentColor}.thin{stroke-width:1.2}"
    ".dash{stroke-dasharray:5 4}.dot{fill:currentColor}.mark{fill:#fff;stroke:#222;stroke-width:1.6}"
    ".c1{color:#1463c7}.c2{color:#d9730d}.c3{color:#12876a}.c4{color:#a63ea6}.c5{color:#8a7a12}.c6{color:#6b7686}"
    "</style>"
)
_FIGURE_LAYOUT = ChartLayout(width=420, height=280, left=40, right=12, top=10, bottom=36)
_UNIT: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1), "frame": _FIGURE_LAYOUT}
_LETTER, _LINE_HEIGHT = 5.6, 16.0


def figures(summary: dict[str, Any]) -> dict[str, str]:
    """File name -> SVG text: precision over recall, AP over IoU, and what each score threshold gives.

    Figures with nothing to show are left out.
    """
    recall, curves = summary["pr_curves"]["recall"], summary["pr_curves"]["per_class"]
    found = {name: curve for name, curve in curves.items() if curve is not None and max(curve["0.50"]) > 0}
    made = {}
    if found:
        lines = [
            Line(name, drop_zero_tail(recall, curve["0.50"]), series_style(i))
            for i, (name, curve) in enumerate(found.items())
        ]
        made["precision_recall.svg"] = _standalone("Precision over recall at IoU 0.50", lines, "recall", "precision")
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    rows = summary["thresholds"]
    points = {key: [(row["threshold"], row[key]) for row in rows if row[key] is not None] for key in names}
    if summary["boxes"] and summary["detections"]:
        lines = [Line(name, points[key], series_style(i)) for i, (key, name) in enumerate(names.items())]
        made["score_threshold.svg"] = _standalone("What each score threshold gives", lines, "score threshold", "")
    return made


def _standalone(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    chart = line_chart(title, lines, x_label=x_label, y_label=y_label, **_UNIT)
    key, below = _legend(lines)
    text = re.sub(r' data-curves="[^"]*"', "", str(chart), count=1)
    inner = text[text.index(">") + 1 : text.rindex("</svg>")]
    height = _FIGURE_LAYOUT.height + below
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}" role="img" '
        'aria-label="{title}">'
    ).format(w=_FIGURE_LAYOUT.width, h=height, title=title)
    return f"{head}{_STYLE}{inner}{key}</svg>\n"


def _legend(lines: Sequence[Line]) -> tuple[Markup, float]:
    """The names below the chart, in as many rows as they need, and the height that they take."""
    x, row, parts = _FIGURE_LAYOUT.left, 0, []
    for line in lines:
        wide = 34 + _LETTER * len(line.name)
        if x + wide > _FIGURE_LAYOUT.width and x > _FIGURE_LAYOUT.left:
            x, row = _FIGURE_LAYOUT.left, row + 1
        y = _FIGURE_LAYOUT.height + 10 + row * _LINE_HEIGHT
        stroke = '<path class="line {}" d="M{:.1f} {:.1f}h18"/><text x="{:.1f}" y="{:.1f}">{}</text>'
        parts.append(Markup(stroke).format(line.style, x, y - 3.5, x + 23, y, line.name))
        x += wide + 8
    return Markup("").join(parts), 10 + (row + 1) * _LINE_HEIGHT


_BASE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.head{font-weight:600}"
    ".grid{stroke:#d0d7de}.page{fill:#fff}"
)
_BASE_DARK = "text{fill:#e6edf3}.small{fill:#9198a1}.grid{stroke:#3d444d}.page{fill:#0d1117}"


def svg_opening(width: float, height: float, label: str, *, style: str, dark: str) -> Markup:
    """What a picture begins with, up to its background; the caller closes the SVG element.

    Args:
        width, height: in SVG units.
        label: what a screen reader says.
        style: rules of its own beside those of ``text``, ``small``, ``head``, ``grid`` and ``page``.
        dark: those that a dark page changes.
    """
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:g} {1:g}" role="img" aria-label="{2}">'
        "<style>{3}@media(prefers-color-scheme:dark){{{4}}}</style>"
        '<rect class="page" width="{0:g}" height="{1:g}"/>'
    ).format(width, height, label, Markup(_BASE + style), Markup(_BASE_DARK + dark))


def svg_line(x1: float, x2: float, y1: float, y2: float, style: str) -> Markup:
    """A straight line; ``style`` is a class of the picture's own style sheet."""
    drawn = '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    return Markup(drawn).format(style, x1, x2, y1, y2)


def svg_text(x: float, y: float, words: str, style: str, anchor: str = "start") -> Markup:
    """Words at a place, escaped; ``style`` as for ``svg_line``, ``anchor`` is SVG's: start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, words
    )
