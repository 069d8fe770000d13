"""Accuracy against time as a picture: which forms of a detector no other one beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ...report.charts import nice_ticks
from ..figure import line, opening, text

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 60.0, 310.0, 40.0, 50.0
_STYLE = (
    ".front{fill:none;stroke:#0969da;stroke-width:2}.best{fill:#0969da}"
    ".beaten{fill:none;stroke:#57606a;stroke-width:1.5}"
)
_DARK = ".front{stroke:#4493f8}.best{fill:#4493f8}.beaten{stroke:#9198a1}"


def pareto_front(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Positions of the rows that no other one beats in time without losing AP50, fastest first."""
    front: list[int] = []
    for number in sorted(range(len(rows)), key=lambda i: (_ms(rows[i]), -rows[i]["AP50"])):
        if not front or rows[number]["AP50"] > rows[front[-1]]["AP50"]:
            front.append(number)
    return front


def pareto_plot(rows: Sequence[dict[str, Any]]) -> str:
    """SVG text of rows that have an AP50: milliseconds an image on a logarithmic axis against AP50."""
    rows = [row for row in rows if row["AP50"] is not None]
    tall = max(360.0, _TOP + 15 * len(rows) + _BOTTOM)
    times, scores = [math.log10(_ms(row)) for row in rows], [row["AP50"] for row in rows]
    low, high = min(times) - 0.08, max(times) + 0.08
    bottom, top = min(scores) - 0.02, max(scores) + 0.02

    def place(time: float, score: float) -> tuple[float, float]:
        x = _LEFT + (time - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        return x, tall - _BOTTOM - (score - bottom) / (top - bottom) * (tall - _TOP - _BOTTOM)

    front = pareto_front(rows)
    parts = [
        opening(_WIDTH, tall, f"AP50 against milliseconds an image of {len(rows)} forms", style=_STYLE, dark=_DARK),
        text(_LEFT, 20, "AP50 against milliseconds an image; filled: nothing is faster and as good", "head"),
    ]
    for tick in nice_ticks(bottom, top, 5):
        _, y = place(low, tick)
        parts += [line(_LEFT, _WIDTH - _RIGHT, y, y, "grid"), text(_LEFT - 8, y + 4, f"{tick:g}", "small", "end")]
    for tick in nice_ticks(10**low, 10**high, 6):
        if tick > 0 and low <= math.log10(tick) <= high:
            x, _ = place(math.log10(tick), bottom)
            parts += [
                line(x, x, _TOP, tall - _BOTTOM, "grid"),
                text(x, tall - _BOTTOM + 18, f"{tick:g}", "small", "middle"),
            ]
    path = " ".join("{:.1f},{:.1f}".format(*place(times[i], scores[i])) for i in front)
    parts.append(Markup('<polyline class="front" points="{}"/>').format(path))
    taken: list[tuple[float, float]] = []
    for place_in_time, number in enumerate(sorted(range(len(rows)), key=times.__getitem__), start=1):
        x, y = place(times[number], scores[number])
        style = "best" if number in front else "beaten"
        parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(style, x, y))
        height = y - 9
        while any(abs(height - other) < 12 and abs(x - there) < 14 for there, other in taken):
            height -= 12
        taken.append((x, height))
        parts.append(text(x, height, str(place_in_time), "small", "middle"))
        parts.append(
            text(_WIDTH - _RIGHT + 16, _TOP + 15 * place_in_time, f"{place_in_time}  {_name(rows[number])}", "small")
        )
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _ms(row: dict[str, Any]) -> float:
    return 1000.0 / float(row["images_per_s"])


def _name(row: dict[str, Any]) -> str:
    return f"{row['system']} {row['runtime']} {row['precision']}, {row['threads']} thr., batch {row['batch']}"
