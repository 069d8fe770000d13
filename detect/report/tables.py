"""Numbers of an evaluation as text: number formats, sentences, report.md and report.tex."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..evaluation.coco_eval import NO_DETECTIONS_THRESHOLD
from ..evaluation.localisation import MIN_BOX_BIAS_PX, MIN_EDGE_BIAS_PX

NOTHING = "\N{EN DASH}"
STRETCHED = (
    "16-bit images are shown with 8 bits. Each is stretched over its own range of gray values, so brightness can't be "
    "compared between images. Detection used all bits."
)


def fraction(value: float | None) -> str:
    """0.743, or a dash."""
    return NOTHING if value is None else f"{value:.3f}"


def ends(summary: dict[str, Any], key: str, category: str | None = None) -> tuple[float, float] | None:
    """Ends of the interval of a metric, over all categories or of one; None if the summary has none."""
    intervals = summary.get("intervals")
    if intervals is None:
        return None
    metrics = intervals["overall"] if category is None else intervals["per_class"][category]
    interval = metrics.get(key)
    return None if interval is None or interval["low"] is None else (interval["low"], interval["high"])


def span(low_high: tuple[float, float] | None) -> str:
    """0.441–0.583, or an empty string for None."""
    return "" if low_high is None else f"{low_high[0]:.3f}\N{EN DASH}{low_high[1]:.3f}"


def resampled(intervals: dict[str, Any], images: int) -> str:
    """1,000 bootstrap resamples of 240 images, or of 12 groups of images."""
    unit = "images" if intervals["groups"] == images else "groups of images"
    return f"{count(intervals['resamples'])} bootstrap resamples of {count(intervals['groups'])} {unit}"


def signed(value: float | None) -> str:
    """+3.1 or −0.4 (with a typographic minus sign), or a dash."""
    if value is None:
        return NOTHING
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def offset(value: float | None) -> str:
    """3.1, or a dash."""
    return NOTHING if value is None else f"{value:.1f}"


def signed_text(value: float | None) -> str:
    """+0.254 or −0.003 (with a typographic minus sign), or a dash."""
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
    """The main results: found objects and false alarms at the score threshold, and the best and the worst class."""
    boxes, total = summary["boxes"], summary["at_threshold"]
    if not boxes:
        return "There are no labelled objects, so there is nothing to measure."
    if not summary["detections"]:
        return f"No detections for {plural(boxes, 'labelled object')} in {plural(summary['images'], 'image')}."
    text = f"At a score of {fraction(summary['score_threshold'])} or more, "
    text += f"{total['found']:,} of {boxes:,} objects are found ({percent(total['recall'])})"
    shown = total["found"] + total["false"]
    if shown:
        text += f" and {total['false']:,} of {shown:,} detections are false alarms ({percent(total['false'] / shown)})"
    text += "."
    ranked = sorted((c["AP50"], name) for name, c in summary["per_class"].items() if c["AP50"] is not None)
    if len(ranked) > 1:
        (low, worst), (high, best) = ranked[0], ranked[-1]
        text += f" Best class: {best} (AP50 {fraction(high)}); worst: {worst} ({fraction(low)})."
    return text


_EDGE_BIAS = {
    "left": ("starts {} px too far left", "starts {} px too far right"),
    "top": ("starts {} px too high at the top", "starts {} px too low at the top"),
    "right": ("ends {} px too far left", "ends {} px too far right"),
    "bottom": ("ends {} px too high at the bottom", "ends {} px too low at the bottom"),
}
_BOX_BIAS = {"x": ("{} px left of", "{} px right of"), "y": ("{} px above", "{} px below")}


def edge_bias_text(row: dict[str, Any]) -> str:
    """Edges of a class with a significant bias, largest first; ``row`` is a result of ``localisation``."""
    if not row["matched"]:
        return "no box was matched"
    biased = {edge: row["edge_bias_px"][edge] for edge, clear in row["edge_bias_clear"].items() if clear}
    if not biased:
        return f"no edge has a significant bias of {MIN_EDGE_BIAS_PX} px or more"
    edges = sorted(biased, key=lambda edge: -abs(biased[edge]))
    return ", ".join(_EDGE_BIAS[edge][biased[edge] > 0].format(f"{abs(biased[edge]):.1f}") for edge in edges)


def box_bias_text(bias: dict[str, Any]) -> str:
    """The common offset of all boxes if it is significant; ``bias`` is a result of ``box_bias``."""
    if not bias["matched"]:
        return "no box was matched"
    biased = {axis: bias["px"][axis] for axis, clear in bias["clear"].items() if clear}
    if not biased:
        return f"the boxes have no significant common offset of {MIN_BOX_BIAS_PX} px or more"
    parts = [_BOX_BIAS[axis][px > 0].format(f"{abs(px):.1f}") for axis, px in biased.items()]
    return f"overall, the boxes are {' and '.join(parts)} their labels"


def box_bias_sentence(summary: dict[str, Any]) -> str:
    """The common offset of all boxes as a sentence; if it is significant, with its interval and a possible cause."""
    bias = summary["box_bias"]
    text = box_bias_text(bias)
    text = text[0].upper() + text[1:]
    if not any(bias["clear"].values()):
        return f"{text}."
    intervals = []
    for axis, direction in (("x", "to the right"), ("y", "downwards")):
        if bias["clear"][axis]:
            low, high = bias["interval_px"][axis]
            intervals.append(f"{low:+.1f} to {high:+.1f} px {direction}")
    return (
        f"{text} (95\N{NO-BREAK SPACE}%: {', '.join(intervals)}). Training with mirrored images causes such an offset "
        "if the labels are offset from the objects and augment.label_offset_xy is not set to that offset."
    )


def warning_sentence(warning: dict[str, Any], detections: int) -> str:
    """A warning of ``plausibility_warnings`` as a sentence; ``detections`` is the total number of detections."""
    count = f"{warning['count']:,}"
    return {
        "no detections": "There are no detections: is it the right file, and was the score threshold too high?",
        "fractions": "All detected boxes are within 1 x 1 pixels: are they fractions of the image instead of pixels?",
        "outside": f"{count} of the {detections:,} detected boxes end far outside their image: are they two corners "
        "(x1, y1, x2, y2) instead of x, y, width, height, or from images of another size?",
        "not evaluated": f"{count} detections are not evaluated: COCO evaluates the best 100 per image and category.",
    }[str(warning["kind"])]


def operating_sentences(of_class: dict[str, Any], confidence: float) -> list[str]:
    """Sentences about the threshold of a class and its limits; ``of_class`` is an entry of ``operating_point``."""
    defects = of_class["tuning"]["missed"]["of"]
    problem = {
        "no defects": f"the tuning images have no defects, so {NO_DETECTIONS_THRESHOLD:g} is a default, not a choice",
        "never detected": f"{of_class['never_detected']:,} of the {defects:,} tuning defects are not detected at any "
        "score",
        "limits conflict": "no threshold meets both limits, so the limit on missed defects has priority",
    }
    sentences = [problem[of_class["problem"]]] if of_class["problem"] else []
    for counted, limit in of_class["limits"].items():
        tuning, holdout = of_class["tuning"][counted], of_class["holdout"][counted]
        sentences.append(limit_sentence(counted, limit, tuning, holdout, confidence))
    return sentences


def limit_sentence(
    counted: str, limit: dict[str, Any], tuning: dict[str, Any], holdout: dict[str, Any], confidence: float
) -> str:
    """Whether the tuning images guarantee a limit and the holdout images confirm it.

    Args:
        counted: "missed" or "false_alarms".
        limit: a result of ``guarantee``.
        tuning, holdout: the rates at the threshold.
        confidence: of the bounds, 0 to 1.
    """
    share = counted == "missed"
    aim = f"at most {_limit_value(limit['limit'], share)} {'missed' if share else 'false alarms per image'}"
    unit = "defects" if share else "images"
    without = f"without {'a miss' if share else 'a false alarm'}"
    if limit["guaranteed"]:
        start = f"{aim}: guaranteed with {100 * confidence:.4g} % confidence by {_counted(tuning, share, unit)}"
    elif limit["needed"] is None:
        start = f"{aim}: can't be guaranteed by any practical number of {unit}"
    elif tuning["of"] < limit["needed"]:
        start = f"{aim}: can't be guaranteed by {tuning['of']:,} {unit}; even {without}, {limit['needed']:,} are needed"
    else:
        start = f"{aim}: not guaranteed by {_counted(tuning, share, unit)}"
    other = _counted(holdout, share, unit)
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


def _counted(rate: dict[str, Any], share: bool, unit: str) -> str:
    if rate["rate"] is None:
        return f"no {unit}"
    interval = f"{_limit_value(rate['low'], share)} to {_limit_value(rate['high'], share)}"
    return f"{rate['count']:,} {'of' if share else 'on'} {rate['of']:,} {unit} ({interval})"


def _limit_value(value: float, share: bool) -> str:
    return f"{100 * value:.3g} %" if share else f"{value:.3g}"


def escape_notes(rates: dict[str, Any], unit: str) -> list[str]:
    """The rates of ``escape_rates`` that are undefined, and why; ``unit`` is "image" or "group"."""
    missing = []
    if not rates["defective"]:
        missing.append(f"no escape rate, because no {unit} has a defect")
    if not rates["clean"]:
        missing.append(f"no overkill rate, because every {unit} has a label")
    return missing


def provenance(summary: dict[str, Any], meta: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) rows with the sources of the report: ``meta`` in its order, then the versions."""
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
    """The whole document; names are escaped, so that they can't break a table."""
    classes: dict[str, Any] = summary["per_class"]
    threshold = f"{summary['score_threshold']:.3f}"
    parts = ["# Detection report", plain_text(headline(summary))]
    warnings = [warning_sentence(warning, summary["detections"]) for warning in summary["warnings"]]
    parts += [f"> **Check this:** {plain_text(sentence)}" for sentence in warnings]
    parts += [
        *(markdown_table(keys, _with_ends(summary, keys)) for keys in (_AP_KEYS, _AR_KEYS)),
        markdown_table(
            ("images", "boxes", "detections"), [[count(summary[k]) for k in ("images", "boxes", "detections")]]
        ),
        "Fractions as computed by pycocotools: AP is the mean over IoU 0.50 to 0.95; s, m and l are boxes with an "
        "area up to 32², of 32² to 96² and from 96² pixels; AR1 to AR100 count the best 1 to 100 detections per image "
        f"and class. A dash means that there are no such objects.{_about_intervals(summary)}",
        "## Classes",
        markdown_table(
            ("class", "boxes", *_AP_KEYS, "AR100"),
            [
                [plain_text(n), count(c["boxes"]), *(_figure(summary, k, n) for k in (*_AP_KEYS, "AR100"))]
                for n, c in classes.items()
            ],
        ),
        "## Box position errors",
        "Detections matched at IoU 0.5; mean offset of each edge, detected minus labelled, in pixels: positive left "
        "means too far right, positive bottom means too low.",
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
        f"## Found objects, missed objects and false alarms at a score of {threshold}",
        markdown_table(
            ("class", "found", "missed", "false alarms", "precision", "recall", "F1", "score of best F1", "best F1"),
            [_threshold_row(plain_text(n), c["at_threshold"], c["best_f1"]) for n, c in classes.items()]
            + [_threshold_row("**all**", summary["at_threshold"], summary["best_f1"])],
        ),
        "## Thresholds",
        markdown_table(
            ("score", "found", "missed", "false alarms", "precision", "recall", "F1"),
            [
                [f"{t['threshold']:.2f}", *(count(t[k]) for k in ("found", "missed", "false"))]
                + [percent(t[k]) for k in ("precision", "recall")]
                + [fraction(t["f1"])]
                for t in summary["thresholds"]
            ],
        ),
        "## Confusion matrix",
        f"Rows are labelled classes, columns detected classes, at a score of {threshold} and an IoU of 0.5; the column "
        "*background* counts missed objects, the row *background* counts false alarms.",
        _confusion(summary["confusion"]),
        "## Sources",
        markdown_table(
            ("", ""),
            [[plain_text(name), plain_text(value)] for name, value in provenance(summary, meta)],
            numbers=False,
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _with_ends(summary: dict[str, Any], keys: Sequence[str]) -> list[list[str]]:
    """A row of metrics and, if there are intervals, a row with these."""
    spans = [span(ends(summary, key)) for key in keys]
    return [[fraction(summary[key]) for key in keys], *([spans] if any(spans) else [])]


def _figure(summary: dict[str, Any], key: str, category: str) -> str:
    value = fraction(summary["per_class"][category][key])
    interval = span(ends(summary, key, category))
    return f"{value} ({interval})" if interval else value


def _about_intervals(summary: dict[str, Any]) -> str:
    intervals = summary.get("intervals")
    if intervals is None:
        return ""
    return (
        f" Intervals have a confidence of {percent(intervals['confidence'])}, "
        f"from {resampled(intervals, summary['images'])}."
    )


def _threshold_row(name: str, at: dict[str, Any], best: dict[str, Any]) -> list[str]:
    counts = [count(at[k]) for k in ("found", "missed", "false")]
    rates = [percent(at["precision"]), percent(at["recall"]), fraction(at["f1"])]
    return [name, *counts, *rates, fraction(best["threshold"]), fraction(best["f1"])]


def _confusion(confusion: dict[str, Any]) -> str:
    labels = [plain_text(name) for name in confusion["labels"]]
    rows = [[f"**{name}**", *map(str, row)] for name, row in zip(labels, confusion["matrix"])]
    rows[-1][-1] = ""  # background detected as background can't be counted
    return markdown_table(("labelled \\ detected", *labels), rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool | None = None) -> str:
    """A Markdown table with padded cells, so that it is readable as plain text too.

    Args:
        header: names of the columns.
        rows: cells, escaped by the caller.
        numbers: whether all columns except the first are right-aligned; None: the columns without letters are.
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
    """Text with the special characters of Markdown and HTML escaped."""
    for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        value = value.replace(char, escaped)
    return " ".join(value.replace("_", "\\_").replace("[", "\\[").split())


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_FIGURES = (("AP", "AP"), ("AP50", "AP$_{50}$"), ("AP75", "AP$_{75}$"), ("AR100", "AR$_{100}$"))


def to_latex(summary: dict[str, Any]) -> str:
    """A table of AP and AR per class and a table of box position errors; needs ``\\usepackage{booktabs}``."""
    classes = summary["per_class"]
    rows = [
        [_text(name), _count(c["boxes"]), *(_per_cent(c[key], ends(summary, key, name)) for key, _ in _FIGURES)]
        for name, c in classes.items()
    ]
    total = ["all", _count(summary["boxes"]), *(_per_cent(summary[key], ends(summary, key)) for key, _ in _FIGURES)]
    intervals = summary.get("intervals")
    brackets = "" if intervals is None else f"; in brackets {100 * intervals['confidence']:g}\\,\\% bootstrap intervals"
    edges = ("left", "top", "right", "bottom")
    offsets = [
        [_text(name), _count(c["matched"]), _fraction(c["mean_iou"]), *(_signed(c["edge_bias_px"][e]) for e in edges)]
        for name, c in classes.items()
    ]
    images = f"{_count(summary['images'])} images"
    return "\n\n".join(
        [
            "% needs \\usepackage{booktabs}",
            _table(
                ["class", "boxes", *(header for _, header in _FIGURES)],
                rows,
                total,
                f"Average precision and recall in per cent, as COCO defines them, on {images}{brackets}.",
                "tab:detection",
            ),
            _table(
                ["class", "matched", "mean IoU", *edges],
                offsets,
                None,
                "Detections matched at an IoU of 0.5: mean offset of each edge in pixels, detected minus labelled, "
                "$y$ downwards.",
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
    interval = "" if low_high is None else " ({:.1f}--{:.1f})".format(*(100 * end for end in low_high))
    return "--" if value is None else f"{100 * value:.1f}{interval}"


def _fraction(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "--" if value is None else f"${value:+.1f}$"
