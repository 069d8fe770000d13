"""A bench as a picture: each system's AP50 with its seeds and interval, its difference, and the time it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from ..report.charts import nice_ticks

_ROW, _TOP, _BOTTOM = 26.0, 46.0, 34.0
_NAMES, _PANEL, _GAP, _COLUMN = 170.0, 250.0, 34.0, 70.0
_TICKS = 5

_BASE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.head{font-weight:600}"
    ".grid{stroke:#d0d7de}.page{fill:#fff}"
)
_BASE_DARK = "text{fill:#e6edf3}.small{fill:#9198a1}.grid{stroke:#3d444d}.page{fill:#0d1117}"
_STYLE = (
    ".zero{stroke:#57606a}.span{stroke:#0969da;stroke-width:2}.mean{fill:#0969da}"
    ".seed{fill:none;stroke:#57606a}.clear{stroke:#bc4c00}"
)
_DARK = ".zero,.seed{stroke:#9198a1}.span{stroke:#4493f8}.mean{fill:#4493f8}.clear{stroke:#f0883e}"


class Axis(NamedTuple):
    """Where values lie on a panel."""

    left: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Of a value, in SVG units."""
        return self.left + (value - self.low) / (self.high - self.low) * _PANEL


def forest_plot(results: dict[str, Any], key: str = "AP50") -> str:
    """SVG text of what ``gather`` found; systems without figures are named and left blank.

    Args:
        results: as bench.json has them.
        key: "AP50", "AP75" or "AP".
    """
    rows = results["systems"]
    height = _TOP + _ROW * len(rows) + _BOTTOM
    second = _NAMES + _PANEL + _GAP
    width = second + _PANEL + _COLUMN + 10
    scores = Axis(_NAMES, *_range([v for row in rows for v in _extent(row.get(key), "mean")]))
    gains = Axis(second, *_range([0.0, *(v for row in rows for v in _extent(_difference(row, key), "value"))]))
    parts = [
        opening(width, height, f"{key} of {len(rows)} systems with intervals", style=_STYLE, dark=_DARK),
        text(_NAMES, 18, f"{key}, with {100 * results['confidence']:g} % interval and seeds", "head"),
        text(second, 18, f"difference from {results['against']}", "head"),
        text(width - 10, 18, "time", "head", "end"),
        *_grid(scores, height),
        *_grid(gains, height),
        line(gains.x(0), gains.x(0), _TOP - 8, height - _BOTTOM, "zero"),
    ]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(text(_NAMES - 14, y + 4, row["name"], "", "end"))
        if key not in row:
            parts.append(text(_NAMES, y + 4, row["state"], "small"))
            continue
        parts += _estimate(scores, y, row[key], "mean", clear=False)
        for score in [run[key] for run in row["runs"] if run[key] is not None]:  # a fold may hold no box
            ring = '<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            parts.append(Markup(ring).format(scores.x(score), y))
        difference = _difference(row, key)
        if difference is not None:
            parts += _estimate(gains, y, difference, "value", clear=difference["verdict"] != "cannot tell")
            parts.append(text(width - 10, y + 4, f"x {row['times_as_long']:.2f}", "", "end"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _difference(row: dict[str, Any], key: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = row.get("difference", {}).get(key)
    return found


def _extent(score: dict[str, Any] | None, middle: str) -> list[float]:
    if score is None:
        return []
    return [score[end] for end in ("low", middle, "high") if score[end] is not None]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values take."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = 0.06 * (high - low) or 0.05
    return low - spare, high + spare


def _grid(axis: Axis, height: float) -> list[Markup]:
    parts = []
    for tick in nice_ticks(axis.low, axis.high, _TICKS):
        parts.append(line(axis.x(tick), axis.x(tick), _TOP - 8, height - _BOTTOM, "grid"))
        parts.append(text(axis.x(tick), height - _BOTTOM + 16, f"{tick:g}", "small", "middle"))
    return parts


def _estimate(axis: Axis, y: float, score: dict[str, Any], middle: str, *, clear: bool) -> list[Markup]:
    parts = []
    if score["low"] is not None:
        parts.append(line(axis.x(score["low"]), axis.x(score["high"]), y, y, "span clear" if clear else "span"))
    if score[middle] is not None:
        parts.append(Markup('<circle class="mean" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(axis.x(score[middle]), y))
    return parts


def opening(width: float, height: float, label: str, *, style: str, dark: str) -> Markup:
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


def line(x1: float, x2: float, y1: float, y2: float, style: str) -> Markup:
    """A straight line; ``style`` is a class of the picture's own style sheet."""
    drawn = '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    return Markup(drawn).format(style, x1, x2, y1, y2)


def text(x: float, y: float, words: str, style: str, anchor: str = "start") -> Markup:
    """Words at a place, escaped; ``style`` as for ``line``, ``anchor`` is SVG's: start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, words
    )
