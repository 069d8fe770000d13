"""Report of the robustness to image corruptions: tables, charts, and a contact sheet of the corruptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ..images import Pixels, to_rgb
from ..synthetic.corruptions import CORRUPTIONS, SEVERITIES, checked_names, corrupt
from ..visualize import contact_sheet, to_uint8
from .charts import ChartLayout, Line, line_chart
from .tables import NOTHING, fraction, markdown_table, percent, plain_text, plural

Picture = NDArray[np.uint8]  # [height, width, 3] RGB

_TITLE_PX, _FONT_PX = 20, 13


def corruption_sheet(pixels: Pixels, names: Iterable[str] = tuple(CORRUPTIONS), *, seed: int = 0) -> Picture:
    """An image under each corruption and severity, with the parameter value above each copy.

    Args:
        pixels: uint8 or uint16, gray or RGB, as for ``detect.synthetic.corruptions.corrupt``.
        names: names of corruptions.
        seed: the same seed gives the same sheet.

    Raises:
        DataError: an unknown name, or no image.
    """
    cells = []
    for name in checked_names(names):
        kind = CORRUPTIONS[name]
        titles = [name, *(f"{level:g} {kind.unit}" for level in kind.levels)]
        for severity, title in enumerate(titles):
            cells.append(_titled(corrupt(pixels, name, severity, seed=seed), title))
    return contact_sheet(cells, SEVERITIES + 1)


def _titled(pixels: Pixels, title: str) -> Picture:
    picture = to_rgb(to_uint8(pixels))
    strip = Pillow.new("RGB", (picture.shape[1], _TITLE_PX), (255, 255, 255))
    ImageDraw.Draw(strip).text((1, 2), title, fill=(19, 26, 36), font=ImageFont.load_default(_FONT_PX))
    return np.concatenate([np.asarray(strip), picture])


_COLUMNS, _PANEL_WH, _CHART_TITLE_PX = 3, (300, 200), 26
_NAMED_CLASSES = 6  # one per colour; with more classes, the curves have no names

# The SVG is a separate file, also used in papers, so it defines all colours itself.
_STYLE = """
svg { font-family: system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; font-size: 11px; }
.paper { fill: #fff; } text { fill: #566174; } .name { fill: #131a24; font-size: 13px; font-weight: 600; }
.grid { stroke: #dfe4eb; } .axis { stroke: #566174; fill: none; }
.line { fill: none; stroke: currentColor; stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
.line.thin { stroke-width: 1.2; } .line.faint { stroke-width: 1; opacity: .45; } .dot { fill: currentColor; }
.all { color: #131a24; } .c1 { color: #1463c7; } .c2 { color: #d9730d; } .c3 { color: #12876a; }
.c4 { color: #a63ea6; } .c5 { color: #8a7a12; } .c6 { color: #6b7686; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #171d26; } text { fill: #9aa7ba; } .name { fill: #e8edf4; } .grid { stroke: #2a3341; }
  .axis { stroke: #9aa7ba; } .all { color: #e8edf4; } .c1 { color: #6aaeff; } .c2 { color: #ffab57; }
  .c3 { color: #4fd1ac; } .c4 { color: #e08be0; } .c5 { color: #d8c75c; } .c6 { color: #94a1b3; }
}
"""


def table_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows with AP50 by severity, the mean over severities, the share lost and its interval.

    Args:
        results: result of ``detect.evaluation.robustness.judge_corrupted``.
    """
    severities = [str(severity) for severity in results["severities"]]
    header = ["corruption", *severities, "mean", "lost", "95 % interval"]
    rows = [
        [
            name,
            *(fraction(each["severities"][severity]["AP50"]) for severity in severities),
            *_mean_cells(each["mean"]),
        ]
        for name, each in results["corruptions"].items()
    ]
    last = ["mean", *(fraction(results["by_severity"][severity]["AP50"]) for severity in severities)]
    return header, [*rows, [*last, *_mean_cells(results["mean"])]]


def class_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows with AP50 of each class: clean, and the mean over the severities of each corruption."""
    classes = list(results["clean"]["per_class"])
    rows = [["clean", *(fraction(results["clean"]["per_class"][name]["AP50"]) for name in classes)]]
    for name, each in [*results["corruptions"].items(), ("mean", {"mean": results["mean"]})]:
        rows.append([name, *(fraction(each["mean"]["per_class"][c]["AP50"]) for c in classes)])
    lost = results["mean"]["per_class"]
    return ["corruption", *classes], [*rows, ["lost", *(percent(lost[name]["drop"]) for name in classes)]]


def robustness_summary(results: dict[str, Any]) -> str:
    """The results in two sentences."""
    clean, mean = results["clean"]["AP50"], results["mean"]
    if not clean:
        return "AP50 is 0 on clean images, so no loss can be measured."
    drops = {name: each["mean"]["drop"] for name, each in results["corruptions"].items()}
    worst, best = max(drops, key=drops.__getitem__), min(drops, key=drops.__getitem__)
    interval = "" if mean["drop_low"] is None else f" ({percent(mean['drop_low'])} to {percent(mean['drop_high'])})"
    text = (
        f"AP50 is {fraction(clean)} on clean images and {fraction(mean['AP50'])} on average over "
        f"{plural(len(drops), 'corruption')} in {plural(len(results['severities']), 'severity', 'severities')}: "
        f"{percent(mean['drop'])}{interval} is lost."
    )
    if len(drops) > 1:
        text += f" The loss is largest with {worst} ({percent(drops[worst])}) and smallest with {best} "
        text += f"({percent(drops[best])})."
    return text


def to_markdown(results: dict[str, Any], meta: dict[str, Any] | None = None) -> str:
    """corruptions.md: data, AP50 by severity and by class, and the parameter value of each severity."""
    levels = [
        [
            name,
            f"{each['parameter']}, {each['unit']}",
            *(f"{level['value']:g}" for level in each["severities"].values()),
            each["what"],
        ]
        for name, each in results["corruptions"].items()
    ]
    severities = [str(severity) for severity in results["severities"]]
    sources = [f"- {key}: {value}" for key, value in (meta or {}).items() if value is not None]
    parts = [
        "# Robustness to image corruptions",
        plain_text(robustness_summary(results)),
        f"{plural(results['images'], 'image')}, {plural(results['boxes'], 'labelled object')}, seed {results['seed']}.",
        f"## AP50 by severity (clean: {fraction(results['clean']['AP50'])})",
        _escaped_table(*table_rows(results)),
        "`lost` is the lost share of the clean AP50, with its interval over images.",
        "## AP50 by class, mean over severities",
        _escaped_table(*class_rows(results)),
        "## Severities",
        _escaped_table(["corruption", "parameter", *severities, "description"], levels),
        *(["\n".join(map(plain_text, sources))] if sources else []),
    ]
    return "\n\n".join(parts) + "\n"


def to_svg(results: dict[str, Any]) -> str:
    """AP50 over severity, one small chart per corruption, with a bold curve for all objects and a thin one per class.

    The result is a separate file that follows the dark colour scheme.
    """
    clean = results["clean"]
    classes = list(clean["per_class"])
    lines = [Line("all", (), "all"), *(Line(name, (), style) for name, style in zip(classes, _class_styles(classes)))]
    width, height = _PANEL_WH
    rows = -(-len(results["corruptions"]) // _COLUMNS)
    named_lines = [line for line in lines if "faint" not in line.style]
    total_w, total_h = _COLUMNS * width, rows * (height + _CHART_TITLE_PX) + 34
    parts = [
        Markup('<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">').format(
            total_w, total_h
        ),
        Markup("<title>AP50 over the severity of each corruption</title><style>{}</style>").format(Markup(_STYLE)),
        Markup('<rect class="paper" width="100%" height="100%"/>'),
    ]
    frame = ChartLayout(width=width, height=height, left=44, right=14, top=8, bottom=34)
    for i, (name, each) in enumerate(results["corruptions"].items()):
        x, y = i % _COLUMNS * width, i // _COLUMNS * (height + _CHART_TITLE_PX)
        label = f"severity {', '.join(each['severities'])}: {_levels(each)}"
        curves = [line._replace(points=_points(line.name, k == 0, clean, each)) for k, line in enumerate(lines)]
        title = f"AP50 under {name}, by severity"
        chart = line_chart(
            title, curves[::-1], x_range=(0, SEVERITIES), y_range=(0, 1), x_label=label, frame=frame, integer_x=True
        )
        parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(x + 44, y + 20, name))
        parts.append(Markup('<svg x="{}" y="{}" width="{}" height="{}">').format(x, y + _CHART_TITLE_PX, width, height))
        parts.append(chart + Markup("</svg>"))
    return str(Markup("").join([*parts, _key(named_lines, total_w, total_h), Markup("</svg>\n")]))


def _levels(each: dict[str, Any]) -> str:
    values = [f"{level['value']:g}" for level in each["severities"].values()]
    return f"{', '.join(values)} {each['unit']}"


def _class_styles(classes: Sequence[str]) -> list[str]:
    return [f"c{k + 1} thin" if len(classes) <= _NAMED_CLASSES else "c1 faint" for k in range(len(classes))]


def _points(name: str, overall: bool, clean: dict[str, Any], each: dict[str, Any]) -> list[tuple[float, float]]:
    """(severity, AP50) from severity 0 (clean), of all objects or of one class."""
    rows = {0: clean, **{int(severity): row for severity, row in each["severities"].items()}}
    values = [(s, (row if overall else row["per_class"][name])["AP50"]) for s, row in rows.items()]
    return [(severity, value) for severity, value in values if value is not None]


def _key(lines: Sequence[Line], width: float, height: float) -> Markup:
    """The names of the curves, in one row at the lower edge."""
    step = (width - 44) / max(len(lines), 1)
    item = '<path class="line {0}" d="M{1:.0f} {2:.0f}h20"/><text x="{3:.0f}" y="{4:.0f}">{5}</text>'
    return Markup("").join(
        Markup(item).format(line.style, 44 + i * step, height - 16, 70 + i * step, height - 12, line.name)
        for i, line in enumerate(lines)
    )


def _mean_cells(mean: dict[str, Any]) -> list[str]:
    ends = NOTHING if mean["drop_low"] is None else f"{percent(mean['drop_low'])} to {percent(mean['drop_high'])}"
    return [fraction(mean["AP50"]), percent(mean["drop"]), ends]


def _escaped_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table([plain_text(cell) for cell in header], [[plain_text(cell) for cell in row] for row in rows])
