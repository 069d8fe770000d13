"""Line charts as inline SVG: no library in the page, sharp at any size, coloured by the page's own style sheet."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

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


class Frame(NamedTuple):
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
    frame: Frame = Frame(),  # noqa: B008 - immutable
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


def bias_sketch(bias_px: dict[str, float | None]) -> Markup:
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


def styled(number: int) -> str:
    """Style of the ``number``-th of many curves: six colours, then the same dashed, then thin."""
    return f"c{1 + number % _COLOURS}{_STROKES[number // _COLOURS % len(_STROKES)]}"


def until_zero(recall: Sequence[float], precision: Sequence[float]) -> list[Point]:
    """A curve down to its first zero, since beyond the highest recall reached there is nothing; none if all is 0."""
    if not precision[0] > 0:
        return []
    end = next((i + 1 for i, value in enumerate(precision) if value <= 0), len(precision))
    return list(zip(recall[:end], precision[:end]))


def _rounded(points: Sequence[Point]) -> list[list[float]]:
    return [[round(x, 5), round(y, 4)] for x, y in points]


def _number(value: float) -> str:
    return f"{value:g}"
