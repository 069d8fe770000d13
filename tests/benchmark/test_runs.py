"""Benchmark runs: equal settings, folds that keep scenes together, resumed and failed runs, latency, result files."""

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
from detect.benchmark import runs as benchmark_runs
from detect.benchmark import speed
from detect.benchmark.results import forest_plot, to_markdown
from detect.benchmark.runs import System, check_equal_terms, plan_runs, read_systems, scene_ids, write_folds
from detect.config.loading import to_yaml
from detect.config.schema import Config
from detect.data.dataset import read_dataset
from detect.datasets import coco
from detect.engine.steps import BadStepError, Stepper
from detect.errors import ConfigError, DataError
from detect.evaluation.bootstrap import paired_bootstrap
from detect.evaluation.summary import average_precision, judge
from detect.models.checkpoint import load_checkpoint
from detect.structures import Dataset
from tiny import TINY_MODEL, tiny_config, write_parts, write_tiny

Detect = Callable[..., Outcome]
QUICK = ("--seeds", "2", "--threads", "1")


def config(**changes: dict[str, Any]) -> Config:
    return tiny_config(Path("data"), Path("run"), **changes)


class TestTerms:
    def test_models_may_differ(self) -> None:
        check_equal_terms({"a": config(), "b": config(model={"input_size": 48}, run={"dir": Path("other")})})

    @pytest.mark.parametrize(
        ("changes", "key"),
        [
            ({"train": {"lr": 0.1}}, r"train\.lr"),
            ({"augment": {"mosaic": 0.1}}, r"augment\.mosaic"),
            ({"data": {"train": Path("more.json")}}, r"data\.train"),
        ],
    )
    def test_other_settings_must_be_equal_unless_varied(self, changes: dict[str, Any], key: str) -> None:
        pair = {"a": config(), "b": config(**changes)}
        with pytest.raises(
            ConfigError, match=f"b and a don't have equal settings: they differ in {key}; .* --vary {key}"
        ):
            check_equal_terms(pair)
        check_equal_terms(pair, [key.replace("\\", "")])
        check_equal_terms(pair, [key.split("\\")[0]])

    def test_all_keys_are_named(self) -> None:
        pair = {"a": config(), "b": config(train={"lr": 0.1, "epochs": 9}, augment={"mosaic": 0.1})}
        with pytest.raises(ConfigError, match=r"differ in train\.epochs, train\.lr;"):
            check_equal_terms(pair, ["augment"])

    @pytest.mark.parametrize(
        ("configs", "vary", "message"),
        [
            (
                [config(), config(data={"val": Path("b.json")})],
                ["data"],
                "differ in data.val, so they can't be compared",
            ),
            ([config(data={"val": None})], [], "a: data.val is unset, so there is no validation data; set data.val"),
            (
                [config(train={"early_stop": 3})],
                [],
                "train.early_stop=3: the training length would depend on the score",
            ),
            ([config(train={"processes": 2})], [], "train.processes=2, but a benchmark trains each run in one process"),
            ([config()], ["train.lrr"], "there is no key 'train.lrr' to vary"),
        ],
    )
    def test_invalid_settings_are_errors(self, configs: list[Config], vary: list[str], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            check_equal_terms(dict(zip("ab", configs)), vary)
        assert message in str(caught.value)


class TestPlan:
    def test_runs_are_ordered_by_seed(self, tmp_path: Path) -> None:
        plan = plan_runs([System("a", config()), System("b", config())], tmp_path, seeds=2, against="b")
        assert [str(run) for run in plan.runs] == ["a/seed0", "b/seed0", "a/seed1", "b/seed1"]
        assert [run.config.train.seed for run in plan.runs] == [0, 0, 1, 1]
        assert plan.runs[3].dir == tmp_path / "b" / "seed1"
        assert plan.against == "b"

    def test_wrong_arguments_are_errors(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        for folder in (tmp_path, tmp_path / "more"):
            (folder / "a.yaml").write_text(to_yaml(config()))
        with pytest.raises(ConfigError, match=r"more/a\.yaml: two systems are named a; rename"):
            read_systems([tmp_path / "a.yaml", tmp_path / "more" / "a.yaml"], [])
        with pytest.raises(ConfigError, match=r"train\.seed is set by the benchmark; leave it out"):
            read_systems([tmp_path / "a.yaml"], ["train.seed=4"])
        systems = read_systems([tmp_path / "a.yaml"], ["train.epochs=7"])
        assert systems[0].config.train.epochs == 7
        with pytest.raises(ConfigError, match="no system is called 'c'; compare with one of a"):
            plan_runs(systems, tmp_path, seeds=1, against="c")
        with pytest.raises(ConfigError, match="there are no runs with 0 seeds; give 1 or more"):
            plan_runs(systems, tmp_path, seeds=0)
        other = System("b", config(data={"train": Path("more.json")}, train={"epochs": 7}))
        with pytest.raises(ConfigError, match=r"b: folds need one data set, but data\.train differs"):
            plan_runs([*systems, other], tmp_path, seeds=1, folds=2, vary=["data.train"])


class TestFolds:
    @pytest.fixture
    def data(self, tmp_path: Path) -> tuple[Path, Path]:
        """Two data sets whose third images are equal."""
        parts = [write_tiny(tmp_path, name, images=9, seed=i) for i, name in enumerate(("train", "val"))]
        shutil.copy(tmp_path / "train" / "train_02.bmp", tmp_path / "val" / "val_02.bmp")
        return parts[0], parts[1]

    def test_each_image_is_validated_once_and_duplicates_stay_together(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        parts = write_folds(*data, 3, tmp_path / "folds")
        validated = []
        for part in parts:
            train, val = (
                [image.path.name for image in read_dataset(path, role="part").images] for path in (part.train, part.val)
            )
            assert not set(train) & set(val)
            assert len(train) + len(val) == 18
            assert ("train_02.bmp" in val) == ("val_02.bmp" in val)
            validated += val
        assert len(set(validated)) == len(validated) == 18

    def test_images_of_one_coil_stay_together(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        """The coil of an image is the last digit of its name modulo 4."""
        for part in data:
            for name in (image.path.name for image in read_dataset(part, role="part").images):
                coil = int(name[-5]) % 4
                shutil.move(part.parent / part.stem / name, part.parent / part.stem / f"coil{coil}_{name}")
            part.write_text(re.sub(r"(\w+)_0(\d)\.bmp", lambda m: f"coil{int(m[2]) % 4}_{m[0]}", part.read_text()))
        parts = write_folds(*data, 2, tmp_path / "folds", group_pattern=r"(coil\d)_")
        for part in parts:
            in_train, in_val = (
                {image.path.name[:5] for image in read_dataset(path, role="part").images}
                for path in (part.train, part.val)
            )
            assert in_val
            assert not in_train & in_val
        images = read_dataset(data[0], role="part").images
        assert len(set(scene_ids(images))) == 9
        assert len(set(scene_ids(images, r"(coil\d)_"))) == 4

    @pytest.mark.parametrize("folds", [None, 3])
    def test_a_pattern_without_matches_is_an_error_before_training(
        self, data: tuple[Path, Path], tmp_path: Path, folds: int | None
    ) -> None:
        systems = [System("a", config(data={"train": data[0], "val": data[1]}))]
        with pytest.raises(DataError, match=r"don't match the pattern 'coil'"):
            plan_runs(systems, tmp_path / "out", seeds=1, folds=folds, group_pattern="coil")
        assert not list(tmp_path.glob("out/folds/*"))

    def test_existing_folds_are_kept_and_other_folds_are_an_error(
        self, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        first = write_folds(*data, 3, tmp_path / "folds")
        before = [part.val.read_bytes() for part in first]
        assert write_folds(*data, 3, tmp_path / "folds") == first
        assert [part.val.read_bytes() for part in first] == before
        dataset = read_dataset(data[1], role="data.val")
        coco.write({"val": Dataset(dataset.images[:-1], dataset.categories)}, tmp_path)
        with pytest.raises(
            DataError, match="made from other data, another number of folds or other groups; choose another"
        ):
            write_folds(*data, 3, tmp_path / "folds")


def test_latency_is_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down with every call affects all detectors equally."""
    now = 0.0
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    calls: list[tuple[str, int]] = []

    def detector(name: str, seconds: float) -> Any:
        def call(image: np.ndarray) -> None:
            nonlocal now
            calls.append((name, torch.get_num_threads()))
            now += seconds * (1 + len(calls) / 100)

        return call

    before = torch.get_num_threads()
    images = [np.zeros((4, 4), np.uint8)] * 10
    times = speed.median_latencies_ms({"a": detector("a", 0.1), "b": detector("b", 0.2)}, images, threads=before + 1)
    assert times["b"] / times["a"] == pytest.approx(2, rel=0.02)
    assert [name for name, _ in calls[6:14]] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {threads for _, threads in calls} == {before + 1}
    assert torch.get_num_threads() == before


def test_table_of_failed_systems_only() -> None:
    systems = [{"name": "a", "state": "failed", "missing": ["a/seed0 failed: the loss is no number"]}]
    data = {"images": 1, "scenes": 1, "boxes": 2, "categories": ["x"]}
    text = to_markdown({"systems": systems, "data": data, "seeds": 1, "folds": None, "against": "a"})
    assert "| a      |     failed |" in text
    assert "a has no results: a/seed0 failed: the loss is no number." in text


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with wide.yaml and narrow.yaml (two epochs of four steps) and their data."""
    folder = write_parts(tmp_path_factory.mktemp("configs"), train=16, val=8)
    for name, width in (("wide", 32), ("narrow", 16)):
        model = {**TINY_MODEL, "roi": {**TINY_MODEL["roi"], "fc_width": width}}
        config = tiny_config(folder, folder / "unused", model=model, train={"epochs": 2, "val_every": 2})
        (folder / f"{name}.yaml").write_text(to_yaml(config))
    return folder


@pytest.fixture(scope="module")
def finished(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished benchmark of both configurations with two seeds."""
    from detect.cli import main

    out = tmp_path_factory.mktemp("bench")
    assert main(["bench", "train", *both(configs), "--out", str(out), *QUICK]) == 0
    return out


def both(configs: Path) -> list[str]:
    return [str(configs / "wide.yaml"), str(configs / "narrow.yaml")]


def results(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "bench.json").read_text())
    return read


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_runs, "train", lambda *_, **__: pytest.fail("a finished run was trained again"))


class TestTable:
    def test_each_run_is_saved_with_its_evaluation(self, finished: Path, configs: Path) -> None:
        truth = json.loads((configs / "val.json").read_text())
        for name in ("wide", "narrow"):
            for seed in (0, 1):
                run = finished / name / f"seed{seed}"
                report = json.loads((run / "report.json").read_text())
                detections = json.loads((run / "detections.json").read_text())
                last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
                assert report["meta"]["weights"] == str(run / "last.pt")
                assert report["AP50"] == pytest.approx(average_precision(truth, detections)["AP50"])
                assert report["AP50"] == pytest.approx(last["val"]["AP50"], abs=1e-6)

    def test_results_of_each_system(self, finished: Path, configs: Path) -> None:
        content = results(finished)
        wide, narrow = content["systems"]
        assert (wide["name"], wide["state"], narrow["name"]) == ("wide", "complete", "narrow")
        assert (content["against"], content["seeds"], content["folds"]) == ("wide", 2, None)
        assert content["terms"]["train.epochs"] == 2
        assert not {"train.seed", "run.dir", "model.roi.fc_width"} & content["terms"].keys()
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

    def test_differences_equal_the_paired_bootstrap(self, finished: Path, configs: Path) -> None:
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

    def test_markdown_has_one_row_per_system(self, finished: Path) -> None:
        text = (finished / "bench.md").read_text()
        assert "Trained with 2 seeds, evaluated on 8 images with 14 boxes." in text
        assert text.count("\n| wide ") == 2  # scores and classes; the reference isn't compared with itself
        assert text.count("\n| narrow ") == 3
        assert "| AP50 by class" in text
        assert "the choice of images and of seeds" in text

    def test_forest_plot_shows_every_system_with_its_seeds(self, finished: Path, tmp_path: Path) -> None:
        text = (finished / "bench.svg").read_text()
        root = ElementTree.fromstring(text)
        words = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"wide", "narrow", "difference from wide"} <= set(words)
        assert text.count('class="seed"') == 4
        assert text.count('class="mean"') == 3  # two scores and one difference
        for x in re.findall(r'(?:cx|x1|x2)="([-.0-9]+)"', text):
            assert 0 <= float(x) <= float(root.attrib["viewBox"].split()[2])

    def test_forest_plot_omits_the_score_of_a_fold_without_boxes(self, finished: Path) -> None:
        content = results(finished)
        content["systems"][0]["runs"][0]["AP50"] = None
        assert forest_plot(content).count('class="seed"') == 3

    def test_forest_plot_names_systems_without_results(self, finished: Path) -> None:
        content = results(finished)
        content["systems"][1] = {"name": "lost", "state": "failed", "missing": ["a < b"]}
        assert ">lost<" in forest_plot(content)
        assert ">failed<" in forest_plot(content)


class TestRepeatedCommand:
    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        """Copy of the finished benchmark that a test may change."""
        shutil.copytree(finished, tmp_path / "bench")
        return tmp_path / "bench"

    def test_finished_runs_are_not_trained_again(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid_training(monkeypatch)
        before = results(copy)
        outcome = detect("bench", "train", *both(configs), "--out", copy, *QUICK)
        assert outcome.code == 0
        assert "[4/4] narrow/seed1: finished before" in outcome.out
        assert [row["AP"] for row in results(copy)["systems"]] == [row["AP"] for row in before["systems"]]

    def test_results_only_with_another_reference(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid_training(monkeypatch)
        shutil.rmtree(copy / "wide" / "seed1")
        arguments = ["--out", copy, *QUICK, "--gather-only", "--against", "narrow"]
        assert detect("bench", "train", *both(configs), *arguments).code == 0
        wide, narrow = results(copy)["systems"]
        assert (wide["state"], wide["missing"]) == ("unfinished", ["wide/seed1 is not started"])
        assert narrow["AP50"]["mean"] is not None
        assert "wide has no results: wide/seed1 is not started." in (copy / "bench.md").read_text()
        arguments[2:4] = ["--seeds", "1"]
        assert detect("bench", "train", *both(configs), *arguments).code == 0
        assert results(copy)["systems"][0]["difference"]["interval_covers"] == "images"

    def test_another_configuration_is_an_error_before_training(
        self, copy: Path, configs: Path, detect: Detect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid_training(monkeypatch)
        shutil.rmtree(copy / "wide" / "seed0")
        outcome = detect("bench", "train", *both(configs), "train.lr=0.001", "--out", copy, *QUICK)
        assert outcome.code == 2
        assert "narrow/seed0: train.lr differ from what the run was started with" in outcome.err

    def test_interrupted_benchmark_is_resumed(
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
    """Raise KeyboardInterrupt in the given training step, counted from 1."""
    step, calls = Stepper.step, []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at_step:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", interrupted)


def test_failed_system_is_named_and_the_others_are_trained(
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


def test_parallel_training_gives_the_same_weights(
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


def test_help_lists_the_verbs(detect: Detect) -> None:
    outcome = detect("bench")
    assert outcome.code == 2
    assert outcome.out == detect("bench", "--help").out
    assert re.search(r"train\s+Train several configurations", outcome.out)
    assert "no verb 'tarin'; did you mean 'train'?" in detect("bench", "tarin").err
    assert "--gather-only" in detect("bench", "train", "--help").out


def test_folds_of_coils_have_no_interval_with_one_scene_per_fold(configs: Path, tmp_path: Path, detect: Detect) -> None:
    """Image folders represent coils. A fold with a single coil gives no interval."""
    arguments = [configs / "narrow.yaml", "train.epochs=1", "--seeds", 1, "--folds", 2, "--threads", 1]
    outcome = detect("bench", "train", *arguments, "--group-pattern", "(train|val)/", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    content = results(tmp_path)
    assert (content["group_pattern"], content["data"]["scenes"], content["data"]["images"]) == ("(train|val)/", 2, 24)
    for j in (1, 2):
        images = json.loads((tmp_path / "folds" / f"fold{j}_val.json").read_text())["images"]
        assert len({Path(image["file_name"]).parent.name for image in images}) == 1
    score = content["systems"][0]["AP50"]
    assert score["mean"] is not None
    assert (score["low"], score["high"]) == (None, None)


def test_folds_validate_every_image_once(configs: Path, tmp_path: Path, detect: Detect) -> None:
    arguments = [configs / "narrow.yaml", "train.epochs=1", "--seeds", 1, "--folds", 2, "--threads", 1]
    assert detect("bench", "train", *arguments, "--out", tmp_path).code == 0
    content = results(tmp_path)
    (system,) = content["systems"]
    assert (content["folds"], content["data"]["images"], [run["fold"] for run in system["runs"]]) == (2, 24, [1, 2])
    assert system["AP50"]["mean"] == pytest.approx(np.mean([run["AP50"] for run in system["runs"]]))
    parts = [json.loads((tmp_path / "folds" / f"fold{j}_val.json").read_text())["images"] for j in (1, 2)]
    assert len({Path(image["file_name"]).name for part in parts for image in part}) == 24
    arguments[5] = 3
    outcome = detect("bench", "train", *arguments, "--out", tmp_path)
    assert outcome.code == 2
    assert "the existing folds were made from other data, another number of folds or other groups" in outcome.err
