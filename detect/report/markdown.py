"""report.md: the numbers of a judgement as tables that GitHub and other viewers of Markdown show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .wording import count, displaced, ends, fraction, gist, percent, provenance, resampled, signed, span

_AP_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR_KEYS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def to_markdown(summary: dict[str, Any], meta: dict[str, Any]) -> str:
    """The whole document; names are escaped, so that none can break a table."""
    classes: dict[str, Any] = summary["per_class"]
    threshold = f"{summary['score_threshold']:.3f}"
    parts = ["# Detection report", plain_text(gist(summary))]
    parts += [f"> **Check this:** {plain_text(warning)}" for warning in summary["warnings"]]
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
                    c["edge_bias_words"],
                ]
                for n, c in classes.items()
            ],
        ),
        *([plain_text(displaced(summary))] if summary["displacement"]["matched"] else []),
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


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Numbers are flush right; a first column of names and a last one of words are flush left."""
    body = [list(row) for row in rows]
    right = ["---:" if numbers and all(_is_number(row[i]) for row in body) else "---" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(header), right, *body])


def _is_number(cell: str) -> bool:
    return not cell or not any(letter.isalpha() for letter in cell)


def plain_text(value: str) -> str:
    """Characters that Markdown or HTML would read as markup are written so that they show."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        value = value.replace(sign, written)
    return " ".join(value.replace("_", "\\_").replace("[", "\\[").split())
