"""Deep gray images: every bit goes from the file to the network, in training, judging, detecting, on a known scale."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detect.config.loading import parse_config
from detect.data.clips import estimate_motion
from detect.data.dataset import DetectionDataset, describe_bit_depth, unit_range
from detect.data.loader import to_tensor
from detect.datasets import coco
from detect.datasets.audit import check_depth
from detect.datasets.duplicates import Fingerprint
from detect.engine.trainer import train
from detect.errors import ConfigError, DataError
from detect.evaluation.summary import judge
from detect.images import likely_white, read_image, write_image
from detect.inference.predictor import Predictor
from detect.models.checkpoint import load_checkpoint
from detect.models.faster_rcnn import HighPrecisionConv2d, use_high_precision_stem
from detect.structures import Box, Dataset, Image
from detect.synthetic.corruptions import corrupt
from detect.visualize import to_uint8
from tiny import SIDE, TINY_MODEL, tiny_config, write_parts
from tiny_detector import model_config, tiny_detector

WHITE = 4095  # of a camera of 12 bits
CALM = {"brightness": 0, "contrast": 0.1, "illumination": 0, "mosaic": 0, "crop": 0, "mosaic_off_epochs": 0}


def write_faint(folder: Path, part: str, *, images: int, seed: int) -> Path:
    """12-bit pictures that are all 0x80 in their upper byte: noise of 0 to 7, and 8 more on the defect."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(images):
        pixels = 2048 + rng.integers(0, 8, (SIDE, SIDE))
        width, height = (int(v) for v in rng.integers(16, 30, 2))
        x, y = int(rng.integers(0, SIDE - width)), int(rng.integers(0, SIDE - height))
        pixels[y : y + height, x : x + width] += 8
        path = folder / part / f"{number}.{'png' if number % 2 else 'tif'}"
        path.parent.mkdir(exist_ok=True)
        write_image(path, pixels.astype(np.uint16))
        records.append(Image(path, SIDE, SIDE, (Box("faint", (x, y, x + width, y + height)),)))
    return coco.write({part: Dataset(tuple(records), ("faint",))}, folder)[part]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json and val.json."""
    folder = tmp_path_factory.mktemp("faint")
    write_faint(folder, "train", images=16, seed=0)
    write_faint(folder, "val", images=6, seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them."""
    config = tiny_config(
        data,
        tmp_path_factory.mktemp("runs") / "run",
        data={"max_value": WHITE},
        train={"epochs": 12, "lr": 1e-2, "val_every": 4},
        augment=CALM,
    )
    with (data / "said.txt").open("w") as said, redirect_stdout(said):
        return train(config)


class TestTheLowBitsCarryTheDefect:
    def test_nothing_is_left_of_it_in_8_bits(self, data: Path) -> None:
        pixels = read_image(data / "val" / "0.tif")
        assert pixels.dtype == np.uint16
        assert len(np.unique(pixels)) == 16
        assert len(np.unique(pixels >> 4)) == 1

    def test_every_bit_reaches_the_network(self, data: Path) -> None:
        images = DetectionDataset(coco.read(data / "val.json"), channels=1, max_value=WHITE)
        mean, std = images.normalisation()
        detector = tiny_detector()
        detector.transform.image_mean, detector.transform.image_std = mean, std
        for position in range(len(images)):
            batch, _ = detector.transform([to_tensor(images[position].pixels)])
            back = (batch.tensors[0, 0].double() * std[0] + mean[0]) * WHITE
            np.testing.assert_allclose(back.numpy(), read_image(images.path(position)), atol=0.01)
            assert batch.tensors.std() > 0.3  # on a scale that a network can see

    def test_training_says_what_white_is(self, trained: Path, data: Path) -> None:
        assert "16-bit images: black is 0 and white 4,095 (data.max_value)" in (data / "said.txt").read_text()

    def test_it_is_learned(self, trained: Path) -> None:
        log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
        assert log[-1]["val"]["AP50"] > 0.8

    def test_judged_and_detected_with_the_same_bits(self, trained: Path, data: Path) -> None:
        predictor = Predictor.load(trained, device="cpu")
        dataset = coco.read(data / "val.json")
        found = predictor.detect_dataset(dataset)
        assert judge(coco.load(data / "val.json"), found).summary["AP50"] > 0.8
        for number, image in enumerate(dataset.images, start=1):
            sure = max((f for f in found if f["image_id"] == number), key=lambda f: float(str(f["score"])))
            for given in (image.path, read_image(image.path)):
                (best, *_) = predictor(given)
                assert best.score == pytest.approx(sure["score"], abs=1e-4)
                assert best.xyxy[:2] == pytest.approx(sure["bbox"][:2], abs=0.01)
            assert len(predictor((read_image(image.path) >> 4) << 4).above(0.1)) == 0

    def test_a_stream_of_frames_sees_them_too(self, trained: Path, data: Path) -> None:
        predictor = Predictor.load(trained, device="cpu")
        pixels = read_image(data / "val" / "1.png")
        np.testing.assert_allclose(predictor.stream()(pixels).scores, predictor(pixels).scores, atol=1e-5)

    def test_the_verbs_find_and_draw_it(
        self, trained: Path, data: Path, tmp_path: Path, detect: Callable[..., Any]
    ) -> None:
        told = "16-bit images: black is 0 and white 4,095 (data.max_value); as in training"
        image, run = data / "val" / "1.png", trained
        outcome = detect("infer", image, "--weights", run, "--out", tmp_path, "--draw", "--json")
        assert outcome.code == 0
        assert f"{told}; drawings are stretched to 8 bits" in outcome.err
        (entry,) = json.loads(outcome.out)["images"]
        assert entry["detections"][0]["score"] > 0.5
        assert read_image(Path(entry["picture"])).std() > 20  # the picture shows something
        outcome = detect("evaluate", trained, "--out", tmp_path / "report")
        assert outcome.code == 0
        assert told in outcome.err
        assert "16-bit images are shown with 8 bits" in (tmp_path / "report" / "report.html").read_text()

    def test_images_beyond_white_are_named(self, trained: Path, tmp_path: Path, detect: Callable[..., Any]) -> None:
        pixels = np.full((SIDE, SIDE), 5000, np.uint16)
        write_image(tmp_path / "bright.png", pixels)
        predictor = Predictor.load(trained, device="cpu")
        words = r"bright\.png: the image has gray values up to 5,000, beyond the white of 4,095; set the white"
        with pytest.raises(DataError, match=words):
            predictor(tmp_path / "bright.png")
        for call in (predictor, predictor.stream()):
            with pytest.raises(DataError, match="beyond the white of 4,095"):
                call(pixels)
        outcome = detect("infer", tmp_path / "bright.png", "--weights", trained)
        assert outcome.code == 2
        assert "bright.png: the image has gray values up to 5,000" in outcome.err
        outcome = detect("infer", tmp_path / "bright.png", "--weights", trained, "--max-value", 16383)
        assert outcome.code == 0
        assert "white 16,383 (--max-value); the detector was trained with 4,095" in outcome.err

    def test_a_detector_of_8_bits_is_told_the_white_of_12(
        self, data: Path, tmp_path: Path, detect: Callable[..., Any]
    ) -> None:
        """What is advised is an option of the verb, and following it finds what the 8-bit image of the same has."""
        bright = (read_image(data / "val" / "1.png") >> 4).astype(np.uint8)
        bright[8:30, 8:30] = 250
        write_image(tmp_path / "eight.png", bright)
        write_image(tmp_path / "twelve.tif", np.rint(bright * (4095 / 255)).astype(np.uint16))
        run = train(tiny_config(write_parts(tmp_path / "data"), tmp_path / "run", train={"epochs": 1}))
        outcome = detect("infer", tmp_path / "twelve.tif", "--weights", run)
        assert "--max-value 4095 would give them the whole range" in outcome.err
        images = [tmp_path / name for name in ("eight.png", "twelve.tif")]
        outcome = detect("infer", *images, "--weights", run, "--max-value", 4095, "--threshold", 0.01, "--json")
        eight, twelve = (entry["detections"] for entry in json.loads(outcome.out)["images"])
        assert len(eight) == len(twelve) > 0
        assert [each["score"] for each in twelve] == pytest.approx([each["score"] for each in eight], abs=0.01)
        for verb in (["infer", tmp_path / "twelve.tif", "--weights"], ["evaluate"], ["label-issues"], ["serve"]):
            outcome = detect(*verb, run, "--max-value", 17)
            assert (outcome.code, "max_value: white is 17; give 255 to 65535" in outcome.err) == (2, True)


class TestTheScale:
    def test_travels_with_the_weights(self, trained: Path) -> None:
        detector = load_checkpoint(trained).detector
        assert detector.max_value == WHITE
        first = next(part for part in detector.build().backbone.modules() if isinstance(part, nn.Conv2d))
        assert isinstance(first, HighPrecisionConv2d)

    def test_white_is_one(self) -> None:
        deep = np.array([[0, 4095, 65535]], np.uint16)
        np.testing.assert_allclose(unit_range(deep), [[0, 4095 / 65535, 1]], rtol=1e-6)
        np.testing.assert_allclose(unit_range(deep[:, :2], 4095), [[0, 1]], rtol=1e-6)
        np.testing.assert_allclose(unit_range(np.array([[0, 255]], np.uint8), 4095), [[0, 1]], rtol=1e-6)
        every = np.arange(2**16, dtype=np.uint16)
        assert len(np.unique(unit_range(every))) == 2**16

    @pytest.mark.parametrize(
        ("brightest", "white"), [(200, 255), (256, 1023), (1024, 4095), (4096, 16383), (16384, 65535)]
    )
    def test_the_white_that_fits(self, brightest: int, white: int) -> None:
        assert likely_white(brightest) == white

    def test_a_white_level_above_the_data_is_reported_with_a_warning(self) -> None:
        said, warning = describe_bit_depth(4000, None)
        assert said == "16-bit images: black is 0 and white 65,535 (the whole depth)"
        assert warning is not None
        assert "a camera of 12 bits" in warning
        assert "data.max_value=4095" in warning
        assert describe_bit_depth(4000, 4095) == ("16-bit images: black is 0 and white 4,095 (data.max_value)", None)
        assert describe_bit_depth(40_000, None)[1] is None

    def test_the_audit_notes_it_over_all_images(self, tmp_path: Path) -> None:
        images = [Image(tmp_path / f"{i}.png", 8, 8) for i in range(3)]
        small = np.zeros((32, 32), np.float32)

        def prints(*brightest: int | None) -> list[Fingerprint]:
            return [Fingerprint(b"", small, brightest=each) for each in brightest]

        (note,) = check_depth(images, prints(900, 3000, None))
        assert (note.severity, note.path.name) == ("note", "1.png")
        assert "the 2 16-bit images go up to 3,000, as those of a camera of 12 bits do" in note.message
        assert check_depth(images, prints(None, None, None)) == []
        assert check_depth(images, prints(900, 60_000, None)) == []

    @pytest.mark.parametrize("value", [0, 100, 65536, "12 bits"])
    def test_a_white_that_none_can_be_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigError, match=r"data\.max_value"):
            parse_config({"data": {"max_value": value}})

    def test_motion_is_read_alike_at_every_depth(self) -> None:
        rng = np.random.default_rng(0)
        strip = np.kron(rng.integers(60, 200, (60, 40)), np.ones((4, 4)))
        before, after = strip[:160], strip[12:172]
        told = estimate_motion(before.astype(np.uint8), after.astype(np.uint8))
        assert told == pytest.approx((0, -12), abs=0.5)
        deep = [(each * 16).astype(np.uint16) for each in (before, after)]
        assert estimate_motion(*deep, 4080) == pytest.approx(told, abs=0.01)

    def test_corruption_takes_it_for_white(self) -> None:
        dark = np.full((32, 32), 400, np.uint16)
        lit = corrupt(dark, "overexposure", 5, max_value=4095)
        assert lit.max() > 1023  # the least white that would hold it
        assert corrupt(dark, "overexposure", 5).max() <= 1023

    def test_the_picture_for_the_eye_is_numpy_s_quantiles(self) -> None:
        pixels = np.random.default_rng(0).integers(300, 9000, (90, 70)).astype(np.uint16)
        low, high = np.quantile(pixels, (0.001, 0.999))
        expected = np.rint(np.clip((pixels - low) * (255 / (high - low)), 0, 255))
        np.testing.assert_array_equal(to_uint8(pixels), expected)


class TestTheFirstConvolution:
    @torch.no_grad()
    def test_sees_what_bfloat16_would_round_away(self) -> None:
        torch.manual_seed(0)
        plain = nn.Conv2d(1, 4, 3)
        deep = nn.Conv2d(1, 4, 3)
        deep.load_state_dict(plain.state_dict())
        deep.__class__ = HighPrecisionConv2d
        ramp = torch.linspace(-2, 2, 64)[None, None, None].repeat(1, 1, 64, 1)
        marked = ramp.clone()
        marked[..., 20:40, 20:40] += 2e-4  # of 16 bits, a few gray levels of an image that uses them all
        exact = (plain(marked) - plain(ramp)).abs().max()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = (plain(marked) - plain(ramp)).float()
            kept = deep(marked) - deep(ramp)
        assert kept.dtype == torch.float32
        assert kept.abs().max() == pytest.approx(float(exact), rel=0.01)
        assert (rounded - (plain(marked) - plain(ramp))).abs().max() > exact / 3

    def test_in_two_parts_is_the_same(self) -> None:
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        conv.__class__ = HighPrecisionConv2d
        images = torch.randn(2, 3, 33, 41)
        torch.testing.assert_close(conv.split_forward(images), conv(images), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", ["csp", "plain3", "recurrent_conv"])
    def test_of_every_backbone_keeps_its_weights(self, name: str) -> None:
        backbone: dict[str, Any] = {"name": name} if name != "csp" else dict(TINY_MODEL["backbone"])
        detector = tiny_detector(backbone=backbone).eval()
        before = detector.state_dict()
        image = torch.rand(1, 64, 64)
        expected = detector([image])[0]["scores"]
        use_high_precision_stem(detector)
        assert detector.state_dict().keys() == before.keys()
        torch.testing.assert_close(detector([image])[0]["scores"], expected)
        assert sum(isinstance(part, HighPrecisionConv2d) for part in detector.modules()) == 1

    def test_what_a_kind_of_convolution_computes_itself_stays(self) -> None:
        class Standardised(nn.Conv2d):
            """Weight standardisation (Qiao et al. 2019)."""

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
                return self._conv_forward(images, weight, self.bias)

        class Doubled(nn.Conv2d):
            def _conv_forward(self, images: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
                return 2 * super()._conv_forward(images, weight, bias)

        torch.manual_seed(0)
        for kind in (Standardised, Doubled, nn.Conv2d):
            detector = tiny_detector()
            stem = detector.backbone.body
            place, first = next((n, part) for n, part in stem.named_modules() if isinstance(part, nn.Conv2d))
            own = kind(1, first.out_channels, 3, stride=first.stride, padding=1, bias=True)
            parent = stem.get_submodule(place.rpartition(".")[0])
            setattr(parent, place.rpartition(".")[2], own)
            images = torch.randn(2, 1, 32, 40)
            expected = own(images)
            use_high_precision_stem(detector)
            use_high_precision_stem(detector)  # twice is once
            assert isinstance(own, kind)
            assert isinstance(own, HighPrecisionConv2d)
            torch.testing.assert_close(own(images), expected)
            torch.testing.assert_close(own.split_forward(images), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(copy.deepcopy(own)(images), expected)

    def test_a_parametrised_weight_stays_parametrised(self) -> None:
        detector = tiny_detector()
        first = next(part for part in detector.backbone.body.modules() if isinstance(part, nn.Conv2d))
        nn.utils.parametrizations.weight_norm(first)
        images = torch.randn(1, 1, 32, 32)
        expected = first(images)
        use_high_precision_stem(detector)
        torch.testing.assert_close(first(images), expected)

    def test_of_the_light_backbone_too(self) -> None:
        light = {"stem": 8, "widths": (8, 8, 8, 8), "depths": (0, 0, 0, 0)}
        detector = tiny_detector(memory=model_config(memory={"light": light}).memory)
        use_high_precision_stem(detector)
        assert sum(isinstance(part, HighPrecisionConv2d) for part in detector.modules()) == 2


def test_a_spread_below_a_gray_level_is_no_division_by_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "flat.png", np.full((8, 8), 1000, np.uint16))
    images = DetectionDataset(Dataset((Image(tmp_path / "flat.png", 8, 8),), ("x",)), channels=1)
    mean, std = images.normalisation()
    assert mean == [pytest.approx(1000 / 65535, rel=1e-5)]
    assert std[0] == pytest.approx(0.25 / 65535, rel=1e-3)
    assert math.isfinite(1 / std[0])
