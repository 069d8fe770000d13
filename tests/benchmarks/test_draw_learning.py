"""The plot of scores over minutes of training, from our logs and from those of Ultralytics."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

import draw_learning


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Log of four epochs of one minute, every second one evaluated."""
    epochs = [
        {"epoch": n, "seconds": 60.0, "val": {"AP50": n / 10, "AP": n / 20} if n % 2 == 0 else None}
        for n in range(1, 5)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")
    return path


@pytest.fixture
def ultralytics(tmp_path: Path) -> Path:
    """Log of two epochs in the format of Ultralytics."""
    path = tmp_path / "results.csv"
    path.write_text(
        "epoch,time,metrics/mAP50(B),metrics/mAP50-95(B)\n1,30.0,0.1,0.05\n2,90.0,0.3,0.2\n", encoding="utf-8"
    )
    return path


def test_minutes_include_epochs_without_evaluation(log: Path) -> None:
    assert draw_learning.read_curve(f"mine={log}", 1200, "AP50") == ("mine", [(2.0, 0.2), (4.0, 0.4)])
    assert draw_learning.read_curve(f"mine={log}", 1200, "AP").points == [(2.0, 0.1), (4.0, 0.2)]


def test_measured_rate_and_previous_minutes_replace_the_times_of_the_log(log: Path, ultralytics: Path) -> None:
    assert draw_learning.read_curve(f"mine={log}@20+5", 1200, "AP50").points == [(7.0, 0.2), (9.0, 0.4)]
    assert draw_learning.read_curve(f"mine={log}+1.5", 1200, "AP50").points == [(3.5, 0.2), (5.5, 0.4)]
    assert draw_learning.read_curve(f"yolo={ultralytics}@10", 600, "AP").points == [(1.0, 0.05), (2.0, 0.2)]
    assert draw_learning.read_curve(f"yolo={ultralytics}", 600, "AP50").points == [(0.5, 0.1), (1.5, 0.3)]


def test_plot_has_one_line_per_curve_and_its_last_score(log: Path, ultralytics: Path, tmp_path: Path) -> None:
    out = tmp_path / "learning.svg"
    assert draw_learning.main([f"a<b={log}", f"YOLO11n={ultralytics}", "--out", str(out)]) == 0
    root = ElementTree.fromstring(out.read_text(encoding="utf-8"))
    lines = root.findall("{*}polyline")
    assert [len(each.get("points", "").split()) for each in lines] == [2, 2]
    texts = [each.text for each in root.findall("{*}text")]
    assert {"a<b 0.400", "YOLO11n 0.300"} <= set(texts)


@pytest.mark.parametrize(
    ("content", "part"), [("", "no epoch has AP50"), ("{", "no training log"), ("[1]\n", "no training log")]
)
def test_log_without_scores_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, part: str
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content, encoding="utf-8")
    assert draw_learning.main([f"mine={path}", "--out", str(tmp_path / "x.svg")]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()
    assert draw_learning.main([f"mine={tmp_path / 'none.csv'}", "--out", str(tmp_path / "x.svg")]) == 2
    assert draw_learning.main(["mine", "--out", str(tmp_path / "x.svg")]) == 2
