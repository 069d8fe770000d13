"""A bench from configurations to its table: equal terms, finished runs kept, others resumed, failures told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from conftest import Outcome
from detect.benchmark import runs as running
from detect.benchmark.results import forest_plot
from detect.config.loading import to_yaml
from detect.engine.steps import BadStepError, Stepper
from detect.evaluation.bootstrap import paired_bootstrap
from detect.evaluation.summary import average_precision, judge
from detect.models.checkpoint import load_checkpoint
from tiny import TINY_MODEL, tiny_config, write_parts

Detect = Callable[..., Outcome]
QUICK = ("--seeds", "2", "--threads", "1")


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wide.yaml and narrow.yaml, two epochs of four steps each, and their data."""
    folder = write_parts(tmp_path_factory.mktemp("configs"), train=16, val=8)
    for name, width in (("wide", 32), ("narrow", 16)):
        model = {**TINY_MODEL, "roi": {**TINY_MODEL["roi"], "fc_width": width}}
        config = tiny_config(folder, folder / "unused", model=model, train={"epochs": 2, "val_every": 2})
        (folder / f"{name}.yaml").write_text(to_yaml(config))
    return folder


@pytest.fixture(scope="module")
def finished(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bench of both, two seeds each."""
    from detect.cli import main

    out = tmp_path_factory.mktemp("bench")
    assert main(["bench", "train", *both(configs), "--out", str(out), *QUICK]) == 0
    return out


def both(configs: Path) -> list[str]:
    return [str(configs / "wide.yaml"), str(configs / "narrow.yaml")]


def results(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "bench.json").read_text())
    return read


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "train", lambda *_, **__: pytest.fail("it trains again"))


class TestTable:
    def test_each_run_is_kept_with_its_judgement(self, finished: Path, configs: Path) -> None:
        truth = json.loads((configs / "val.json").read_text())
        for name in ("wide", "narrow"):
            for seed in (0, 1):
                run = finished / name / f"seed{seed}"
                report = json.loads((run / "report.json").read_text())
                found = json.loads((run / "detections.json").read_text())
                last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
                assert report["meta"]["weights"] == str(run / "last.pt")
                assert report["AP50"] == pytest.approx(average_precision(truth, found)["AP50"])
                assert report["AP50"] == pytest.approx(last["val"]["AP50"], abs=1e-6)

    def test_the_figures(self, finished: Path, configs: Path) -> None:
        told = results(finished)
        wide, narrow = told["systems"]
        assert (wide["name"], wide["state"], narrow["name"]) == ("wide", "complete", "narrow")
        assert (told["against"], told["seeds"], told["folds"]) == ("wide", 2, None)
        assert told["terms"]["train.epochs"] == 2
        assert not {"train.seed", "run.dir", "model.roi.fc_width"} & told["terms"].keys()
        assert wide["parameters"] > narrow["parameters"] > 0
        assert wide["multiply_adds"] > narrow["multiply_adds"] > 0
        reports = [json.loads((finished / "narrow" / f"seed{k}" / "report.json").read_text()) for k in (0, 1)]
        scores = [report["AP"] for report in reports]
        assert narrow["AP"]["mean"] == pytest.approx(np.mean(scores))
        assert narrow["AP"]["sd"] == pytest.approx(np.std(scores, ddof=1))
        bright = [report["per_class"]["bright"]["AP50"] for report in reports]
        assert narrow["per_class"]["bright"]["AP50"]["mean"] == pytest.approx(np.mean(bright))
        assert [run["AP"] for run in narrow["runs"]] == pytest.approx(scores)
        assert narrow["AP50"]["low"] <= narrow["AP50"]["mean"] <= narrow["AP50"]["high"]
        assert narrow["interval_covers"] == "images and seeds"
        assert narrow["training_minutes"] > 0
        assert narrow["relative_latency"] == pytest.approx(narrow["ms_per_image"] / wide["ms_per_image"])

    def test_differences_are_those_of_the_paired_bootstrap(self, finished: Path, configs: Path) -> None:
        truth = json.loads((configs / "val.json").read_text())
        systems = [
            [judge(truth, json.loads((finished / name / f"seed{k}" / "detections.json").read_text())) for k in (0, 1)]
            for name in ("narrow", "wide")
        ]
        expected = paired_bootstrap(*[[each.evaluated for each in system] for system in systems]).overall["AP50"]
        difference = results(finished)["systems"][1]["difference"]["AP50"]
        assert difference["value"] == pytest.approx(expected.value)
        assert [difference["low"], difference["high"]] == pytest.approx([expected.low, expected.high])
        assert difference["verdict"] == expected.verdict()

    def test_markdown_has_a_row_a_system(self, finished: Path) -> None:
        text = (finished / "bench.md").read_text()
        assert "Trained with 2 seeds, judged on 8 images with 14 boxes." in text
        assert text.count("\n| wide ") == 2  # scores and classes; it isn't compared with itself
        assert text.count("\n| narrow ") == 3
        assert "| AP50 by class" in text
        assert "the choice of images and of seeds" in text

    def test_the_picture_holds_every_system_with_its_seeds(self, finished: Path, tmp_path: Path) -> None:
        text = (finished / "bench.svg").read_text()
        root = ElementTree.fromstring(text)
        words = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"wide", "narrow", "difference from wide"} <= set(words)
        assert text.count('class="seed"') == 4
        assert text.count('class="mean"') == 3  # two scores and one difference
        for x in re.findall(r'(?:cx|x1|x2)="([-.0-9]+)"', text):
            assert 0 <= float(x) <= float(root.attrib["viewBox"].split()[2])

    def test_the_picture_leaves_out_the_score_of_a_fold_without_boxes(self, finished: Path) -> None:
        told = results(finished)
        told["systems"][0]["runs"][0]["AP50"] = None
        assert forest_plot(told).count('class="seed"') == 3

    def test_the_picture_names_what_has_no_figures(self, finished: Path) -> None:
        told = results(finished)
        told["systems"][1] = {"name": "lost", "state": "failed", "missing": ["a < b"]}
        assert ">lost<" in forest_plot(told)
        assert ">failed<" in forest_plot(told)


class TestAgain:
    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        """A bench that may be spoilt."""
        shutil.copytree(finished, tmp_path / "bench")
        return tmp_path / "bench"

    def test_finished_runs_are_kept(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_training(monkeypatch)
        before = results(copy)
        outcome = detect("bench", "train", *both(configs), "--out", copy, *QUICK)
        assert outcome.code == 0
        assert "[4/4] narrow/seed1: finished before" in outcome.out
        assert [row["AP"] for row in results(copy)["systems"]] == [row["AP"] for row in before["systems"]]

    def test_gathered_alone_against_another(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_training(monkeypatch)
        shutil.rmtree(copy / "wide" / "seed1")
        arguments = ["--out", copy, *QUICK, "--gather-only", "--against", "narrow"]
        assert detect("bench", "train", *both(configs), *arguments).code == 0
        wide, narrow = results(copy)["systems"]
        assert (wide["state"], wide["missing"]) == ("unfinished", ["wide/seed1 is not started"])
        assert narrow["AP50"]["mean"] is not None
        assert "wide has no figures: wide/seed1 is not started." in (copy / "bench.md").read_text()
        arguments[2:4] = ["--seeds", "1"]
        assert detect("bench", "train", *both(configs), *arguments).code == 0
        assert results(copy)["systems"][0]["difference"]["interval_covers"] == "images"

    def test_another_configuration_is_refused_before_anything_is_trained(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_training(monkeypatch)
        shutil.rmtree(copy / "wide" / "seed0")
        outcome = detect("bench", "train", *both(configs), "train.lr=0.001", "--out", copy, *QUICK)
        assert outcome.code == 2
        assert "narrow/seed0: train.lr differ from what the run was started with" in outcome.err

    def test_an_interrupted_bench_goes_on(
        self, copy: Path, finished: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.rmtree(copy / "narrow")
        with monkeypatch.context() as patch:
            interrupt(patch, at_step=6)
            outcome = detect("bench", "train", *both(configs), "--out", copy, *QUICK)
        assert outcome.code == 130
        assert "run the same command to continue" in outcome.err
        assert len((copy / "narrow" / "seed0" / "log.jsonl").read_text().splitlines()) == 1
        outcome = detect("bench", "train", *both(configs), "--out", copy, *QUICK)
        assert outcome.code == 0
        assert "[2/4] narrow/seed0: resuming" in outcome.out
        assert "[4/4] narrow/seed1: training" in outcome.out
        assert [row["AP"] for row in results(copy)["systems"]] == [row["AP"] for row in results(finished)["systems"]]


def interrupt(monkeypatch: pytest.MonkeyPatch, *, at_step: int) -> None:
    """Ctrl-C falls into a step, counted from 1."""
    step, calls = Stepper.step, []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at_step:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", interrupted)


def test_a_system_that_fails_is_named_and_the_others_go_on(
    finished: Path, configs: Path, tmp_path: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "bench")
    shutil.rmtree(tmp_path / "bench" / "wide" / "seed0")
    shutil.rmtree(tmp_path / "bench" / "narrow" / "seed1")
    step, parameters = Stepper.step, results(finished)["systems"][0]["parameters"]

    def diverging(self: Any, *arguments: Any) -> Any:
        if sum(p.numel() for p in self.model.parameters()) == parameters:
            raise BadStepError("loss_classifier is no finite number")
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", diverging)
    outcome = detect("bench", "train", *both(configs), "--out", tmp_path / "bench", *QUICK)
    assert outcome.code == 2
    wide, narrow = results(tmp_path / "bench")["systems"]
    assert wide["state"] == "failed"
    assert wide["missing"][0].startswith("wide/seed0 failed: loss_classifier is no finite number in epoch 1")
    assert narrow["state"] == "complete"
    assert "difference" not in narrow
    assert "failed: wide; run the same command to try again" in outcome.out
    monkeypatch.undo()
    assert detect("bench", "train", *both(configs), "--out", tmp_path / "bench", *QUICK).code == 0
    assert not (tmp_path / "bench" / "wide" / "seed0" / "failed.json").exists()


def test_runs_trained_side_by_side_are_those_trained_alone(
    finished: Path, configs: Path, tmp_path: Path, detect: Detect
) -> None:
    out = tmp_path / "bench"
    outcome = detect("bench", "train", *both(configs), "--out", out, "--jobs", "2", *QUICK)
    assert outcome.code == 0, outcome.err
    for run in ("wide/seed0", "narrow/seed1"):
        one, other = (load_checkpoint(folder / run / "last.pt").weights for folder in (finished, out))
        for name, weights in one.items():
            torch.testing.assert_close(other[name], weights, rtol=0, atol=1e-5)  # threads may differ
        assert "epoch 2/2" in (out / run / "output.txt").read_text()
    assert "epoch 2/2" not in outcome.out


def test_help_names_what_can_be_compared(detect: Detect) -> None:
    outcome = detect("bench")
    assert outcome.code == 2
    assert outcome.out == detect("bench", "--help").out
    assert re.search(r"train\s+Train several configurations", outcome.out)
    assert "no verb 'tarin'; did you mean 'train'?" in detect("bench", "tarin").err
    assert "--gather-only" in detect("bench", "train", "--help").out


def test_folds_of_whole_coils_are_judged_as_such(configs: Path, tmp_path: Path, detect: Detect) -> None:
    """The folders of the images stand for coils; a fold of a single one can't tell how far its score would move."""
    arguments = [configs / "narrow.yaml", "train.epochs=1", "--seeds", 1, "--folds", 2, "--threads", 1]
    outcome = detect("bench", "train", *arguments, "--group-pattern", "(train|val)/", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    told = results(tmp_path)
    assert (told["group_pattern"], told["data"]["scenes"], told["data"]["images"]) == ("(train|val)/", 2, 24)
    for j in (1, 2):
        images = json.loads((tmp_path / "folds" / f"fold{j}_val.json").read_text())["images"]
        assert len({Path(image["file_name"]).parent.name for image in images}) == 1
    score = told["systems"][0]["AP50"]
    assert score["mean"] is not None
    assert (score["low"], score["high"]) == (None, None)


def test_folds_cover_every_image_once(configs: Path, tmp_path: Path, detect: Detect) -> None:
    arguments = [configs / "narrow.yaml", "train.epochs=1", "--seeds", 1, "--folds", 2, "--threads", 1]
    assert detect("bench", "train", *arguments, "--out", tmp_path).code == 0
    told = results(tmp_path)
    (system,) = told["systems"]
    assert (told["folds"], told["data"]["images"], [run["fold"] for run in system["runs"]]) == (2, 24, [1, 2])
    assert system["AP50"]["mean"] == pytest.approx(np.mean([run["AP50"] for run in system["runs"]]))
    parts = [json.loads((tmp_path / "folds" / f"fold{j}_val.json").read_text())["images"] for j in (1, 2)]
    assert len({Path(image["file_name"]).name for part in parts for image in part}) == 24
    arguments[5] = 3
    outcome = detect("bench", "train", *arguments, "--out", tmp_path)
    assert outcome.code == 2
    assert "the folds there were made of other data, in another number or of other groups" in outcome.err
