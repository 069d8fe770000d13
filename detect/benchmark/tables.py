"""A bench as Markdown, several joined, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from ..errors import DataError
from ..report.charts import nice_ticks


def markdown_table_padded(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Padded, so that it reads well as plain text too; the first column is text, the others are figures."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows)]
    widths = [max(width, 3) for width in widths]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(columns), line(rule), *map(line, rows)]


def mean_cell(score: dict[str, Any]) -> str:
    """A mean with the standard deviation from seed to seed, if there is one: ``0.512 ± 0.013``."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return "-" if score["mean"] is None else f"{score['mean']:.3f}{spread}"


def interval_cell(score: dict[str, Any]) -> str:
    """The ends of its interval: ``0.480 to 0.541``."""
    return "-" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


def difference_cell(score: dict[str, Any]) -> str:
    """A difference with the ends of its interval: ``+0.031 (+0.008 to +0.055)``."""
    if score["value"] is None:
        return "-"
    ends = "" if score["low"] is None else f" ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"{score['value']:+.3f}{ends}"


def short_count(count: int) -> str:
    """1234567 -> "1.23 M"; three figures."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{unit}"
    return str(count)


def to_markdown(results: dict[str, Any]) -> str:
    """What ``gather`` found, as tables of scores, of differences and of classes."""
    systems = results["systems"]
    complete = [row for row in systems if row["state"] == "complete"]
    lines = [_title(results), "", *markdown_table_padded(_SCORES, [_scores(row) for row in systems])]
    compared = [row for row in complete if "difference" in row]
    if compared:
        columns = [f"against {results['against']}", "AP50", "", "AP", "", "time an image"]
        lines += ["", *markdown_table_padded(columns, [_difference(row) for row in compared])]
    categories = results["data"]["categories"]
    if complete:
        lines += [
            "",
            *markdown_table_padded(["AP50 by class", *categories], [_classes(row, categories) for row in complete]),
        ]
    for row in systems:
        lines += [f"\n{row['name']} has no figures: {'; '.join(row['missing'])}."] if row["missing"] else []
    if complete:
        lines += ["", _explanation(results, complete)]
    return "\n".join(lines) + "\n"


_SCORES = ["system", "parameters", "multiply-adds", "AP50", "95 %", "AP", "95 %", "training, minutes", "ms an image"]


def _title(results: dict[str, Any]) -> str:
    data, seeds, folds = results["data"], results["seeds"], results["folds"]
    trained = f"{seeds} seed{'s' * (seeds > 1)}" + (f" on each of {folds} folds" if folds else "")
    of = "" if data["scenes"] == data["images"] else f" of {data['scenes']:,} scenes"
    return f"Trained with {trained}, judged on {data['images']:,} images{of} with {data['boxes']:,} boxes."


def _scores(row: dict[str, Any]) -> list[str]:
    if row["state"] != "complete":
        return [row["name"], row["state"], *["-"] * (len(_SCORES) - 2)]
    return [
        row["name"],
        short_count(row["parameters"]),
        short_count(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean_cell(row[key]), interval_cell(row[key]))),
        f"{row['training_minutes']:.1f}",
        f"{row['ms_per_image']:.1f}",
    ]


def _difference(row: dict[str, Any]) -> list[str]:
    cells = [row["name"]]
    for key in ("AP50", "AP"):
        each = row["difference"][key]
        cells += [difference_cell(each), each["verdict"]]
    return [*cells, f"x {row['relative_latency']:.2f}"]


def _classes(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    return [row["name"], *(mean_cell(row["per_class"][name]["AP50"]) for name in categories)]


def _explanation(results: dict[str, Any], complete: Sequence[dict[str, Any]]) -> str:
    if complete[0]["interval_covers"] == "images":
        covers = "They cover the choice of images; with one seed nothing is known of other seeds."
    else:
        covers = "They cover the choice of images and of seeds: what would change if all were trained and judged anew."
    speed, percent = results["speed"], f"{100 * results['confidence']:g} %"
    return (
        "Scores are means over seeds ± the standard deviation from seed to seed, of the averaged weights after the "
        f"last epoch. Intervals hold {percent}, by {results['resamples']:,} bootstrap resamples. {covers} Differences "
        "are paired: both systems on the same resampled images. Times are medians from array to boxes, one image at "
        f"a time, on {speed['device']} with {speed['threads']} thread{'s' * (speed['threads'] > 1)}, all in turns."
    )


_COLUMNS = [
    "system",
    "seeds",
    "parameters",
    "multiply-adds",
    "AP50",
    "95 %",
    "AP",
    "95 %",
    "AP50 against {}",
    "training time",
    "time an image",
]


class _SystemRow(NamedTuple):
    """A system's figures in a bench, with those of the bench's reference, if that is complete."""

    bench: dict[str, Any]
    row: dict[str, Any]
    reference: dict[str, Any] | None

    def ratio(self, key: str) -> str:
        return "-" if self.reference is None else f"x {self.row[key] / self.reference[key]:.2f}"


def join(benches: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Tables of scores and of classes as Markdown, each system once, those of the first bench first.

    A system that several benches hold, the reference among them, is told by the one with most seeds. Times are ratios
    to the reference of the same bench, as minutes and milliseconds of two benches don't compare; where that lacks the
    reference, they are those of another bench that has it.

    Args:
        benches: each with a name for messages, and as bench.json has it.

    Raises:
        DataError: something else than a bench, or benches on other data, against another system, or trained on other
            terms; those of benches made before terms were written down aren't looked at.
    """
    for name, bench in benches:
        if not _is_bench(bench):
            fix = "give the bench.json of detect bench train"
            raise DataError("the file doesn't hold the figures of a bench", where=name, fix=fix)
    (first_name, first), *others = benches
    for name, bench in others:
        other = _other_terms(bench, first)
        if other:
            found = f"it differs from {first_name} in {', '.join(other)}, so that their scores don't compare"
            raise DataError(found, where=name, fix="join benches of one reference, on the same data and terms")
    told: dict[str, list[_SystemRow]] = {}
    for each in _complete(benches):
        told.setdefault(each.row["name"], []).append(each)
    rows = [sorted(each, key=lambda one: -one.bench["seeds"]) for each in told.values()]
    categories = first["data"]["categories"]
    columns = [each.format(first["against"]) for each in _COLUMNS]
    lines = [*markdown_table_padded(columns, [_joined_scores(each) for each in rows]), ""]
    classes = [[most.row["name"], *_joined_classes(most.row, categories)] for most, *_ in rows]
    lines += markdown_table_padded(["AP50 by class", *categories], classes)
    return "\n".join(lines) + "\n"


def _is_bench(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"against", "seeds", "folds", "data", "systems"} <= value.keys()
        and isinstance(value["data"], dict)
        and {"categories", "images", "boxes"} <= value["data"].keys()
        and all(isinstance(row, dict) and {"name", "state"} <= row.keys() for row in value["systems"])
    )


def _other_terms(bench: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """What two benches don't have in common."""
    other = [key for key in ("against", "folds", "group_pattern") if bench.get(key) != first.get(key)]
    other += [key for key in ("categories", "images", "boxes") if bench["data"][key] != first["data"][key]]
    mine, theirs = (each.get("terms", {}) for each in (bench, first))
    return other + [key for key in mine if key in theirs and mine[key] != theirs[key]]


def _complete(benches: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[_SystemRow]:
    for _, bench in benches:
        finished = [row for row in bench["systems"] if row["state"] == "complete"]
        reference = next((row for row in finished if row["name"] == bench["against"]), None)
        yield from (_SystemRow(bench, row, reference) for row in finished)


def _joined_scores(told: Sequence[_SystemRow]) -> list[str]:
    bench, row, _ = told[0]
    timed = next((each for each in told if each.reference is not None), None)
    return [
        row["name"],
        str(bench["seeds"]),
        short_count(row["parameters"]),
        short_count(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean_cell(row[key]), interval_cell(row[key]))),
        difference_cell(row["difference"]["AP50"]) if "difference" in row else "-",
        *("-" if timed is None else timed.ratio(key) for key in ("training_minutes", "ms_per_image")),
    ]


def _joined_classes(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    scores = [row["per_class"][name]["AP50"] for name in categories]
    return [mean_cell(each) if each["low"] is None else f"{mean_cell(each)} ({interval_cell(each)})" for each in scores]


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
    gains = Axis(second, *_range([0.0, *(v for row in rows for v in _extent(_drawn_difference(row, key), "value"))]))
    parts = [
        svg_opening(width, height, f"{key} of {len(rows)} systems with intervals", style=_STYLE, dark=_DARK),
        svg_text(_NAMES, 18, f"{key}, with {100 * results['confidence']:g} % interval and seeds", "head"),
        svg_text(second, 18, f"difference from {results['against']}", "head"),
        svg_text(width - 10, 18, "time", "head", "end"),
        *_grid(scores, height),
        *_grid(gains, height),
        svg_line(gains.x(0), gains.x(0), _TOP - 8, height - _BOTTOM, "zero"),
    ]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(svg_text(_NAMES - 14, y + 4, row["name"], "", "end"))
        if key not in row:
            parts.append(svg_text(_NAMES, y + 4, row["state"], "small"))
            continue
        parts += _estimate(scores, y, row[key], "mean", clear=False)
        for score in [run[key] for run in row["runs"] if run[key] is not None]:  # a fold may hold no box
            ring = '<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            parts.append(Markup(ring).format(scores.x(score), y))
        difference = _drawn_difference(row, key)
        if difference is not None:
            parts += _estimate(gains, y, difference, "value", clear=difference["verdict"] != "cannot tell")
            parts.append(svg_text(width - 10, y + 4, f"x {row['relative_latency']:.2f}", "", "end"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _drawn_difference(row: dict[str, Any], key: str) -> dict[str, Any] | None:
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
        parts.append(svg_line(axis.x(tick), axis.x(tick), _TOP - 8, height - _BOTTOM, "grid"))
        parts.append(svg_text(axis.x(tick), height - _BOTTOM + 16, f"{tick:g}", "small", "middle"))
    return parts


def _estimate(axis: Axis, y: float, score: dict[str, Any], middle: str, *, clear: bool) -> list[Markup]:
    parts = []
    if score["low"] is not None:
        parts.append(svg_line(axis.x(score["low"]), axis.x(score["high"]), y, y, "span clear" if clear else "span"))
    if score[middle] is not None:
        parts.append(Markup('<circle class="mean" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(axis.x(score[middle]), y))
    return parts


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
