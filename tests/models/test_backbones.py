"""Backbones: shapes of maps, recurrence, pretrained weights, and error messages."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from pydantic import TypeAdapter
from torch import Tensor, nn

from detect.config.loading import load_config
from detect.config.schema import BackboneConfig
from detect.engine.trainer import train
from detect.errors import CheckpointError, ConfigError, DetectError
from detect.models.anchors import default_anchors
from detect.models.backbones import build_backbone, load_pretrained
from detect.models.backbones.recurrent_conv import RecurrentConv, RecurrentConvLayer, widths_without_recurrence
from detect.models.backbones.staged import Backbone
from detect.models.backbones.torchvision import Torchvision, find_feature_stages
from detect.models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint, save_checkpoint
from detect.models.faster_rcnn import proposal_strides
from tiny import tiny_config, write_tiny
from tiny_detector import model_config, tiny_detector, train_one_step

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KINDS: dict[str, dict[str, Any]] = {
    "csp": {"stem": 8, "widths": (8, 8, 16, 16), "depths": (0, 1, 0, 0)},
    "plain3": {"name": "plain3", "width": 8},
    "plain3 as published": {"name": "plain3", "width": 8, "norm": "none"},
    "plain5": {"name": "plain5", "width": 8},
    "recurrent_conv": {"name": "recurrent_conv", "stem": 8, "widths": (8, 16), "steps": 2},
    "without recurrence": {"name": "recurrent_conv", "stem": 8, "widths": (8, 16), "steps": 0},
    "torchvision": {"name": "torchvision", "arch": "resnet18"},
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def make(in_channels: int = 1, **section: Any) -> Backbone:
    config: BackboneConfig = TypeAdapter(BackboneConfig).validate_python(section)
    return build_backbone(config, in_channels).eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_maps_have_sizes_rounded_up(kind: str, in_channels: int) -> None:
    backbone = make(in_channels, **KINDS[kind])
    for height, width in ((200, 200), (137, 211), (33, 1)):
        maps = backbone(torch.rand(2, in_channels, height, width))
        sizes = [(2, c, -(-height // s), -(-width // s)) for c, s in zip(backbone.out_channels, backbone.strides)]
        assert [tuple(each.shape) for each in maps] == sizes


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_trains_and_loads_from_its_checkpoint(kind: str, tmp_path: Path) -> None:
    model = model_config(backbone=KINDS[kind])
    shapes = default_anchors(len(proposal_strides(model, 1)), 2)
    description = DetectorSpec(model, ("bright", "dark"), 1, (0.5,), (0.2,), shapes)
    detector = description.build()
    train_one_step(detector)
    save_checkpoint(tmp_path / "last.pt", Checkpoint(description, detector.state_dict(), 1))
    loaded, image = load_checkpoint(tmp_path).load_model(), torch.rand(1, 50, 70)
    with torch.no_grad():
        (expected,), (detections,) = detector.eval()([image]), loaded([image])
    torch.testing.assert_close(detections, expected)


@pytest.mark.parametrize("kind", ["csp", "plain5", "recurrent_conv", "torchvision"])
def test_a_single_level_removes_later_stages(kind: str) -> None:
    all_levels = make(**KINDS[kind])
    stride = all_levels.strides[1]
    detector = tiny_detector(backbone=KINDS[kind], fpn={"channels": 16, "single_stride": stride})
    body = detector.backbone.body
    assert (body.strides, body.out_channels) == ([stride], [all_levels.out_channels[1]])
    assert len(all_levels.strides) == 2 or count(body) < count(all_levels)
    assert detector.rpn.anchor_generator.strides == [stride]
    train_one_step(detector)


def test_the_message_about_a_missing_level_names_the_existing_ones() -> None:
    model = model_config(backbone={"name": "plain3"}, fpn={"single_stride": 16})
    with pytest.raises(
        ConfigError, match=r"single_stride: the backbone has no level at stride 16, only at 4, 8; choose"
    ):
        proposal_strides(model, 1)


class TestCsp:
    def test_sizes_grow_and_explicit_keys_override_the_size(self) -> None:
        n, s, m = (count(make(size=size)) for size in "nsm")
        assert n < s < m
        assert count(make()) == n
        stem, widths = 4, (8, 8)
        assert make(size="m", stem=stem, widths=widths, depths=(0, 0)).out_channels == [8, 8]

    @pytest.mark.parametrize(("name", "max_parameters"), [("neu", 2.5e6), ("csp_s", 5e6), ("csp_m", 7e6)])
    def test_detectors_of_configs_have_at_most_their_stated_size(self, name: str, max_parameters: float) -> None:
        assert count(of_config(name)) <= max_parameters


class TestPlain:
    def test_layers_equal_those_of_the_baselines(self) -> None:
        for name, layers, kernel, width in (("plain3", 3, 3, 32), ("plain5", 5, 5, 128)):
            backbone = make(name=name)
            convs = [part for part in backbone.modules() if isinstance(part, nn.Conv2d)]
            assert [(conv.out_channels, conv.kernel_size) for conv in convs] == [(width, (kernel, kernel))] * layers
            assert backbone.strides == [4, 8, 16, 32][: layers - 1]

    def test_norm_none_has_no_batch_norm(self) -> None:
        assert not any(isinstance(part, nn.BatchNorm2d) for part in make(name="plain3", norm="none").modules())

    def test_dropout_applies_to_the_deepest_map_in_training_only(self) -> None:
        backbone, images = make(name="plain3", dropout=0.9, norm="none"), torch.rand(1, 1, 64, 64)
        evaluated, trained = backbone(images), backbone.train()(images)
        assert torch.equal(evaluated[0], trained[0])
        assert (trained[1] == 0).float().mean() > 0.8
        assert (evaluated[1] == 0).float().mean() < 0.8


class TestRecurrentConv:
    def test_without_steps_it_is_convolution_norm_and_relu(self) -> None:
        layer = RecurrentConvLayer(3, 8, steps=0)
        plain = nn.Sequential(layer.feed_forward, layer.first_norm, nn.ReLU())
        x = torch.randn(2, 3, 9, 7)
        torch.testing.assert_close(layer.eval()(x), plain.eval()(x))
        assert count(layer) == count(plain)

    def test_unrolled_steps_equal_the_formula(self) -> None:
        layer, x = RecurrentConvLayer(3, 4, steps=3).eval(), torch.randn(1, 3, 6, 5)
        for norm in (layer.first_norm, *layer.step_norms):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        assert layer.cell is not None
        feed_forward, recurrent = layer.feed_forward.weight, layer.cell.recurrent.weight

        def conv(weight: Tensor, values: Tensor) -> Tensor:
            patches = nn.functional.unfold(values, 3, padding=1)  # [1, in * 9, cells]
            return (weight.flatten(1) @ patches).view(1, -1, *values.shape[2:])

        state = torch.zeros(1, 4, 6, 5)
        for norm in (layer.first_norm, *layer.step_norms):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
            total = conv(feed_forward, x) + conv(recurrent, state)
            state = (total * scale[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        torch.testing.assert_close(layer(x), state)

    def test_recurrent_weights_are_the_same_at_each_step(self) -> None:
        sizes = [count(RecurrentConvLayer(3, 8, steps)) for steps in (1, 2, 5)]
        norm = 2 * 8
        assert [size - sizes[0] for size in sizes] == [0, norm, 4 * norm]

    @torch.no_grad()
    def test_each_step_extends_the_receptive_field_by_one_cell(self) -> None:
        for steps in range(4):
            layer, x = RecurrentConvLayer(1, 8, steps).eval(), torch.zeros(1, 1, 15, 15)
            blank_output = layer(x)
            x[0, 0, 7, 7] = 100
            rows = (layer(x) - blank_output).abs().sum(dim=(0, 1, 3)).nonzero()
            assert int(rows.max()) - 7 == steps + 1

    def test_the_control_has_the_same_number_of_parameters(self) -> None:
        for widths, steps in (((32, 64, 128, 192), 3), ((32, 48), 1)):
            wider = widths_without_recurrence(widths, stem=16, steps=steps)
            recurrent, control = RecurrentConv(1, 16, widths, steps), RecurrentConv(1, 16, wider, 0)
            assert count(control) == pytest.approx(count(recurrent), rel=0.01)
        assert widths_without_recurrence((8, 16), stem=8, steps=0) == (8, 16)

    def test_the_recurrent_configs_and_their_control_have_equal_sizes(self) -> None:
        recurrent, plain, wide = (load_config(CONFIGS / f"recurrent_conv{name}.yaml") for name in ("", "_t0", "_wide"))
        with_steps, control = recurrent.model.backbone, wide.model.backbone
        assert with_steps.name == control.name == "recurrent_conv"
        assert plain.model.backbone == with_steps.model_copy(update={"steps": 0})
        assert control.widths == widths_without_recurrence(with_steps.widths, with_steps.stem, with_steps.steps)
        sizes = [count(of_config(name)) for name in ("recurrent_conv", "recurrent_conv_wide")]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


class TestTorchvision:
    def test_maps_are_the_outputs_of_the_stages(self) -> None:
        stages = find_feature_stages("resnet18").stages
        assert [(stage.stride, stage.channels) for stage in stages] == [(4, 64), (8, 128), (16, 256), (32, 512)]
        network = torchvision.models.resnet18(weights=None).eval()
        backbone = Torchvision(3, "resnet18").eval()
        backbone.body.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("fc.")})
        x = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            maps = backbone(x)
            expected = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x)))))
            torch.testing.assert_close(maps[0], expected)
            for stage, feature_map in zip((network.layer2, network.layer3, network.layer4), maps[1:]):
                expected = stage(expected)
                torch.testing.assert_close(feature_map, expected)

    @torch.no_grad()
    def test_images_are_padded_for_networks_that_round_down(self) -> None:
        assert find_feature_stages("resnet18").rounds_up
        assert not find_feature_stages("vgg11").rounds_up
        backbone, images = Torchvision(1, "vgg11").eval(), torch.rand(1, 1, 72, 77)
        larger = torch.zeros(1, 1, 96, 96)
        larger[:, :, :72, :77] = images
        maps = backbone(images)
        assert [tuple(feature_map.shape[2:]) for feature_map in maps] == [(18, 20), (9, 10), (5, 5), (3, 3)]
        for feature_map, padded in zip(maps, backbone(larger)):
            height, width = feature_map.shape[2:]
            torch.testing.assert_close(feature_map, padded[..., :height, :width])

    @pytest.mark.parametrize(
        ("arch", "message"),
        [
            ("resnet17", r"model\.backbone\.arch: torchvision has no network 'resnet17'; did you mean resnet1\d"),
            ("MobileNetV3", r"no network 'MobileNetV3'; did you mean .*mobilenet_v3"),
            ("fasterrcnn_resnet50_fpn", r"no network 'fasterrcnn_resnet50_fpn'"),
            ("", r"no network ''; torchvision\.models\.list_models\(\) names all"),
            ("vit_b_16", r"arch: 'vit_b_16' works on images of one size only, .*; take another one, such as resnet18"),
            ("swin_t", r"arch: 'swin_t' has no feature map of 1/8, 1/16 of the image's size; take another one"),
            ("squeezenet1_1", r"'squeezenet1_1' has no feature map of 1/4, 1/8, 1/16, 1/32 of the image's size; take"),
        ],
    )
    def test_unsuitable_networks_are_refused(self, arch: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigError, match=message):
            proposal_strides(model_config(backbone={"name": "torchvision", "arch": arch}), 1)
        assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network with statistics that are not the initial ones, as after training."""
    torch.manual_seed(1)
    network: nn.Module = torchvision.models.resnet18(weights=None)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
    return network


class TestWeights:
    @pytest.fixture
    def file(self, network: nn.Module, tmp_path: Path) -> Path:
        torch.save(network.state_dict(), tmp_path / "resnet18.pth")
        return tmp_path / "resnet18.pth"

    def loaded(self, file: object, in_channels: int) -> Backbone:
        model = model_config(backbone={"name": "torchvision", "weights": file})
        backbone = build_backbone(model.backbone, in_channels)
        load_pretrained(backbone, model.backbone)
        return backbone.eval()

    @torch.no_grad()
    def test_a_gray_image_gives_the_same_maps_as_its_rgb_copy(self, file: Path, network: nn.Module) -> None:
        gray, colour = self.loaded(file, 1), self.loaded(file, 3)
        assert torch.equal(
            colour.state_dict()["body.layer3.0.conv1.weight"], network.state_dict()["layer3.0.conv1.weight"]
        )
        images = torch.rand(2, 1, 64, 64)
        for feature_map, expected in zip(gray(images), colour(images.repeat(1, 3, 1, 1))):
            torch.testing.assert_close(feature_map, expected, atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_weights_for_gray_images_can_be_loaded(self, file: Path, tmp_path: Path) -> None:
        gray = self.loaded(file, 1)
        torch.save(gray.body.state_dict(), tmp_path / "gray.pth")
        reloaded, images = self.loaded(tmp_path / "gray.pth", 1), torch.rand(1, 1, 64, 64)
        for feature_map, expected in zip(reloaded(images), gray(images)):
            assert torch.equal(feature_map, expected)

    def test_a_checkpoint_does_not_need_the_file_again(self, file: Path, tmp_path: Path) -> None:
        model = model_config(backbone={"name": "torchvision", "weights": str(file)})
        description = DetectorSpec(model, ("bright", "dark"), 1, (0.5,), (0.2,), default_anchors(4, 2))
        detector = description.build()
        load_pretrained(detector.backbone.body, model.backbone)
        save_checkpoint(tmp_path / "last.pt", Checkpoint(description, detector.state_dict(), 1))
        file.unlink()
        loaded = load_checkpoint(tmp_path / "last.pt").load_model().state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in detector.state_dict().items())

    def test_weights_of_another_network_are_refused(self, tmp_path: Path, network: nn.Module) -> None:
        path = tmp_path / "other.pth"
        torch.save(torchvision.models.mnasnet0_5(weights=None).state_dict(), path)
        with pytest.raises(CheckpointError, match=r"other\.pth: the weights are not those of resnet18: .* is missing"):
            self.loaded(path, 1)
        torch.save({**network.state_dict(), "layer1.0.bn1.weight": torch.ones(3)}, path)
        with pytest.raises(CheckpointError, match=r"resnet18: layer1\.0\.bn1\.weight has another shape"):
            self.loaded(path, 1)

    def test_files_without_weights_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        with pytest.raises(
            CheckpointError, match=r"x\.pth: can't read the weights \(No such file .*; check model\.back"
        ):
            self.loaded(path, 1)
        path.write_bytes(b"no weights")
        with pytest.raises(CheckpointError, match=r"x\.pth: the file is damaged, or holds more than weights"):
            self.loaded(path, 1)
        torch.save(nn.Linear(1, 1), path)
        with pytest.raises(CheckpointError, match="holds more than weights, so it was not loaded"):
            self.loaded(path, 1)
        torch.save({"model": {}}, path)
        with pytest.raises(
            CheckpointError, match=r"the file holds no state dict \(name to tensor\); give a file written"
        ):
            self.loaded(path, 1)

    def test_a_failed_download_gives_one_sentence(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def offline(*_: object, **__: object) -> None:
            raise urllib.error.URLError("no network here")

        monkeypatch.setattr(urllib.request, "urlopen", offline)
        monkeypatch.setattr("torch.hub.urlopen", offline)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(
            ConfigError, match=r"weights of resnet18 \(no network here\); connect to the internet, or give"
        ):
            self.loaded("hub", 1)

    def test_weights_of_the_hub_are_loaded(self, monkeypatch: pytest.MonkeyPatch, network: nn.Module) -> None:
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: network.state_dict())
        assert torch.equal(self.loaded("hub", 3).body.conv1.weight, network.conv1.weight)  # type: ignore[union-attr]


def test_training_loads_weights_and_refuses_an_unknown_network_before_it_writes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_tiny(tmp_path, part, images=2, seed=0)
    for section, message in (({"arch": "resnet17"}, "no network"), ({"weights": "none.pth"}, "none.pth: can't read")):
        backbone = {"name": "torchvision", **section}
        config = tiny_config(tmp_path, tmp_path / "run", model={"backbone": backbone})
        with pytest.raises(DetectError, match=message):
            train(config)
        assert (tmp_path / "run").exists() == ("weights" in section)


def of_config(name: str) -> nn.Module:
    """The detector of a configuration in configs/."""
    model = load_config(CONFIGS / f"{name}.yaml").model
    shapes = default_anchors(len(proposal_strides(model, 1)), model.anchors.per_level)
    return DetectorSpec(model, tuple("abcdef"), 1, (0.5,), (0.2,), shapes).build()
