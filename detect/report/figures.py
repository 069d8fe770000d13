"""The report's curves as files of their own, for papers and slides: SVG that carries its style with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from .charts import Frame, Line, line_chart, styled, until_zero

_STYLE = Markup(
    "<style>text{font:10.5px Helvetica,Arial,sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#333;fill:none}"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke:currentColor}.thin{stroke-width:1.2}"
    ".dash{stroke-dasharray:5 4}.dot{fill:currentColor}.mark{fill:#fff;stroke:#222;stroke-width:1.6}"
    ".c1{color:#1463c7}.c2{color:#d9730d}.c3{color:#12876a}.c4{color:#a63ea6}.c5{color:#8a7a12}.c6{color:#6b7686}"
    "</style>"
)
_FRAME = Frame(width=420, height=280, left=40, right=12, top=10, bottom=36)
_UNIT: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1), "frame": _FRAME}
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
            Line(name, until_zero(recall, curve["0.50"]), styled(i)) for i, (name, curve) in enumerate(found.items())
        ]
        made["precision_recall.svg"] = _standalone("Precision over recall at IoU 0.50", lines, "recall", "precision")
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    rows = summary["thresholds"]
    points = {key: [(row["threshold"], row[key]) for row in rows if row[key] is not None] for key in names}
    if summary["boxes"] and summary["detections"]:
        lines = [Line(name, points[key], styled(i)) for i, (key, name) in enumerate(names.items())]
        made["score_threshold.svg"] = _standalone("What each score threshold gives", lines, "score threshold", "")
    return made


def _standalone(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    chart = line_chart(title, lines, x_label=x_label, y_label=y_label, **_UNIT)
    key, below = _legend(lines)
    text = re.sub(r' data-curves="[^"]*"', "", str(chart), count=1)
    inner = text[text.index(">") + 1 : text.rindex("</svg>")]
    height = _FRAME.height + below
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}" role="img" '
        'aria-label="{title}">'
    ).format(w=_FRAME.width, h=height, title=title)
    return f"{head}{_STYLE}{inner}{key}</svg>\n"


def _legend(lines: Sequence[Line]) -> tuple[Markup, float]:
    """The names below the chart, in as many rows as they need, and the height that they take."""
    x, row, parts = _FRAME.left, 0, []
    for line in lines:
        wide = 34 + _LETTER * len(line.name)
        if x + wide > _FRAME.width and x > _FRAME.left:
            x, row = _FRAME.left, row + 1
        y = _FRAME.height + 10 + row * _LINE_HEIGHT
        stroke = '<path class="line {}" d="M{:.1f} {:.1f}h18"/><text x="{:.1f}" y="{:.1f}">{}</text>'
        parts.append(Markup(stroke).format(line.style, x, y - 3.5, x + 23, y, line.name))
        x += wide + 8
    return Markup("").join(parts), 10 + (row + 1) * _LINE_HEIGHT
