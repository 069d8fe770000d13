"""Parts of training compared with values computed by hand: optimizer groups, schedule, precision, EMA."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detect.config.schema import AnchorConfig, CspConfig, FpnConfig, ModelConfig, TrainConfig
from detect.data.dataset import DetectionDataset, read_dataset
from detect.engine.init import fit_detector_spec
from detect.engine.optim import ModelEma, build_optimizer, learning_rate, resolve_precision
from detect.engine.trainer import TensorBoardLogger
from detect.errors import ConfigError
from detect.models.distributed import resolve_device
from detect.models.layers import ConvNormAct
from tiny import CATEGORIES, write_tiny


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(ConvNormAct(1, 4), nn.Flatten(), nn.Linear(4 * 9, 2))


class TestOptimizer:
    @pytest.mark.parametrize("name", ["adamw", "sgd"])
    def test_norms_and_biases_are_not_decayed(self, name: Any) -> None:
        model = network()
        optimizer = build_optimizer(model, TrainConfig(optimizer=name, lr=0.1, weight_decay=0.5, momentum=0.9))
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert {key: decay[id(p)] for key, p in model.named_parameters()} == {
            "0.0.weight": 0.5,  # convolution
            "0.1.weight": 0.0,  # normalisation
            "0.1.bias": 0.0,
            "2.weight": 0.5,
            "2.bias": 0.0,
        }

    def test_frozen_parameters_are_left_out(self) -> None:
        model = network()
        model[0].requires_grad_(False)
        optimizer = build_optimizer(model, TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0.5, momentum=0.9))
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 2

    def test_momentum_is_passed_to_sgd(self) -> None:
        optimizer = build_optimizer(network(), TrainConfig(optimizer="sgd", lr=0.1, weight_decay=0.5, momentum=0.8))
        assert isinstance(optimizer, torch.optim.SGD)
        assert [group["momentum"] for group in optimizer.param_groups] == [0.8, 0.8]
        build_optimizer(network(), TrainConfig(optimizer="sgd", momentum=0.0))  # nesterov needs momentum


class TestSchedule:
    def rates(self, warmup_steps: int, total_steps: int) -> np.ndarray:
        settings = TrainConfig(lr=2.0, warmup_steps=warmup_steps, lr_floor=0.1)
        return np.array([learning_rate(s, settings, total_steps=total_steps) for s in range(total_steps + 1)])

    def test_values(self) -> None:
        rates = self.rates(warmup_steps=4, total_steps=24)
        np.testing.assert_allclose(rates[:5], [0.5, 1.0, 1.5, 2.0, 2.0])
        assert rates[14] == pytest.approx(2 * (0.1 + 0.9 * 0.5))  # half way down the cosine
        assert rates[24] == pytest.approx(0.2)
        assert (np.diff(rates[4:]) < 0).all()

    def test_a_floor_of_one_keeps_the_rate_at_its_peak(self) -> None:
        settings = TrainConfig(lr=2.0, warmup_steps=2, lr_floor=1.0)
        assert [learning_rate(s, settings, total_steps=9) for s in range(2, 10)] == [2.0] * 8

    def test_a_short_training_is_not_all_warm_up(self) -> None:
        rates = self.rates(warmup_steps=200, total_steps=30)
        assert rates.argmax() in (9, 10)
        assert rates.max() == 2.0

    @pytest.mark.parametrize("total_steps", [1, 2, 3])
    def test_the_shortest_trainings(self, total_steps: int) -> None:
        for warmup_steps in (0, 5):
            assert (self.rates(warmup_steps, total_steps)[:total_steps] > 0).all()


class TestEma:
    def test_ema_equals_a_manual_average(self) -> None:
        model = network().train()
        ema, expected = ModelEma(model, decay=0.25, reach=0.1), {k: v.clone() for k, v in model.state_dict().items()}
        for n in range(1, 5):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p))
                model(torch.randn(3, 1, 3, 3))  # changes the normalisation statistics
            ema.update(model)
            decay = min(0.25, (1 + n) / (10 + n))  # 2/11, 3/12, then 0.25
            for key, value in model.state_dict().items():
                expected[key] = decay * expected[key] + (1 - decay) * value if value.is_floating_point() else value
        assert ema.weights.keys() == expected.keys()
        assert "0.1.running_var" in expected
        for key, value in expected.items():
            torch.testing.assert_close(ema.weights[key], value)
        assert ema.weights["0.1.num_batches_tracked"] == 4

    @pytest.mark.parametrize("reach", [0.5, 1 / 3, 0.1])
    def test_reach_is_the_mean_age_of_the_averaged_weights(self, reach: float) -> None:
        model, steps = nn.Linear(1, 1, bias=False), 3000
        with torch.no_grad():
            model.weight.zero_()
        ema = ModelEma(model, decay=0.9999, reach=reach)
        for n in range(1, steps + 1):
            with torch.no_grad():
                model.weight.fill_(n)  # the weight encodes the update
            ema.update(model)
        age = 1 - float(ema.weights["weight"]) / steps
        assert age == pytest.approx(reach, abs=2e-3)

    def test_no_decay_is_a_copy(self) -> None:
        model = network()
        ema = ModelEma(model, decay=0, reach=0.1)
        with torch.no_grad():
            model[2].weight.add_(1)
        assert not torch.equal(ema.weights["2.weight"], model[2].weight)
        ema.update(model)
        assert all(torch.equal(ema.weights[key], value) for key, value in model.state_dict().items())


class TestPrecisionAndDevice:
    def test_an_explicit_precision_is_used(self) -> None:
        for name in ("float32", "bfloat16"):
            assert resolve_precision(name, torch.device("cpu")) == name
        assert resolve_precision("auto", torch.device("cpu")) in ("float32", "bfloat16")

    def test_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert resolve_device("cpu") == torch.device("cpu")
        with pytest.raises(ConfigError, match="unknown device 'gpu'; use auto, cpu or cuda"):
            resolve_device("gpu")
        with pytest.raises(ConfigError, match="device 'meta' doesn't work on this machine"):
            resolve_device("meta")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert resolve_device("auto") == torch.device("cpu")
        with pytest.raises(ConfigError, match="device 'cuda:1' was asked for, but torch sees no GPU"):
            resolve_device("cuda:1")


class TestDesign:
    @pytest.fixture
    def images(self, tmp_path: Path) -> DetectionDataset:
        """Twenty images."""
        records = read_dataset(write_tiny(tmp_path, "train", images=20, seed=0), role="data.train")
        return DetectionDataset(records, channels=1)

    def test_categories_normalisation_and_anchors_come_from_the_data(self, images: DetectionDataset) -> None:
        lines: list[str] = []
        detector = fit_detector_spec(ModelConfig(anchors=AnchorConfig(per_level=3)), images, seed=0, say=lines.append)
        assert detector.categories == CATEGORIES
        assert detector.channels == 1
        assert detector.mean == tuple(images.normalisation()[0])
        assert [len(level) for level in detector.shapes] == [3, 3, 3, 3]
        assert all(9 < side < 27 for level in detector.shapes for shape in level for side in shape)
        assert "anchors fitted: best possible recall at IoU 0.5 is 1.000, with torchvision's default 0." in lines[0]

    def test_anchors_are_fitted_at_input_size(self, images: DetectionDataset) -> None:
        model = ModelConfig(input_size=128, backbone=CspConfig(widths=(8, 8), depths=(0, 0)))
        detector = fit_detector_spec(model, images, seed=0, say=lambda _: None)
        assert all(18 < side < 54 for level in detector.shapes for shape in level for side in shape)

    def test_a_single_level_gets_all_anchors(self, images: DetectionDataset) -> None:
        model = ModelConfig(fpn=FpnConfig(single_stride=8), anchors=AnchorConfig(per_level=6))
        detector = fit_detector_spec(model, images, seed=0, say=lambda _: None)
        assert [len(level) for level in detector.shapes] == [6]
        assert detector.build().rpn.anchor_generator.strides == [8]

    def test_given_anchors_are_used(self, images: DetectionDataset) -> None:
        lines: list[str] = []
        shapes = (((10.0, 10.0),), ((20.0, 20.0),))
        detector = fit_detector_spec(ModelConfig(anchors=AnchorConfig(shapes=shapes)), images, seed=0, say=lines.append)
        assert detector.shapes == [[(10, 10)], [(20, 20)]]
        assert "anchors given" in lines[0]

    @pytest.mark.parametrize(("factor", "origin"), [(1.1, "kept"), (4.0, "fitted")])
    def test_anchors_of_the_weights_are_kept_if_their_recall_suffices(
        self, images: DetectionDataset, factor: float, origin: str
    ) -> None:
        fitted = fit_detector_spec(ModelConfig(), images, seed=0, say=lambda _: None).shapes
        known = [[(factor * w, factor * h) for w, h in level] for level in fitted]
        lines: list[str] = []
        detector = fit_detector_spec(ModelConfig(), images, seed=0, say=lines.append, known=known)
        assert detector.shapes == (known if origin == "kept" else fitted)
        assert f"anchors {origin}" in lines[0]

    def test_anchors_of_another_layout_are_not_kept(self, images: DetectionDataset) -> None:
        known = fit_detector_spec(ModelConfig(), images, seed=0, say=lambda _: None).shapes
        model = ModelConfig(anchors=AnchorConfig(per_level=3))
        detector = fit_detector_spec(model, images, seed=0, say=lambda _: None, known=known)
        assert [len(level) for level in detector.shapes] == [3, 3, 3, 3]


def test_missing_tensorboard_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"train\.tensorboard: .*not installed; pip install 'surface-detect\[tensor"):
        TensorBoardLogger(tmp_path, first_epoch=1)
