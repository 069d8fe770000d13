"""What a bench is made of: equal terms refused in words, folds that keep scenes whole, speeds taken in turns."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detect.benchmark import speed
from detect.benchmark.results import to_markdown
from detect.benchmark.runs import System, check_equal_terms, plan_runs, read_systems, scene_ids, write_folds
from detect.config.loading import to_yaml
from detect.config.schema import Config
from detect.data.dataset import read_dataset
from detect.datasets import coco
from detect.errors import ConfigError, DataError
from detect.structures import Dataset
from tiny import tiny_config, write_tiny


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
    def test_all_else_may_not_unless_allowed(self, changes: dict[str, Any], key: str) -> None:
        pair = {"a": config(), "b": config(**changes)}
        with pytest.raises(
            ConfigError, match=f"b and a would not meet on equal terms: they differ in {key}; .* --vary {key}"
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
            ([config(), config(data={"val": Path("b.json")})], ["data"], "differ in data.val, so they can't be judged"),
            ([config(data={"val": None})], [], "a: data.val is unset, so there is nothing to judge by; set data.val"),
            ([config(train={"early_stop": 3})], [], "train.early_stop=3 would let the score decide how long"),
            ([config(train={"processes": 2})], [], "train.processes=2, but a bench trains each run in its own"),
            ([config()], ["train.lrr"], "there is no key 'train.lrr' that could vary"),
        ],
    )
    def test_what_no_bench_can_have(self, configs: list[Config], vary: list[str], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            check_equal_terms(dict(zip("ab", configs)), vary)
        assert message in str(caught.value)


class TestPlan:
    def test_runs_go_seed_by_seed(self, tmp_path: Path) -> None:
        plan = plan_runs([System("a", config()), System("b", config())], tmp_path, seeds=2, against="b")
        assert [str(run) for run in plan.runs] == ["a/seed0", "b/seed0", "a/seed1", "b/seed1"]
        assert [run.config.train.seed for run in plan.runs] == [0, 0, 1, 1]
        assert plan.runs[3].dir == tmp_path / "b" / "seed1"
        assert plan.against == "b"

    def test_mistakes_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        for place in (tmp_path, tmp_path / "more"):
            (place / "a.yaml").write_text(to_yaml(config()))
        with pytest.raises(ConfigError, match=r"more/a\.yaml: a system named a is there already; rename"):
            read_systems([tmp_path / "a.yaml", tmp_path / "more" / "a.yaml"], [])
        with pytest.raises(ConfigError, match=r"train\.seed is set by the bench; leave it out"):
            read_systems([tmp_path / "a.yaml"], ["train.seed=4"])
        systems = read_systems([tmp_path / "a.yaml"], ["train.epochs=7"])
        assert systems[0].config.train.epochs == 7
        with pytest.raises(ConfigError, match="no system is called 'c'; compare with one of a"):
            plan_runs(systems, tmp_path, seeds=1, against="c")
        with pytest.raises(ConfigError, match="0 seeds make no run; ask for 1 or more"):
            plan_runs(systems, tmp_path, seeds=0)
        other = System("b", config(data={"train": Path("more.json")}, train={"epochs": 7}))
        with pytest.raises(ConfigError, match=r"b: folds are cut from one data set, but data\.train differs"):
            plan_runs([*systems, other], tmp_path, seeds=1, folds=2, vary=["data.train"])


class TestFolds:
    @pytest.fixture
    def data(self, tmp_path: Path) -> tuple[Path, Path]:
        """Two parts whose third images are the same picture."""
        parts = [write_tiny(tmp_path, name, images=9, seed=i) for i, name in enumerate(("train", "val"))]
        shutil.copy(tmp_path / "train" / "train_02.bmp", tmp_path / "val" / "val_02.bmp")
        return parts[0], parts[1]

    def test_each_image_is_judged_once_and_twins_stay_together(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        parts = write_folds(*data, 3, tmp_path / "folds")
        judged = []
        for part in parts:
            train, val = (
                [image.path.name for image in read_dataset(path, role="part").images] for path in (part.train, part.val)
            )
            assert not set(train) & set(val)
            assert len(train) + len(val) == 18
            assert ("train_02.bmp" in val) == ("val_02.bmp" in val)
            judged += val
        assert len(set(judged)) == len(judged) == 18

    def test_images_of_one_coil_stay_together(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        """The last digit of an image, modulo 4, is its coil."""
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
    def test_a_pattern_that_matches_nothing_is_told_before_any_training(
        self, data: tuple[Path, Path], tmp_path: Path, folds: int | None
    ) -> None:
        systems = [System("a", config(data={"train": data[0], "val": data[1]}))]
        with pytest.raises(DataError, match=r"don't match the pattern 'coil'"):
            plan_runs(systems, tmp_path / "out", seeds=1, folds=folds, group_pattern="coil")
        assert not list(tmp_path.glob("out/folds/*"))

    def test_they_stay_as_they_are(self, data: tuple[Path, Path], tmp_path: Path) -> None:
        first = write_folds(*data, 3, tmp_path / "folds")
        before = [part.val.read_bytes() for part in first]
        assert write_folds(*data, 3, tmp_path / "folds") == first
        assert [part.val.read_bytes() for part in first] == before
        dataset = read_dataset(data[1], role="data.val")
        coco.write({"val": Dataset(dataset.images[:-1], dataset.categories)}, tmp_path)
        with pytest.raises(DataError, match="made of other data, in another number or of other groups; choose another"):
            write_folds(*data, 3, tmp_path / "folds")


def test_speeds_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that grows slower by the call slows all alike."""
    now, calls = 0.0, 0
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    seen: list[tuple[str, int]] = []

    def detector(name: str, seconds: float) -> Any:
        def call(image: np.ndarray) -> None:
            nonlocal now, calls
            calls += 1
            now += seconds * (1 + calls / 100)
            seen.append((name, torch.get_num_threads()))

        return call

    before = torch.get_num_threads()
    images = [np.zeros((4, 4), np.uint8)] * 10
    found = speed.median_latencies_ms({"a": detector("a", 0.1), "b": detector("b", 0.2)}, images, threads=before + 1)
    assert found["b"] / found["a"] == pytest.approx(2, rel=0.02)
    assert [name for name, _ in seen[6:14]] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {threads for _, threads in seen} == {before + 1}
    assert torch.get_num_threads() == before


def test_a_table_of_nothing_but_failures_is_still_a_table() -> None:
    systems = [{"name": "a", "state": "failed", "missing": ["a/seed0 failed: the loss is no number"]}]
    data = {"images": 1, "scenes": 1, "boxes": 2, "categories": ["x"]}
    text = to_markdown({"systems": systems, "data": data, "seeds": 1, "folds": None, "against": "a"})
    assert "| a      |     failed |" in text
    assert "a has no figures: a/seed0 failed: the loss is no number." in text
