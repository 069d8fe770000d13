"""The whole way on a CPU with a real configuration: sample, convert, train, Ctrl-C, resume, evaluate, infer."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detect import Predictor

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 4
TINY = [
    "model.backbone.stem=8",
    "model.backbone.widths=[8,16,16,16]",
    "model.backbone.depths=[1,1,1,1]",
    "model.fpn.channels=16",
    "model.roi.fc_width=32",
    "train.batch_size=6",
    "train.warmup_steps=2",
    f"train.epochs={EPOCHS}",
    "train.val_every=1",
    "train.device=cpu",
    "train.precision=float32",  # so small a network gains nothing from less
]


def _heed_interrupts() -> None:
    """A shell makes its background jobs deaf to Ctrl-C, and their children with them; undo it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_after_first_epoch(arguments: list[str], last: Path) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own and press Ctrl-C there once the first checkpoint is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "detect", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C the POSIX way")
def test_from_labels_to_a_drawn_picture(detect: Callable[..., Any], tmp_path: Path) -> None:
    steel, coco, run = tmp_path / "steel", tmp_path / "coco", tmp_path / "runs" / "tiny"
    assert detect("sample", "--out", steel, "--images", 18).code == 0
    assert detect("convert", steel, "--out", coco, "--split", "train=1-2,val=3").code == 0

    # Training stops at Ctrl-C and goes on with the very command that it names.
    data = [f"data.train={coco / 'train.json'}", f"data.val={coco / 'val.json'}", f"run.dir={run}"]
    arguments = ["train", str(ROOT / "configs" / "neu.yaml"), *data, *TINY]
    stopped = interrupt_after_first_epoch(arguments, run / "last.pt")
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.strip().endswith("--resume")
    assert "Traceback" not in stopped.stderr
    assert len((run / "log.jsonl").read_text().splitlines()) < EPOCHS  # none where the first was still to be judged
    resumed = detect(*arguments, "--resume")
    assert resumed.code == 0
    assert str(run) in resumed.out
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(1, EPOCHS + 1))
    assert all(math.isfinite(line["loss"]) for line in log)
    for name in ("config.yaml", "environment.json", "last.pt", "best.pt"):
        assert (run / name).exists()
    again = detect(*arguments)
    assert again.code == 2
    assert "--resume" in again.err

    # The run is judged by its own validation data, and its detections are judged alike without the detector.
    assert detect("evaluate", run).code == 0
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["images"] == 6
    assert 0 <= report["AP"] <= report["AP50"] <= 1
    assert (run / "report" / "report.html").stat().st_size > 0
    theirs = [
        "--detections",
        run / "report" / "detections.json",
        "--data",
        coco / "val.json",
        "--out",
        tmp_path / "out",
    ]
    assert detect("evaluate", *theirs).code == 0
    copy = json.loads((tmp_path / "out" / "report.json").read_text())
    assert copy["per_class"] == report["per_class"]

    # The same weights on an image: JSON, a picture, and from Python.
    image = steel / "IMAGES" / "patches_3.bmp"
    inferred = detect("infer", image, "--weights", run, "--draw", "--json", "--threshold", 0.0)
    assert inferred.code == 0
    assert (steel / "IMAGES" / "patches_3.detections.png").exists()
    (entry,) = json.loads(inferred.out)["images"]
    found = Predictor.load(run)(image)
    assert [each["label"] for each in entry["detections"]] == [each.label for each in found]
    for each in found:
        x1, y1, x2, y2 = each.xyxy
        assert 0 <= x1 < x2 <= 200
        assert 0 <= y1 < y2 <= 200
