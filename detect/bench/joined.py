"""Several benches in one table: systems trained alike, but not in one go, each beside the reference they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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


class _Told(NamedTuple):
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
    told: dict[str, list[_Told]] = {}
    for each in _complete(benches):
        told.setdefault(each.row["name"], []).append(each)
    rows = [sorted(each, key=lambda one: -one.bench["seeds"]) for each in told.values()]
    categories = first["data"]["categories"]
    columns = [each.format(first["against"]) for each in _COLUMNS]
    lines = [*table(columns, [_scores(each) for each in rows]), ""]
    classes = [[most.row["name"], *_classes(most.row, categories)] for most, *_ in rows]
    lines += table(["AP50 by class", *categories], classes)
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


def _complete(benches: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[_Told]:
    for _, bench in benches:
        finished = [row for row in bench["systems"] if row["state"] == "complete"]
        reference = next((row for row in finished if row["name"] == bench["against"]), None)
        yield from (_Told(bench, row, reference) for row in finished)


def _scores(told: Sequence[_Told]) -> list[str]:
    bench, row, _ = told[0]
    timed = next((each for each in told if each.reference is not None), None)
    return [
        row["name"],
        str(bench["seeds"]),
        short(row["parameters"]),
        short(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean(row[key]), span(row[key]))),
        signed(row["difference"]["AP50"]) if "difference" in row else "-",
        *("-" if timed is None else timed.ratio(key) for key in ("training_minutes", "ms_per_image")),
    ]


def _classes(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    scores = [row["per_class"][name]["AP50"] for name in categories]
    return [mean(each) if each["low"] is None else f"{mean(each)} ({span(each)})" for each in scores]
