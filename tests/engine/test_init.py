"""Initial weights from another detector: matching weights are loaded, classes by name; other networks raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detect.cli import main
from detect.config.loading import load_config, to_yaml
from detect.engine.init import load_matching_weights
from detect.engine.trainer import train
from detect.errors import CheckpointError, ConfigError
from detect.models.anchors import default_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from tiny import TINY_MODEL, tiny_config, write_parts
from tiny_detector import model_config

HERE = Path("theirs.pt")


def detector(*categories: str, **changes: Any) -> DetectorSpec:
    return DetectorSpec(model_config(**changes), categories, 1, (0.5,), (0.2,), default_anchors(4, 2))


def trained(made: DetectorSpec, seed: int = 0) -> Checkpoint:
    """Weights that differ from all others."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7
        for name, value in made.build().state_dict().items()
    }
    return Checkpoint(made, weights, epoch=3)


def test_all_weights_of_the_same_network_are_loaded() -> None:
    source = trained(detector("a", "b"))
    model = source.detector.build()
    taken = load_matching_weights(model, ("a", "b"), source, where=HERE)
    assert (taken.share, taken.categories) == (1.0, ("a", "b"))
    assert all(torch.equal(value, source.weights[name]) for name, value in model.state_dict().items())


def test_score_weights_are_loaded_per_class() -> None:
    source, own = trained(detector("a", "b", "c")), detector("new", "c", "a")
    torch.manual_seed(0)
    model = own.build()
    before = model.roi_heads.box_predictor.score.weight.clone()
    taken = load_matching_weights(model, own.categories, source, where=HERE)
    theirs, after = source.weights["roi_heads.box_predictor.score.weight"], model.roi_heads.box_predictor.score.weight
    assert torch.equal(after[[0, 2, 3]], theirs[[0, 3, 1]])
    assert torch.equal(after[1], before[1])
    assert taken.categories == ("c", "a")
    parameters = sum(p.numel() for p in model.parameters())
    assert taken.share == pytest.approx(1 - 33 / parameters)  # one row of 32 weights and a bias


def test_a_part_of_another_shape_is_not_changed() -> None:
    source = trained(detector("a"))
    own = detector("a", roi={**TINY_MODEL["roi"], "stages": 2})
    model = own.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert 0.5 < load_matching_weights(model, ("a",), source, where=HERE).share < 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name.startswith("roi_heads.refinement") else source.weights[name])


def test_another_network_raises_and_no_weight_is_loaded() -> None:
    source, own = trained(detector("a", fpn={"channels": 8})), detector("a")
    model = own.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"theirs\.pt: only \d+% of the network's parameters .* model section"):
        load_matching_weights(model, ("a",), source, where=HERE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("data"))


def test_training_starts_from_the_loaded_weights(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(tiny_config(data, tmp_path / "first", train={"epochs": 2}))
    still = {"epochs": 1, "init": first, "lr": 1e-12, "weight_decay": 0.0, "ema_decay": 0.0}
    second = train(tiny_config(data, tmp_path / "second", train=still))
    line = f"weights: 100.0% of the parameters are from {first}; common categories: bright, dark"
    assert line in capsys.readouterr().out
    name = "roi_heads.box_head.2.weight"
    theirs, own = (load_checkpoint(run).weights[name] for run in (first, second))
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-6)
    assert load_config(second / "config.yaml").train.init == first


def test_model_settings_come_from_the_checkpoint_unless_configured(data: Path, tmp_path: Path) -> None:
    source = trained(detector("bright", "spot", fpn={"channels": 8}))
    save_checkpoint(tmp_path / "theirs.pt", source)
    config = tiny_config(data, tmp_path / "run", train={"epochs": 1})
    keys = config.model_dump(mode="json", exclude={"model"})
    keys["model"] = {"roi": {"dropout": 0.3}}
    (tmp_path / "mine.yaml").write_text(to_yaml(config.model_validate(keys)).split("model:")[0].split("augment:")[0])
    given = ["run.dir=" + str(tmp_path / "run"), "model.roi.dropout=0.3", "train.epochs=1", "train.batch_size=4"]
    assert main(["train", str(tmp_path / "mine.yaml"), *given, "--init", str(tmp_path / "theirs.pt")]) == 0
    made = load_checkpoint(tmp_path / "run").detector
    assert (made.model.fpn.channels, made.model.roi.dropout, made.model.roi.pool) == (8, 0.3, 3)


def test_a_configured_model_size_overrides_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {backbone: {size: m}, fpn: {channels: 96}}")
    config = load_config(tmp_path / "mine.yaml", model=model_config())
    assert config.model.backbone.widths == (64, 128, 256, 384)
    assert (config.model.fpn.channels, config.model.roi.pool) == (96, 3)


def test_anchors_come_from_the_checkpoint_for_any_seed(data: Path, tmp_path: Path) -> None:
    first = train(tiny_config(data, tmp_path / "first", train={"epochs": 1}))
    second = train(tiny_config(data, tmp_path / "second", train={"epochs": 1, "init": first, "seed": 5}))
    other = train(tiny_config(data, tmp_path / "other", train={"epochs": 1, "seed": 5}))
    shapes = [load_checkpoint(run).detector.shapes for run in (first, second, other)]
    assert shapes[0] == shapes[1] != shapes[2]


def test_a_missing_init_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, tmp_path / "run", train={"init": tmp_path / "nowhere"})
    with pytest.raises(CheckpointError, match="nowhere: no such run or checkpoint"):
        train(config)
