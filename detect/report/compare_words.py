"""What a comparison says: its sentences, the rows of its tables, and compare.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..evaluation.comparison import FIGURES
from .wording import count, fraction, plural

_ALL = "all classes"
_MINUS = "\N{MINUS SIGN}"


def class_rows(comparison: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for all classes and one for each: {"name", "boxes", "first", "other", "difference"}.

    The last three are {figure: {"value", "low", "high", ...}}; ``other`` is one of the systems but the first.
    """
    first, difference = comparison["systems"][0], other["difference"]
    rows = [{"name": _ALL, "boxes": comparison["boxes"], "first": first, "other": other, "difference": difference}]
    for name, boxes in comparison["boxes_by_class"].items():
        of_class = {"first": first, "other": other, "difference": difference}
        row = {key: each["per_class"][name] for key, each in of_class.items()}
        rows.append({"name": name, "boxes": boxes, **row})
    return rows


def subject(comparison: dict[str, Any]) -> list[str]:
    """What it is about, in parts: images, groups, folds, objects."""
    parts = [plural(comparison["images"], "image")]
    if comparison["groups"] is not None:
        parts[0] += f" in {plural(comparison['groups'], 'group')}"
    if comparison["folds"] > 1:
        parts.append(f"{comparison['folds']} folds")
    return [*parts, plural(comparison["boxes"], "labelled object")]


def sentences(comparison: dict[str, Any]) -> list[str]:
    """What is found about each system but the first: verdict, size of the difference, classes."""
    return [_sentence(comparison, row) for row in comparison["systems"][1:]]


def explanation(comparison: dict[str, Any]) -> str:
    """How to read the figures, and how far to trust them."""
    groups, share = comparison["groups"], percent(comparison)
    covers = {row["difference"]["covers"] for row in comparison["systems"][1:]}
    drawn = "images" if groups is None else f"the {groups} groups of images"
    said = (
        "Scores are pycocotools' fractions, means over runs and folds. "
        f"Intervals hold {share}, by {comparison['resamples']:,} bootstrap resamples of {drawn}. Differences are "
        "paired: both systems on the same resampled images, the other minus the first. "
    )
    if covers == {"images"}:
        said += "They cover the choice of images; of one training each, nothing is known of other seeds. "
    elif covers == {"images and seeds"}:
        said += "They cover the choice of images and of seeds. "
    else:
        said += "They cover the choice of images, and of seeds where both systems have several. "
    differences = [row["difference"][key] for row in _all_rows(comparison) for key in FIGURES]
    if any(each["images_to_tell"] is not None for each in differences):
        said += "So many images as are named would tell four times in five, if the difference is as large as it looks. "
    return f"{said}{comparison['by_chance']}".rstrip()


def brief(difference: dict[str, Any]) -> str:
    """The verdict for a cell of a table; ``explanation`` tells what the number of images rests on."""
    needed = difference["images_to_tell"]
    return difference["words"] if needed is None else f"cannot tell; about {needed:,} images would"


def to_markdown(comparison: dict[str, Any]) -> str:
    """The whole document; names are escaped, so that none can break a table."""
    share, rows = percent(comparison), comparison["systems"]
    lines = ["# Comparison", "", f"On {', '.join(subject(comparison))}.", ""]
    for warning in comparison["warnings"]:
        lines += [f"> **Check this:** {_text(warning)}", ""]
    lines += [f"- {_text(sentence)}" for sentence in sentences(comparison)]
    header = ["system", "runs", *(cell for key in FIGURES for cell in (key, share))]
    body = [
        [
            _text(row["name"]),
            str(row["runs"]),
            *(c for key in FIGURES for c in (fraction(row[key]["value"]), span(row[key]))),
        ]
        for row in rows
    ]
    lines += ["", *_table(header, body)]
    for other in rows[1:]:
        for key in FIGURES:
            header = ["class", "boxes", comparison["against"], other["name"], "difference", share, "verdict"]
            body = [
                [
                    *(_text(row["name"]), count(row["boxes"])),
                    *(fraction(row[each][key]["value"]) for each in ("first", "other")),
                    *(signed(row["difference"][key]["value"]), span(row["difference"][key], signs=True)),
                    brief(row["difference"][key]),
                ]
                for row in class_rows(comparison, other)
            ]
            lines += ["", f"## {_text(other['name'])} against {_text(comparison['against'])}: {key}", ""]
            lines += _table([_text(cell) for cell in header], body)
    return "\n".join([*lines, "", explanation(comparison), ""])


def percent(comparison: dict[str, Any]) -> str:
    """The confidence: 95 %."""
    return f"{100 * comparison['confidence']:g}\N{NO-BREAK SPACE}%"


def signed(value: float | None) -> str:
    """+0.031 or −0.004 (with a true minus), or a dash."""
    return fraction(None) if value is None else f"{value:+.3f}".replace("-", _MINUS)


def span(interval: dict[str, Any], *, signs: bool = False) -> str:
    """The ends of an interval, 0.480 to 0.541, or a dash."""
    if interval["low"] is None:
        return fraction(None)
    return " to ".join((signed if signs else fraction)(interval[end]) for end in ("low", "high"))


def _all_rows(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for other in comparison["systems"][1:] for row in class_rows(comparison, other)]


def _sentence(comparison: dict[str, Any], other: dict[str, Any]) -> str:
    names, share = (other["name"], comparison["against"]), percent(comparison)
    headline = other["difference"]["AP50"]
    verdict, words = headline["verdict"], headline["words"]
    if headline["value"] is None:
        return f"{names[0]} against {names[1]}: {words}."
    size = f"AP50 {signed(headline['value'])}"
    if headline["low"] is not None:
        size += f" ({span(headline, signs=True)}, {share})"
    if verdict == "cannot tell":
        why = words.removeprefix("cannot tell: ")
        said = f"It cannot be told whether {names[0]} is better or worse than {names[1]}: {size}; {why}."
    else:
        said = f"{names[0]} is {verdict} than {names[1]}: {size}."
    strict = other["difference"]["AP"]
    if strict["value"] is not None and strict["verdict"] != verdict:
        said += f" By AP: {strict['verdict']}, {signed(strict['value'])}."
    for kind in ("better", "worse"):
        classes = [row for row in class_rows(comparison, other)[1:] if row["difference"]["AP50"]["verdict"] == kind]
        if classes:
            listed = ", ".join(f"{row['name']} ({signed(row['difference']['AP50']['value'])})" for row in classes)
            said += f" {kind.capitalize()} on {listed}."
    return said


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    right = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in [list(header), right, *map(list, rows)]]


def _text(value: str) -> str:
    """Characters that Markdown or HTML would read as markup are written so that they show."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*")):
        value = value.replace(sign, written)
    return " ".join(value.replace("_", "\\_").replace("[", "\\[").split())
