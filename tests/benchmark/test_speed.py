"""Latency and accuracy of detector variants: one row per variant, and the Pareto plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from detect.benchmark.speed import pareto_front, pareto_plot
from detect.cli import main
from labelled_data import sample_steel


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_steel(tmp_path_factory.mktemp("steel"), images=6, seed=9)


def test_each_variant_has_one_row(steel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.svg")]
    call = ["bench", "infer", "released", "--runtime", "eager,onnx", "--threads", "1", "--batch", "1,2", "--calls", "3"]
    assert main([*call, "--data", str(steel), *files]) == 0
    rows = json.loads((tmp_path / "s.json").read_text())
    assert [(row["runtime"], row["batch"]) for row in rows] == [("eager", 1), ("eager", 2), ("onnx", 1), ("onnx", 2)]
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(1000 * row["batch"] / row["p50_ms"], rel=0.01)
        assert row["calls"] == 10  # whole blocks
        assert row["AP"] == pytest.approx(rows[0]["AP"], abs=1e-3)
    assert "| released |" in capsys.readouterr().out
    ElementTree.fromstring((tmp_path / "s.svg").read_text())


def test_without_labels_there_is_no_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["bench", "infer", "released", "--threads", "1", "--calls", "1", "--json", str(tmp_path / "s.json")]) == 0
    )
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert row["AP50"] is None
    assert "sample images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runtime", "magic"], "choose among eager"),
        (["--precision", "int8"], "add onnx or openvino"),
        (["--precision", "int8", "--runtime", "onnx"], "--calibration"),
        (["--threads", "0"], "whole numbers"),
        (["--batch", "two"], "whole numbers"),
        (["--calls", "0"], "give 1 or more"),
        (["--plot", "a.svg"], "--data"),
    ],
)
def test_wrong_options_are_errors(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "infer", "released", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_missing_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "infer", "nowhere"]) == 2
    assert "no such run" in capsys.readouterr().err


def row(ap50: float, per_s: float) -> dict[str, Any]:
    values = {"system": "a<b", "runtime": "onnx", "precision": "fp32", "threads": 1, "batch": 1}
    return {**values, "AP50": ap50, "images_per_s": per_s}


def test_pareto_front_omits_rows_that_are_slower_and_not_better() -> None:
    rows = [row(0.7, 10), row(0.6, 100), row(0.65, 50), row(0.6, 60), row(0.64, 40), row(0.65, 50)]
    assert pareto_front(rows) == [1, 2, 0]
    ElementTree.fromstring(pareto_plot(rows))  # names are escaped


def test_pareto_plot_of_one_row() -> None:
    ElementTree.fromstring(pareto_plot([row(0.5, 10)]))
