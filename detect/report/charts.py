"""Charts as inline SVG: line charts, histograms and the curves of a report, coloured by the page's style sheet."""

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
        name: shown in the legend unless it is empty.
        points: (x, y) with increasing x.
        style: classes of the style sheet: ``c1`` to ``c6`` for the colour, then optionally ``thin`` or ``dash``.
    """

    name: str
    points: Sequence[Point]
    style: str


class ChartLayout(NamedTuple):
    """Size of a chart and the margins for ticks and labels, in SVG units (pixels at scale 1)."""

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
    integer_x: bool = False,
) -> Markup:
    """An SVG element with axes, grid, curves and optionally one marked point; script/curves.js shows the values.

    ``title`` is the text for screen readers; ``integer_x`` restricts the ticks to integers, for example epochs.
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
        "integer_x": integer_x,
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
        if integer_x and value != round(value):
            continue
        text = '<text class="tick" x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>'
        parts.append(Markup(text).format(x(value), low + 15, _number(value)))
    axis = '<path class="axis" d="M{:g} {:g}H{:g}"/>'
    parts.append(Markup(axis).format(frame.left, low, frame.width - frame.right))
    label = '<text class="label" x="{:g}" y="{:g}" text-anchor="middle">{}</text>'
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(Markup(label).format(middle, frame.height - 4, x_label))
    if y_label:
        rotated = '<text class="label" transform="translate(11 {:g}) rotate(-90)" text-anchor="middle">{}</text>'
        parts.append(Markup(rotated).format((low + high) / 2, y_label))
    parts += [_curve([(x(px), y(py)) for px, py in line.points], line.style) for line in lines if line.points]
    if mark is not None:
        parts.append(Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x(mark[0]), y(mark[1])))
    return Markup("").join([*parts, Markup("</svg>")])


def legend(lines: Sequence[Line]) -> Markup:
    """The names of the curves with a sample stroke each, as HTML, which wraps long legends unlike SVG text."""
    stroke = Markup('<svg viewBox="0 0 22 8" width="22" height="8"><path class="line {}" d="M1 4H21"/></svg>')
    items = [Markup("<span>{}{}</span>").format(stroke.format(line.style), line.name) for line in lines if line.name]
    return Markup('<div class="legend">{}</div>').format(Markup("").join(items))


def box_bias_chart(bias_px: dict[str, float | None]) -> Markup:
    """A labelled box, dashed, and the mean detected box; offsets are enlarged: 2.5 units per pixel, 9 at most."""
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
    """About ``about`` round values from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten."""
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
    """Style of curve ``number``: six colours, then the same colours dashed, then thin."""
    return f"c{1 + number % _COLOURS}{_STROKES[number // _COLOURS % len(_STROKES)]}"


def drop_zero_tail(recall: Sequence[float], precision: Sequence[float]) -> list[Point]:
    """Points of a curve up to its first precision of 0, beyond the highest recall; empty if all precisions are 0."""
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
_GAP = 0.16  # gap between two bins as a fraction of the bin width


def log2_bin_edges(values: Sequence[float]) -> list[float]:
    """Bin edges for positive values in steps of half an octave, or 1, 2 or 4 octaves to have at most 16 bins."""
    low, high = math.log2(min(values)), math.log2(max(values))
    for step in (0.5, 1.0, 2.0, 4.0):
        first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
        if last - first <= _MAX_BINS or step == 4:
            break
    return [2.0 ** (k * step) for k in range(first, last + 1)]


def shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Share of the values in each bin; all 0 if there are no values."""
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
    """An SVG element with one bar per part in each bin.

    Args:
        title: text for screen readers.
        edges: increasing bin edges.
        parts: (name, share of each bin, 0 to 1); colours are those of ``series_style``.
        x_label: name and unit of the values.
        frame: size and margins.
    """
    bins, plot_width = len(edges) - 1, frame.width - frame.left - frame.right
    base, plot_height = frame.height - frame.bottom, frame.height - frame.bottom - frame.top
    max_share = max((share for _, bin_shares in parts for share in bin_shares), default=0) or 1.0
    elements = [
        Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(*frame[:2], title)
    ]
    for value in nice_ticks(0, max_share, 3):
        y = base - value / max_share * plot_height
        elements.append(
            Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{:.1f}" y2="{:.1f}"/>').format(
                frame.left, frame.left + plot_width, y, y
            )
        )
        elements.append(
            Markup('<text x="{:g}" y="{:.1f}" text-anchor="end">{:.0f}%</text>').format(
                frame.left - 6, y + 3.5, 100 * value
            )
        )
    bar = plot_width / bins * (1 - _GAP) / max(len(parts), 1)
    for number, (name, bin_shares) in enumerate(parts):
        for k, share in enumerate(bin_shares):
            if share > 0:
                x = frame.left + plot_width / bins * (k + _GAP / 2) + number * bar
                height = share / max_share * plot_height
                tooltip = f"{name}: {100 * share:.1f} % from {edges[k]:.3g} to {edges[k + 1]:.3g} {x_label}"
                rect = (
                    '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
                )
                elements.append(Markup(rect).format(series_style(number), x, base - height, bar, height, tooltip))
    step = 1 if bins <= 8 else 2
    for k in range(0, bins + 1, step):
        text = '<text x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>'
        value_text = f"{edges[k]:.0f}" if edges[k] >= 10 else f"{edges[k]:.2g}"
        elements.append(Markup(text).format(frame.left + plot_width / bins * k, base + 14, value_text))
    elements.append(Markup('<path class="axis" d="M{:g} {:g}h{:g}"/>').format(frame.left, base, plot_width))
    label = '<text class="label" x="{:g}" y="{:g}" text-anchor="middle">{}</text>'
    elements.append(Markup(label).format(frame.left + plot_width / 2, frame.height - 3, x_label))
    return Markup("").join([*elements, Markup("</svg>")])


_SMALL_LAYOUT = ChartLayout(width=250, height=190, left=44, right=8, top=8, bottom=32)
_MAX_FALSE_ALARMS = 4.0  # upper end of the FROC axis, false alarms per image
_LOSS_NAMES = {
    "loss_classifier": "classification",
    "loss_box_reg": "box regression",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal regression",
}


def pr_charts(summary: dict[str, Any]) -> list[tuple[str, Markup]]:
    """(class, chart) for each class with labelled boxes; the dot marks the best F1."""
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
    """AP of each class over the IoU threshold; None if there are no labelled boxes."""
    lines = []
    for number, (name, of_class) in enumerate(summary["per_class"].items()):
        points = [(float(iou), ap) for iou, ap in of_class["ap_by_iou"].items() if ap is not None]
        if points:
            lines.append(Line(name, points, series_style(number)))
    if not lines:
        return None
    ranges: dict[str, Any] = {"x_range": (0.5, 0.95), "y_range": (0, 1), "x_label": "IoU"}
    return line_chart("AP over the IoU threshold", lines, **ranges) + legend(lines)


def threshold_chart(summary: dict[str, Any]) -> Markup | None:
    """Precision, recall and F1 over the score threshold; None without detections or without labelled boxes."""
    if not summary["boxes"] or not summary["detections"]:
        return None
    lines = []
    for key, name, style in (("precision", "precision", "c1"), ("recall", "recall", "c2"), ("f1", "F1", "c3")):
        points = [(t["threshold"], t[key]) for t in summary["thresholds"] if t[key] is not None]
        lines.append(Line(name, points, style))
    threshold, f1 = summary["score_threshold"], summary["at_threshold"]["f1"]
    chart = line_chart(
        "Precision, recall and F1 over the score threshold",
        lines,
        x_range=(0, 1),
        y_range=(0, 1),
        x_label="score threshold",
        mark=None if f1 is None else (threshold, f1),
    )
    return chart + legend(lines)


def operating_charts(operating: dict[str, Any] | None) -> list[tuple[str, Markup]]:
    """(title, chart) of the FROC curves and of the score reliability; empty without an operating point."""
    if operating is None:
        return []
    curves = {"all": operating["froc"]["overall"], **operating["froc"]["per_class"]}
    froc = []
    for number, (name, froc_of) in enumerate(curves.items()):
        curve = froc_of["curve"]
        points = [
            (rate, sensitivity)
            for rate, sensitivity in zip(curve["false_alarms_per_image"], curve["sensitivity"])
            if rate <= _MAX_FALSE_ALARMS and sensitivity is not None
        ]
        froc.append(Line(name, points, series_style(number)))
    bins = operating["reliability"]["overall"]["bins"]
    reliability = [
        Line(
            "share of correct detections",
            [(each["mean_score"], each["hit_rate"]) for each in bins if each["hit_rate"] is not None],
            "c1",
        ),
        Line("perfectly calibrated scores", [(0, 0), (1, 1)], "c6 dash"),
    ]
    unit: dict[str, Any] = {"y_range": (0, 1)}
    labels: dict[str, Any] = {"x_label": "false alarms per image", "y_label": "sensitivity"}
    return [
        (
            "Sensitivity over false alarms (FROC)",
            line_chart("FROC", froc, x_range=(0, _MAX_FALSE_ALARMS), **labels, **unit) + legend(froc),
        ),
        (
            "Reliability of the scores",
            line_chart("Reliability of the scores", reliability, x_range=(0, 1), x_label="score", **unit)
            + legend(reliability),
        ),
    ]


def training_charts(log: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    """(title, chart) of the losses and of the validation AP, as far as the log contains them."""
    losses = [Line("total", _series(log, "loss"), "c1")]
    parts = list(dict.fromkeys(name for row in log for name in row.get("losses") or {}))
    for i, name in enumerate(parts):
        losses.append(Line(_LOSS_NAMES.get(name, name), _series(log, "losses", name), f"c{2 + i % 5} thin"))
    scores = [Line(key, _series(log, "val", key), f"c{i}") for i, key in enumerate(("AP50", "AP", "AP75"), 1)]
    charts = []
    for title, lines, y_max in (("Loss", losses, None), ("Validation", scores, 1.0)):
        lines = [line for line in lines if line.points]
        if not lines:
            continue
        epochs = [x for line in lines for x, _ in line.points]
        y_max = y_max or 1.05 * max(y for line in lines for _, y in line.points)
        ranges: dict[str, Any] = {"x_range": (min(epochs), max(epochs)), "y_range": (0, y_max)}
        chart = line_chart(f"{title} over epochs", lines, x_label="epoch", integer_x=True, **ranges)
        if title == "Validation" and (points := _series(log, "val", "AP")):
            epoch, best = max(points, key=lambda point: point[1])
            title = f"Validation: best AP {best:.3f} at epoch {epoch:g}"
        charts.append((title, chart + legend(lines)))
    return charts


def _series(log: list[dict[str, Any]], *keys: str) -> list[tuple[float, float]]:
    """(epoch, value) of the log rows that have a finite number under the nested ``keys``."""
    points = []
    for number, row in enumerate(log, 1):
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            points.append((float(row.get("epoch", number)), float(value)))
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
    """File name -> SVG text: precision over recall; precision, recall and F1 over the score threshold.

    Figures without data are left out.
    """
    recall, curves = summary["pr_curves"]["recall"], summary["pr_curves"]["per_class"]
    nonzero = {name: curve for name, curve in curves.items() if curve is not None and max(curve["0.50"]) > 0}
    svg_files = {}
    if nonzero:
        lines = [
            Line(name, drop_zero_tail(recall, curve["0.50"]), series_style(i))
            for i, (name, curve) in enumerate(nonzero.items())
        ]
        title = "Precision over recall at IoU 0.50"
        svg_files["precision_recall.svg"] = _standalone(title, lines, "recall", "precision")
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    rows = summary["thresholds"]
    points = {key: [(row["threshold"], row[key]) for row in rows if row[key] is not None] for key in names}
    if summary["boxes"] and summary["detections"]:
        lines = [Line(name, points[key], series_style(i)) for i, (key, name) in enumerate(names.items())]
        title = "Precision, recall and F1 over the score threshold"
        svg_files["score_threshold.svg"] = _standalone(title, lines, "score threshold", "")
    return svg_files


def _standalone(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    chart = line_chart(title, lines, x_label=x_label, y_label=y_label, **_UNIT)
    legend_rows, legend_height = _legend(lines)
    text = re.sub(r' data-curves="[^"]*"', "", str(chart), count=1)
    inner = text[text.index(">") + 1 : text.rindex("</svg>")]
    height = _FIGURE_LAYOUT.height + legend_height
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}" role="img" '
        'aria-label="{title}">'
    ).format(w=_FIGURE_LAYOUT.width, h=height, title=title)
    return f"{head}{_STYLE}{inner}{legend_rows}</svg>\n"


def _legend(lines: Sequence[Line]) -> tuple[Markup, float]:
    """The legend below the chart, in as many rows as necessary, and its height."""
    x, row, parts = _FIGURE_LAYOUT.left, 0, []
    for line in lines:
        width = 34 + _LETTER * len(line.name)
        if x + width > _FIGURE_LAYOUT.width and x > _FIGURE_LAYOUT.left:
            x, row = _FIGURE_LAYOUT.left, row + 1
        y = _FIGURE_LAYOUT.height + 10 + row * _LINE_HEIGHT
        stroke = '<path class="line {}" d="M{:.1f} {:.1f}h18"/><text x="{:.1f}" y="{:.1f}">{}</text>'
        parts.append(Markup(stroke).format(line.style, x, y - 3.5, x + 23, y, line.name))
        x += width + 8
    return Markup("").join(parts), 10 + (row + 1) * _LINE_HEIGHT


_BASE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.head{font-weight:600}"
    ".grid{stroke:#d0d7de}.page{fill:#fff}"
)
_BASE_DARK = "text{fill:#e6edf3}.small{fill:#9198a1}.grid{stroke:#3d444d}.page{fill:#0d1117}"


def svg_opening(width: float, height: float, label: str, *, style: str, dark: str) -> Markup:
    """Opening tag, style sheet and background of an SVG file; the caller closes the SVG element.

    Args:
        width, height: in SVG units.
        label: text for screen readers.
        style: additional CSS rules; ``text``, ``small``, ``head``, ``grid`` and ``page`` are predefined.
        dark: additional CSS rules for the dark colour scheme.
    """
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:g} {1:g}" role="img" aria-label="{2}">'
        "<style>{3}@media(prefers-color-scheme:dark){{{4}}}</style>"
        '<rect class="page" width="{0:g}" height="{1:g}"/>'
    ).format(width, height, label, Markup(_BASE + style), Markup(_BASE_DARK + dark))


def svg_line(x1: float, x2: float, y1: float, y2: float, style: str) -> Markup:
    """A straight line; ``style`` is a class of the file's style sheet."""
    line = '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    return Markup(line).format(style, x1, x2, y1, y2)


def svg_text(x: float, y: float, text: str, style: str, anchor: str = "start") -> Markup:
    """Escaped text at (x, y); ``style`` as for ``svg_line``, ``anchor`` is start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(style, x, y, anchor, text)
