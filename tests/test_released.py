"""The model that comes with the library: small, named by a word wherever a run can be, and never written beside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detect import Predictor
from detect.cli import main
from detect.images import write_image
from detect.inference.thresholds import FILE_NAME
from detect.models.checkpoint import load_checkpoint
from detect.released import HOME, WEIGHTS, WORD
from labelled_data import sample_steel
from tiny import write_parts

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a few sample images, two of each class."""
    return sample_steel(tmp_path_factory.mktemp("steel"), images=12, seed=5)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_small_and_for_inference_only() -> None:
    checkpoint = load_checkpoint(Path(WORD))
    assert WEIGHTS.stat().st_size < 10_000_000
    assert checkpoint.training is None
    assert checkpoint.detector.categories == CLASSES
    halved = {value.dtype for value in checkpoint.weights.values() if value.dim() > 1}
    assert halved == {torch.float16}


def test_without_any_run_it_detects_and_says_so(
    tmp_path: Path, steel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = steel.parent / "raw" / "IMAGES" / "inclusion_1.bmp"
    assert main(["infer", str(image), "--draw", "--out", str(tmp_path / "drawn")]) == 0
    told = capsys.readouterr()
    assert "the released model, trained on NEU-DET to find crazing" in told.err
    assert "inclusion" in told.out
    assert len(list((tmp_path / "drawn").iterdir())) == 1


def test_a_run_of_ones_own_comes_first(tmp_path: Path, steel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "runs" / "mine" / "best.pt"
    own.parent.mkdir(parents=True)
    shutil.copy(WEIGHTS, own)
    image = next((steel.parent / "raw" / "IMAGES").iterdir())
    assert main(["infer", str(image)]) == 0
    assert "weights runs/mine/best.pt, the newest" in capsys.readouterr().err
    assert main(["infer", str(image), "--weights", WORD]) == 0
    assert "the released model" in capsys.readouterr().err


def test_it_knows_its_defects_on_sample_steel(steel: Path) -> None:
    assert main(["evaluate", WORD, "--data", str(steel)]) == 0
    report = json.loads((HOME / "report" / "report.json").read_text())
    assert report["AP50"] > 0.5  # 0.75 on a hundred images that it has never seen the like of


def test_thresholds_chosen_for_it_are_obeyed(steel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("costs.yaml").write_text("default: {price: {missed: 10, false_alarm: 1}}\n")
    before = sorted(path.name for path in WEIGHTS.parent.iterdir())
    assert main(["evaluate", WORD, "--data", str(steel), "--costs", "costs.yaml"]) == 0
    assert sorted(path.name for path in WEIGHTS.parent.iterdir()) == before
    assert (HOME / FILE_NAME).is_file()
    capsys.readouterr()
    assert main(["infer", str(next((steel.parent / "raw" / "IMAGES").iterdir()))]) == 0
    assert "thresholds of runs/released/thresholds.json" in capsys.readouterr().err


def test_what_needs_labels_or_a_report_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", WORD]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["pre-annotate", WORD, "--to", "coco", "--out", "pre_annotations"]) == 2
    assert "detect evaluate released --data" in capsys.readouterr().err


def test_label_issues_can_be_found_with_it(steel: Path) -> None:
    assert main(["label-issues", WORD, "--data", str(steel)]) == 0
    assert (HOME / "label_issues").is_dir()


def test_training_goes_on_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = write_parts(tmp_path / "data")
    Path("mine.yaml").write_text(
        f"run: {{dir: runs/mine}}\ndata: {{train: {json.dumps(str(parts / 'train.json'))}}}\n"
        "train: {epochs: 1, batch_size: 2}\n"
    )
    assert main(["train", "mine.yaml", "--init", WORD]) == 0
    assert "of the parameters are from released" in capsys.readouterr().out


def test_from_python_it_is_found_by_its_name() -> None:
    predictor = Predictor.load(WORD)
    assert predictor.categories == CLASSES
    assert len(predictor(np.full((64, 96), 128, np.uint8), threshold=0.9)) == 0


def test_a_release_is_refused_if_it_lost_something(tmp_path: Path, steel: Path) -> None:
    """A weight that 16 bits don't hold."""
    checkpoint = torch.load(WEIGHTS, weights_only=True)
    name = next(name for name, value in checkpoint["weights"].items() if value.dtype == torch.float16)
    checkpoint["weights"][name] = checkpoint["weights"][name].float() + 1e6
    torch.save(checkpoint, tmp_path / "last.pt")
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "release.py"),
        "last.pt",
        "--data",
        str(steel),
        "--out",
        "new.pt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "nothing was written" in done.stdout + done.stderr
    assert not list(tmp_path.glob("*new*"))


def test_a_release_gives_what_the_run_gave(tmp_path: Path, steel: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "release.py"),
        str(WEIGHTS),
        "--data",
        str(steel),
        "--out",
        "new.pt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[0])
    assert told["run"] == told["released"]  # halved already
    image = np.asarray(np.random.default_rng(0).integers(0, 255, (80, 80)), np.uint8)
    write_image(tmp_path / "a.png", image)
    boxes = [Predictor.load(path)(tmp_path / "a.png").boxes_xyxy for path in (WEIGHTS, tmp_path / "new.pt")]
    assert np.array_equal(*boxes)
