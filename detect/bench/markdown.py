"""The table of a bench as Markdown, with what its intervals cover said below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cells import mean, short, signed, span, table


def to_markdown(results: dict[str, Any]) -> str:
    """What ``gather`` found, as tables of scores, of differences and of classes."""
    systems = results["systems"]
    complete = [row for row in systems if row["state"] == "complete"]
    lines = [_title(results), "", *table(_SCORES, [_scores(row) for row in systems])]
    compared = [row for row in complete if "difference" in row]
    if compared:
        columns = [f"against {results['against']}", "AP50", "", "AP", "", "time an image"]
        lines += ["", *table(columns, [_difference(row) for row in compared])]
    categories = results["data"]["categories"]
    if complete:
        lines += ["", *table(["AP50 by class", *categories], [_classes(row, categories) for row in complete])]
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
        short(row["parameters"]),
        short(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean(row[key]), span(row[key]))),
        f"{row['training_minutes']:.1f}",
        f"{row['ms_per_image']:.1f}",
    ]


def _difference(row: dict[str, Any]) -> list[str]:
    cells = [row["name"]]
    for key in ("AP50", "AP"):
        each = row["difference"][key]
        cells += [signed(each), each["verdict"]]
    return [*cells, f"x {row['times_as_long']:.2f}"]


def _classes(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    return [row["name"], *(mean(row["per_class"][name]["AP50"]) for name in categories)]


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
