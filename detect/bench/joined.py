"""Several benches in one table: systems trained alike, but not in one go, each beside the reference they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import DataError
from .cells import mean, short, signed, span, table

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


def join(benches: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Tables of scores and of classes as Markdown, each system once, those of the first bench first.

    Times are ratios to the reference of the same bench, as minutes and milliseconds of two benches don't compare.
    A system that several benches hold, the reference among them, is told by the one with most seeds.

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
    rows: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for bench, row in _complete(benches):
        held = rows.get(row["name"])
        if held is None or held[0]["seeds"] < bench["seeds"]:
            rows[row["name"]] = bench, row
    categories = first["data"]["categories"]
    columns = [each.format(first["against"]) for each in _COLUMNS]
    lines = [*table(columns, [_scores(bench, row) for bench, row in rows.values()]), ""]
    classes = [[name, *_classes(row, categories)] for name, (_, row) in rows.items()]
    lines += table(["AP50 by class", *categories], classes)
    return "\n".join(lines) + "\n"


def _is_bench(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"against", "seeds", "folds", "data", "systems"} <= value.keys()
        and all(isinstance(row, dict) and {"name", "state"} <= row.keys() for row in value["systems"])
    )


def _other_terms(bench: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """What two benches don't have in common."""
    other = [key for key in ("against", "folds") if bench[key] != first[key]]
    other += [key for key in ("categories", "images", "boxes") if bench["data"][key] != first["data"][key]]
    mine, theirs = (each.get("terms", {}) for each in (bench, first))
    return other + [key for key in mine if key in theirs and mine[key] != theirs[key]]


def _complete(benches: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for _, bench in benches:
        for row in bench["systems"]:
            if row["state"] == "complete":
                yield bench, row


def _scores(bench: dict[str, Any], row: dict[str, Any]) -> list[str]:
    reference = next((each for each in bench["systems"] if each["name"] == bench["against"]), row)
    difference = row.get("difference")
    ratios = [
        f"x {row[key] / reference[key]:.2f}" if reference["state"] == "complete" else "-"
        for key in ("training_minutes", "ms_per_image")
    ]
    return [
        row["name"],
        str(bench["seeds"]),
        short(row["parameters"]),
        short(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean(row[key]), span(row[key]))),
        "-" if difference is None else signed(difference["AP50"]),
        *ratios,
    ]


def _classes(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    scores = [row["per_class"][name]["AP50"] for name in categories]
    return [mean(each) if each["low"] is None else f"{mean(each)} ({span(each)})" for each in scores]
