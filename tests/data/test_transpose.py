"""Transposed training images: all, or only those of some classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.config.schema import AugmentConfig
from detect.data.dataset import Sample
from detect.data.transforms import Augment, transpose
from detect.datasets import coco
from detect.engine.trainer import train
from detect.errors import ConfigError
from detect.images import write_image
from detect.structures import Dataset, Image
from tiny import CATEGORIES, TINY_MODEL, tiny_config, write_tiny

NOTHING = {name: 0 for name in ("flip_h", "flip_v", "crop", "brightness", "contrast", "illumination")}
OFF = Augment(**AugmentConfig(**NOTHING).model_dump(exclude={"mosaic_off_epochs", "transpose_classes"}))


def square(seed: int, *, channels: int = 1, label: int = 1) -> Sample:
    """One white upright rectangle on black, with its box."""
    x, y = np.random.default_rng(seed).integers(0, 60, 2).tolist()
    pixels = np.zeros((100, 100) if channels == 1 else (100, 100, channels), np.float32)
    pixels[y : y + 40, x : x + 10] = 1
    return Sample(pixels, np.array([[x, y, x + 10, y + 40]], np.float32), np.array([label], np.int64))


def extent(pixels: np.ndarray) -> list[int]:
    """Corners of the bright area."""
    rows, columns = (np.flatnonzero((pixels.reshape(100, 100, -1)[..., 0] > 0.5).any(axis=k)) for k in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def no_other_image() -> Sample:
    raise AssertionError("only a mosaic draws other images")


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_and_motion_follow_the_pixels(channels: int) -> None:
    sample = replace(square(0, channels=channels), motion_xy=(3.0, -2.0))
    transposed = transpose(sample)
    np.testing.assert_array_equal(transposed.boxes_xyxy[0], extent(transposed.pixels))
    np.testing.assert_array_equal(transposed.boxes_xyxy[0], sample.boxes_xyxy[0][[1, 0, 3, 2]])
    assert transposed.pixels.shape == sample.pixels.shape
    assert transposed.motion_xy == (-2.0, 3.0)
    np.testing.assert_array_equal(transpose(transposed).pixels, sample.pixels)


def share_transposed(labels: frozenset[int] | None, make: Callable[[int], Sample]) -> float:
    augment = replace(OFF, transpose=0.5, transpose_labels=labels)
    changed = [(make(seed), augment(make(seed), np.random.default_rng(seed), no_other_image)) for seed in range(200)]
    for _, after in changed:
        assert not len(after.boxes_xyxy) or (after.boxes_xyxy[0] == extent(after.pixels)).all()
    return float(np.mean([not np.array_equal(before.pixels, after.pixels) for before, after in changed]))


def test_the_configured_share_of_images_of_the_given_classes_is_transposed() -> None:
    assert 0.4 < share_transposed(None, lambda seed: square(seed, label=1)) < 0.6
    assert 0.4 < share_transposed(frozenset({2}), lambda seed: square(seed, label=2)) < 0.6
    assert share_transposed(frozenset({2}), lambda seed: square(seed, label=1)) == 0


def test_images_with_other_classes_or_without_boxes_are_not_transposed() -> None:
    def both(seed: int) -> Sample:
        one = square(seed, label=2)
        return replace(one, boxes_xyxy=np.repeat(one.boxes_xyxy, 2, axis=0), labels=np.array([2, 1]))

    assert share_transposed(frozenset({2}), both) == 0
    assert 0.4 < share_transposed(frozenset({1, 2}), both) < 0.6
    augment = replace(OFF, transpose=1.0, transpose_labels=frozenset({1, 2}))
    empty = Sample(np.tril(np.ones((100, 100), np.float32)), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    np.testing.assert_array_equal(augment(empty, np.random.default_rng(0), no_other_image).pixels, empty.pixels)


def test_training_transposes_only_if_configured(tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    losses = []
    for name, augment in (
        ("off", {"transpose": 0.0, "transpose_classes": ["no such"]}),
        ("on", {"transpose": 1.0}),
        ("never", {}),
    ):
        config = tiny_config(tmp_path, tmp_path / name, data={"val": None}, train={"epochs": 1}, augment=augment)
        train(config)
        losses.append((tmp_path / name / "log.jsonl").read_text().split('"loss": ')[1].split(",")[0])
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment": {"transpose": 0.5, "transpose_classes": ["rust"]}},
            r"transpose_classes: the data has no class 'rust'.*bright, dark",
        ),
        ({"augment": {"transpose": 1.5}}, r"augment\.transpose"),
        (
            {"augment": {"transpose": 0.5, "mosaic": 0}, "clips": {"length": 2}},
            r"augment\.transpose: a strip moves in one direction.*; set it to 0",
        ),
    ],
)
def test_invalid_transpose_settings_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tiny(tmp_path, "train", images=4, seed=0)
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(tmp_path, tmp_path / "run", data={"val": None}, **changes))


def test_images_that_are_not_square_are_refused_but_square_windows_are_not(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / f"{number}.png", np.random.default_rng(number).integers(0, 256, (64, 80), np.uint8))
    images = tuple(Image(tmp_path / f"{number}.png", 80, 64, ()) for number in range(4))
    coco.write({"train": Dataset(images, CATEGORIES)}, tmp_path)
    changes = {"augment": {"transpose": 0.5}, "train": {"epochs": 1}}
    shapes = [[[20, 20], [30, 30]]] * 4  # no boxes to fit anchors to
    model = {**TINY_MODEL, "anchors": {"per_level": 2, "shapes": shapes}}
    with pytest.raises(ConfigError, match=r"augment\.transpose: only square images.*0\.png has 80 x 64 pixels; set it"):
        train(tiny_config(tmp_path, tmp_path / "run", data={"val": None, "allow_empty": True}, model=model, **changes))
    train(
        tiny_config(
            tmp_path, tmp_path / "run", data={"val": None, "allow_empty": True, "window": 48}, model=model, **changes
        )
    )
