"""Several benchmarks in one table: each system once, with its own reference; incomparable scores are errors."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Outcome
from detect.benchmark.results import join
from detect.errors import DataError

Detect = Callable[..., Outcome]
KEYS = ("AP", "AP50", "AP75")


def score(mean: float, sd: float | None = 0.01) -> dict[str, Any]:
    return {"mean": mean, "sd": sd, "low": mean - 0.05, "high": mean + 0.05}


def row(name: str, mean: float, *, minutes: float = 10, ms: float = 20) -> dict[str, Any]:
    scores = {key: score(mean) for key in KEYS}
    cost = {"parameters": 1_955_668, "multiply_adds": 805_000_000, "training_minutes": minutes, "ms_per_image": ms}
    return {"name": name, "state": "complete", "missing": [], **cost, **scores, "per_class": {"bright": scores}}


def make_benchmark(*rows: dict[str, Any], seeds: int = 3, **changes: Any) -> dict[str, Any]:
    data = {"categories": ["bright"], "images": 240, "boxes": 577}
    facts = {"against": "plain", "seeds": seeds, "folds": None, "data": data, "terms": {"train.epochs": 6}}
    for each in rows[1:]:
        difference = {"value": each["AP50"]["mean"] - rows[0]["AP50"]["mean"], "low": -0.01, "high": 0.03}
        each["difference"] = {"AP50": {**difference, "verdict": "cannot tell"}}
    return {**facts, "systems": list(rows), **changes}


def cells(table: str, name: str) -> list[str]:
    """Cells of the first row with this name."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_system_uses_the_benchmark_with_most_seeds_and_times_relative_to_its_own_reference() -> None:
    first = make_benchmark(row("plain", 0.5), row("gru", 0.52, minutes=15, ms=30))
    second = make_benchmark(row("plain", 0.6, minutes=40, ms=80), row("large", 0.7, minutes=120, ms=160), seeds=1)
    table = join([("second", second), ("first", first)])
    assert [line.split("|")[1].strip() for line in table.splitlines() if "1.96 M" in line] == ["plain", "large", "gru"]
    assert cells(table, "plain")[1:5] == ["3", "1.96 M", "805 M", "0.500 ± 0.010"]
    assert cells(table, "gru")[-3:] == ["+0.020 (-0.010 to +0.030)", "x 1.50", "x 1.50"]
    assert cells(table, "large")[-3:] == ["+0.100 (-0.010 to +0.030)", "x 3.00", "x 2.00"]
    assert cells(table, "plain")[-3:] == ["-", "x 1.00", "x 1.00"]
    assert "| large         | 0.700 ± 0.010 (0.650 to 0.750) |" in table


def test_benchmark_without_reference_uses_times_of_another_benchmark_but_no_difference() -> None:
    unfinished = {"name": "plain", "state": "unfinished", "missing": ["plain/seed2 is not started"]}
    alone = {**make_benchmark(row("gru", 0.5)), "systems": [unfinished, row("gru", 0.5)]}
    other = make_benchmark(row("plain", 0.4), row("gru", 0.45, minutes=20, ms=30), seeds=1)
    table = join([("a", alone), ("b", other)])
    assert cells(table, "gru")[1] == "3"
    assert cells(table, "gru")[-3:] == ["-", "x 2.00", "x 1.50"]


def test_unfinished_systems_and_ratios_to_them_are_omitted() -> None:
    unfinished = {"name": "plain", "state": "unfinished", "missing": ["plain/seed2 is not started"]}
    table = join([("a", {**make_benchmark(row("gru", 0.5)), "systems": [unfinished, row("gru", 0.5)]})])
    assert "| plain " not in table
    assert cells(table, "gru")[-3:] == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"against": "gru"}, "against"),
        ({"folds": 5}, "folds"),
        ({"group_pattern": r"(coil\d+)_"}, "group_pattern"),
        ({"data": {"categories": ["bright"], "images": 241, "boxes": 577}}, "images"),
        ({"terms": {"train.epochs": 12, "train.lr": 0.1}}, r"train\.epochs"),
    ],
)
def test_incomparable_scores_are_errors(changes: dict[str, Any], key: str) -> None:
    first, other = make_benchmark(row("plain", 0.5)), make_benchmark(row("plain", 0.5), **changes)
    with pytest.raises(DataError, match=rf"b\.json: it differs from a\.json in {key}, so their scores"):
        join([("a.json", first), ("b.json", other)])


def test_command_prints_and_writes_the_table_and_names_unsuitable_files(detect: Detect, tmp_path: Path) -> None:
    good, bad, missing = (tmp_path / name for name in ("good.json", "bad.json", "missing.json"))
    good.write_text(json.dumps(make_benchmark(row("plain", 0.5), row("gru", 0.52))))
    incomplete = copy.deepcopy(make_benchmark(row("plain", 0.5)))
    del incomplete["systems"][0]["state"]
    bad.write_text(json.dumps(incomplete))
    outcome = detect("bench", "join", good, "--out", tmp_path / "table.md")
    assert outcome.code == 0
    assert outcome.out.startswith((tmp_path / "table.md").read_text())
    for arguments, sentence in (
        ([good, bad], "bad.json: the file contains no benchmark results; give the bench.json of detect bench"),
        ([missing], "missing.json: can't read the file (No such file or directory)"),
    ):
        outcome = detect("bench", "join", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert sentence in outcome.err
