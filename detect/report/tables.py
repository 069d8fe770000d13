"""The numbers of an evaluation as text: report.md, report.tex, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..evaluation.coco_eval import NO_DETECTIONS_THRESHOLD
from ..evaluation.localisation import MIN_BOX_BIAS_PX, MIN_EDGE_BIAS_PX

NOTHING = "\N{EN DASH}"
STRETCHED = (
    "16-bit pictures are stretched to 8 bits to be seen, each over its own gray values, so their brightness can't "
    "be compared. Detection used all bits."
)


def fraction(value: float | None) -> str:
    """0.743, or a dash."""
    return NOTHING if value is None else f"{value:.3f}"


def ends(summary: dict[str, Any], key: str, category: str | None = None) -> tuple[float, float] | None:
    """The interval of a figure, over all or of a category; None where the judgement holds none."""
    intervals = summary.get("intervals")
    if intervals is None:
        return None
    of = intervals["overall"] if category is None else intervals["per_class"][category]
    found = of.get(key)
    return None if found is None or found["low"] is None else (found["low"], found["high"])


def span(low_high: tuple[float, float] | None) -> str:
    """0.441 to 0.583 with a dash between, or nothing."""
    return "" if low_high is None else f"{low_high[0]:.3f}\N{EN DASH}{low_high[1]:.3f}"


def resampled(intervals: dict[str, Any], images: int) -> str:
    """1,000 bootstrap resamples of 240 images, or of 12 groups of images."""
    drawn = "images" if intervals["groups"] == images else "groups of images"
    return f"{count(intervals['resamples'])} bootstrap resamples of {count(intervals['groups'])} {drawn}"


def signed(value: float | None) -> str:
    """+3.1 or −0.4 (with a true minus), or a dash."""
    if value is None:
        return NOTHING
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def offset(value: float | None) -> str:
    """3.1, or a dash."""
    return NOTHING if value is None else f"{value:.1f}"


def signed_gain(value: float | None) -> str:
    """+0.254 or −0.003, or a dash."""
    return NOTHING if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """1,440, or a dash."""
    return NOTHING if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """81 %, or a dash."""
    return NOTHING if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def plural(number: int, one: str, many: str | None = None) -> str:
    """1 image, 240 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def headline(summary: dict[str, Any]) -> str:
    """What an engineer would ask first: how many are found, how many alarms are false, which class is worst."""
    boxes, total = summary["boxes"], summary["at_threshold"]
    if not boxes:
        return "There is no labelled object to find, so there is nothing to measure."
    if not summary["detections"]:
        return f"Nothing was found of {plural(boxes, 'labelled object')} on {plural(summary['images'], 'image')}."
    said = f"At a score of {fraction(summary['score_threshold'])} or more, "
    said += f"{total['found']:,} of {boxes:,} objects are found ({percent(total['recall'])})"
    if total["found"] + total["false"]:
        shown = total["found"] + total["false"]
        said += f" and {total['false']:,} of {shown:,} detections are false alarms ({percent(total['false'] / shown)})"
    said += "."
    ranked = sorted((c["AP50"], name) for name, c in summary["per_class"].items() if c["AP50"] is not None)
    if len(ranked) > 1:
        (low, worst), (high, best) = ranked[0], ranked[-1]
        said += f" Strongest class: {best} (AP50 {fraction(high)}); weakest: {worst} ({fraction(low)})."
    return said


_EDGE_BIAS = {
    "left": ("starts {} px too far left", "starts {} px too far right"),
    "top": ("starts {} px too high at the top", "starts {} px too low at the top"),
    "right": ("ends {} px too far left", "ends {} px too far right"),
    "bottom": ("ends {} px too high at the bottom", "ends {} px too low at the bottom"),
}
_BOX_BIAS = {"x": ("{} px left of", "{} px right of"), "y": ("{} px above", "{} px below")}


def edge_bias_text(row: dict[str, Any]) -> str:
    """The edges of a class that are clearly off, largest first; ``row`` is what ``localisation`` gives."""
    if not row["matched"]:
        return "no box was matched"
    clear = {edge: row["edge_bias_px"][edge] for edge, sure in row["edge_bias_clear"].items() if sure}
    if not clear:
        return f"no edge is clearly off by {MIN_EDGE_BIAS_PX} px or more"
    falling = sorted(clear, key=lambda edge: -abs(clear[edge]))
    return ", ".join(_EDGE_BIAS[edge][clear[edge] > 0].format(f"{abs(clear[edge]):.1f}") for edge in falling)


def box_bias_text(bias: dict[str, Any]) -> str:
    """The shift that all boxes share, if it is clear; ``bias`` is what ``box_bias`` gives."""
    if not bias["matched"]:
        return "no box was matched"
    clear = {axis: bias["px"][axis] for axis, sure in bias["clear"].items() if sure}
    if not clear:
        return f"all boxes together are not clearly displaced by {MIN_BOX_BIAS_PX} px or more"
    parts = [_BOX_BIAS[axis][px > 0].format(f"{abs(px):.1f}") for axis, px in clear.items()]
    return f"all boxes together lie {' and '.join(parts)} their labels"


def box_bias_sentence(summary: dict[str, Any]) -> str:
    """The shift that all boxes share with its interval, and where it is clear, what may cause it."""
    bias = summary["box_bias"]
    text = box_bias_text(bias)
    text = text[0].upper() + text[1:]
    if not any(bias["clear"].values()):
        return f"{text}."
    ends = []
    for axis, way in (("x", "to the right"), ("y", "downwards")):
        if bias["clear"][axis]:
            low, high = bias["interval_px"][axis]
            ends.append(f"{low:+.1f} to {high:+.1f} {way}")
    return (
        f"{text} (95\N{NO-BREAK SPACE}%: {', '.join(ends)}). A detector trained on mirrored images shows such a shift "
        "where the labels are offset from the objects, unless augment.label_offset_xy gives that offset."
    )


def warning_sentence(warning: dict[str, Any], detections: int) -> str:
    """What ``plausibility_warnings`` gives, as a sentence with the question to ask; of ``detections`` in all."""
    count = f"{warning['count']:,}"
    return {
        "no detections": "There is no detection: is the file the right one, and was the score threshold very high?",
        "fractions": "All detected boxes lie within 1 x 1 pixels: are they fractions of the image instead of pixels?",
        "outside": f"{count} of the {detections:,} detected boxes end far outside their image: are they two corners "
        "(x1, y1, x2, y2) instead of x, y, width, height, or of images of another size?",
        "not evaluated": f"{count} detections are not evaluated: COCO counts the best 100 per image and category.",
    }[str(warning["kind"])]


def operating_sentences(of_class: dict[str, Any], confidence: float) -> list[str]:
    """What there is to say on the threshold of a class and on each of its limits; as ``operating_point`` gives them."""
    defects = of_class["tuning"]["missed"]["of"]
    problem = {
        "no defects": f"the tuning images hold no defect, so {NO_DETECTIONS_THRESHOLD:g} is a default, not a choice",
        "never detected": f"{of_class['never_detected']:,} of the {defects:,} tuning defects are detected at no score",
        "limits conflict": "no threshold keeps both limits, so the limit on missed defects has priority",
    }
    said = [problem[of_class["problem"]]] if of_class["problem"] else []
    for counted, limit in of_class["limits"].items():
        tuning, holdout = of_class["tuning"][counted], of_class["holdout"][counted]
        said.append(limit_sentence(counted, limit, tuning, holdout, confidence))
    return said


def limit_sentence(
    counted: str, limit: dict[str, Any], tuning: dict[str, Any], holdout: dict[str, Any], confidence: float
) -> str:
    """What a limit is worth: whether the tuning images guarantee it and the holdout images confirm it.

    Args:
        counted: "missed" or "false_alarms".
        limit: as ``guarantee`` gives it.
        tuning, holdout: the rates at the threshold.
        confidence: of the bounds.
    """
    share = counted == "missed"
    aim = f"at most {_limit_value(limit['limit'], share)} {'missed' if share else 'false alarms per image'}"
    things = "defects" if share else "images"
    without = f"without {'a miss' if share else 'a false alarm'}"
    if limit["guaranteed"]:
        start = f"{aim}: guaranteed with {100 * confidence:.4g} % confidence by {_counted(tuning, share, things)}"
    elif tuning["of"] < limit["needed"]:
        start = f"{aim}: can't be guaranteed by {tuning['of']:,} {things}; even {without} it takes {limit['needed']:,}"
    else:
        start = f"{aim}: not guaranteed by {_counted(tuning, share, things)}"
    other = _counted(holdout, share, things)
    if not holdout["of"]:
        return f"{start}; there are no holdout images to confirm it"
    if limit["verdict"] == "confirmed":
        return f"{start}; confirmed by {other} on holdout images"
    if limit["verdict"] == "refuted":
        return f"{start}; THE CONFIRMATION FAILS with {other} on holdout images"
    if limit["needed_at_this_rate"] is None:
        return f"{start}; not confirmed: {other} on holdout images"
    more = f"too few to confirm it, about {limit['needed_at_this_rate']:,} are needed at that rate"
    return f"{start}; {other} on holdout images, {more}"


def _counted(rate: dict[str, Any], share: bool, things: str) -> str:
    if rate["rate"] is None:
        return f"no {things}"
    interval = f"{_limit_value(rate['low'], share)} to {_limit_value(rate['high'], share)}"
    return f"{rate['count']:,} {'of' if share else 'on'} {rate['of']:,} {things} ({interval})"


def _limit_value(value: float, share: bool) -> str:
    return f"{100 * value:.3g} %" if share else f"{value:.3g}"


def escape_notes(rates: dict[str, Any], unit: str) -> list[str]:
    """Which of the rates of ``escape_rates`` can't be given; ``unit`` is "image" or "group"."""
    missing = []
    if not rates["defective"]:
        missing.append(f"no escape rate, as there is no {unit} with a defect")
    if not rates["clean"]:
        missing.append(f"no overkill rate, as there is no {unit} without a label")
    return missing


def provenance(summary: dict[str, Any], meta: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of (what, value) on where the report comes from: ``meta`` in its order, then the versions."""
    rows = [row for key, value in meta.items() if key != "versions" for row in _flat(key, value)]
    given = meta.get("versions")
    versions = {**(given if isinstance(given, dict) else {}), **summary["versions"]}
    rows.append(("versions", ", ".join(f"{name} {number}" for name, number in versions.items())))
    return [*rows, ("report schema", str(summary["schema"]))]


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for inner, v in value.items() for row in _flat(f"{key} {inner}", v)]
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return [] if value is None else [(str(key).replace("_", " "), str(value))]


_AP_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR_KEYS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def to_markdown(summary: dict[str, Any], meta: dict[str, Any]) -> str:
    """The whole document; names are escaped, so that none can break a table."""
    classes: dict[str, Any] = summary["per_class"]
    threshold = f"{summary['score_threshold']:.3f}"
    parts = ["# Detection report", plain_text(headline(summary))]
    said = [warning_sentence(warning, summary["detections"]) for warning in summary["warnings"]]
    parts += [f"> **Check this:** {plain_text(sentence)}" for sentence in said]
    parts += [
        *(markdown_table(keys, _with_ends(summary, keys)) for keys in (_AP_KEYS, _AR_KEYS)),
        markdown_table(
            ("images", "boxes", "detections"), [[count(summary[k]) for k in ("images", "boxes", "detections")]]
        ),
        "Fractions, as pycocotools computes them: AP is the mean over IoU 0.50 to 0.95; s, m and l are boxes with an "
        "area up to 32², of 32² to 96² and from 96² pixels; AR1 to AR100 count the best 1 to 100 detections an image "
        f"and class. A dash: nothing to find there.{_about_intervals(summary)}",
        "## Classes",
        markdown_table(
            ("class", "boxes", *_AP_KEYS, "AR100"),
            [
                [plain_text(n), count(c["boxes"]), *(_figure(summary, k, n) for k in (*_AP_KEYS, "AR100"))]
                for n, c in classes.items()
            ],
        ),
        "## Where the boxes lie",
        "Detections matched at IoU 0.5; mean offset of each edge, detected minus true, in pixels: a positive left "
        "starts too far right, a positive bottom ends too low.",
        markdown_table(
            ("class", "matched", "mean IoU", "left", "top", "right", "bottom", "in words"),
            [
                [
                    *(plain_text(n), count(c["matched"]), fraction(c["mean_iou"])),
                    *(signed(offset) for offset in c["edge_bias_px"].values()),
                    edge_bias_text(c),
                ]
                for n, c in classes.items()
            ],
        ),
        *([plain_text(box_bias_sentence(summary))] if summary["box_bias"]["matched"] else []),
        f"## Found, missed and false at a score of {threshold}",
        markdown_table(
            ("class", "found", "missed", "false", "precision", "recall", "F1", "score of best F1", "best F1"),
            [_threshold_row(plain_text(n), c["at_threshold"], c["best_f1"]) for n, c in classes.items()]
            + [_threshold_row("**all**", summary["at_threshold"], summary["best_f1"])],
        ),
        "## Thresholds",
        markdown_table(
            ("score", "found", "missed", "false", "precision", "recall", "F1"),
            [
                [f"{t['threshold']:.2f}", *(count(t[k]) for k in ("found", "missed", "false"))]
                + [percent(t[k]) for k in ("precision", "recall")]
                + [fraction(t["f1"])]
                for t in summary["thresholds"]
            ],
        ),
        "## Confusion",
        f"Rows are true, columns detected classes, at a score of {threshold} and an IoU of 0.5; the column "
        "*background* holds what was missed, the row *background* what is false.",
        _confusion(summary["confusion"]),
        "## Where this comes from",
        markdown_table(
            ("", ""),
            [[plain_text(what), plain_text(value)] for what, value in provenance(summary, meta)],
            numbers=False,
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _with_ends(summary: dict[str, Any], keys: Sequence[str]) -> list[list[str]]:
    """A row of figures, and below it one of their intervals, if there are any."""
    spans = [span(ends(summary, key)) for key in keys]
    return [[fraction(summary[key]) for key in keys], *([spans] if any(spans) else [])]


def _figure(summary: dict[str, Any], key: str, category: str) -> str:
    told = fraction(summary["per_class"][category][key])
    limits = span(ends(summary, key, category))
    return f"{told} ({limits})" if limits else told


def _about_intervals(summary: dict[str, Any]) -> str:
    told = summary.get("intervals")
    if told is None:
        return ""
    return f" Intervals hold {percent(told['confidence'])}, by {resampled(told, summary['images'])}."


def _threshold_row(name: str, at: dict[str, Any], best: dict[str, Any]) -> list[str]:
    counts = [count(at[k]) for k in ("found", "missed", "false")]
    rates = [percent(at["precision"]), percent(at["recall"]), fraction(at["f1"])]
    return [name, *counts, *rates, fraction(best["threshold"]), fraction(best["f1"])]


def _confusion(confusion: dict[str, Any]) -> str:
    labels = [plain_text(name) for name in confusion["labels"]]
    rows = [[f"**{name}**", *map(str, row)] for name, row in zip(labels, confusion["matrix"])]
    rows[-1][-1] = ""  # nothing there, nothing found: not a number that can be counted
    return markdown_table(("true \\ detected", *labels), rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool | None = None) -> str:
    """A table as Markdown, its cells padded so that it reads as plain text too.

    Args:
        header: names of the columns.
        rows: cells, escaped by the caller.
        numbers: whether all columns but the first are flush right; None: those without letters are.
    """
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*table)]
    right = [
        all(map(_is_number, (row[i] for row in table[1:]))) if numbers is None else numbers and i > 0
        for i in range(len(header))
    ]
    rule = ["-" * (width - 1) + ":" if each else "-" * width for width, each in zip(widths, right)]
    padded = [
        [cell.rjust(width) if each else cell.ljust(width) for cell, width, each in zip(row, widths, right)]
        for row in table
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [padded[0], rule, *padded[1:]])


def _is_number(cell: str) -> bool:
    return not cell or not any(letter.isalpha() for letter in cell)


def plain_text(value: str) -> str:
    """Characters that Markdown or HTML would read as markup are written so that they show."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        value = value.replace(sign, written)
    return " ".join(value.replace("_", "\\_").replace("[", "\\[").split())


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_FIGURES = (("AP", "AP"), ("AP50", "AP$_{50}$"), ("AP75", "AP$_{75}$"), ("AR100", "AR$_{100}$"))


def to_latex(summary: dict[str, Any]) -> str:
    """A table of the classes and one of the errors of their boxes; needs ``\\usepackage{booktabs}``."""
    classes = summary["per_class"]
    rows = [
        [_text(name), _count(c["boxes"]), *(_per_cent(c[key], ends(summary, key, name)) for key, _ in _FIGURES)]
        for name, c in classes.items()
    ]
    total = ["all", _count(summary["boxes"]), *(_per_cent(summary[key], ends(summary, key)) for key, _ in _FIGURES)]
    told = summary.get("intervals")
    in_brackets = "" if told is None else f"; in brackets {100 * told['confidence']:g}\\,\\% bootstrap intervals"
    edges = ("left", "top", "right", "bottom")
    lie = [
        [_text(name), _count(c["matched"]), _fraction(c["mean_iou"]), *(_signed(c["edge_bias_px"][e]) for e in edges)]
        for name, c in classes.items()
    ]
    images = f"{_count(summary['images'])} images"
    return "\n\n".join(
        [
            "% needs \\usepackage{booktabs}",
            _table(
                ["class", "boxes", *(told for _, told in _FIGURES)],
                rows,
                total,
                f"Average precision and recall in per cent, as COCO defines them, on {images}{in_brackets}.",
                "tab:detection",
            ),
            _table(
                ["class", "matched", "mean IoU", *edges],
                lie,
                None,
                "Detections matched at an IoU of 0.5: mean offset of each edge in pixels, detected minus true, $y$ "
                "downwards.",
                "tab:localisation",
            ),
            "",
        ]
    )


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None, caption: str, label: str
) -> str:
    body = [" & ".join(row) + r" \\" for row in rows]
    if total is not None:
        body += [r"\midrule", " & ".join(total) + r" \\"]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{caption}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            *(
                f"    {line}"
                for line in [r"\toprule", " & ".join(columns) + r" \\", r"\midrule", *body, r"\bottomrule"]
            ),
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _text(name: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in " ".join(name.split()))


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\\,")


def _per_cent(value: float | None, low_high: tuple[float, float] | None) -> str:
    limits = "" if low_high is None else " ({:.1f}--{:.1f})".format(*(100 * end for end in low_high))
    return "--" if value is None else f"{100 * value:.1f}{limits}"


def _fraction(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "--" if value is None else f"${value:+.1f}$"
