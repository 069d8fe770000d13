"""Label offset: after augmentation, boxes have the same offset from their objects as the labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.config.schema import AugmentConfig
from detect.data.dataset import Sample
from detect.data.transforms import Augment
from detect.engine.trainer import train
from tiny import tiny_config, write_tiny

OFFSET = (-1.0, -2.0)
OFF = Augment(**AugmentConfig(crop=0).model_dump(exclude={"mosaic_off_epochs", "transpose_classes"}))
OFF = replace(OFF, flip_h=0, flip_v=0, brightness=0, contrast=0, illumination=0, label_offset_xy=OFFSET)


def rectangle_with_offset_box(seed: int, x: int | None = None) -> Sample:
    """A white rectangle on black, and its box shifted by ``OFFSET``."""
    rng = np.random.default_rng(seed)
    left, top = (int(v) for v in rng.integers(10, 60, 2))
    left = left if x is None else x
    pixels = np.zeros((100, 100), np.float32)
    pixels[top : top + 25, left : left + 30] = 1
    box = np.array([[left, top, left + 30, top + 25]], np.float32) + np.tile(np.array(OFFSET, np.float32), 2)
    return Sample(pixels, box, np.array([1], np.int64))


def extent(pixels: NDArray[np.float32]) -> list[int]:
    rows, columns = (np.flatnonzero((pixels > 0.5).any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def no_other_image() -> Sample:
    raise AssertionError("only a mosaic draws other images")


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        ({}, 0),
        ({"flip_h": 1}, 0),
        ({"flip_v": 1}, 0),
        ({"flip_h": 0.5, "flip_v": 0.5, "transpose": 0.5}, 0),
        ({"crop": 1, "crop_min": 0.5, "min_visible": 0.99}, 1.5),
        ({"mosaic": 1, "mosaic_scale": (0.8, 1.2), "min_visible": 0.99}, 1.5),
    ],
    ids=["unchanged", "flip_h", "flip_v", "flips and transpose", "crop", "mosaic"],
)
def test_the_offset_of_the_box_is_unchanged(change: dict[str, Any], tolerance: float) -> None:
    empty = Sample(np.zeros((100, 100), np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    errors = []
    for seed in range(200):
        changed = replace(OFF, **change)(rectangle_with_offset_box(seed), np.random.default_rng(seed), lambda: empty)
        if len(changed.boxes_xyxy) and min(edges := extent(changed.pixels)) > 2 and max(edges) < 98:  # not cut
            errors.append(changed.boxes_xyxy[0] - edges - np.tile(OFFSET, 2))
    assert len(errors) > 10
    assert np.abs(errors).max() <= tolerance
    assert np.abs(np.mean(errors, axis=0)).max() <= 0.15 * (tolerance > 0)


def test_without_the_option_a_flip_mirrors_the_offset() -> None:
    changed = replace(OFF, flip_h=1, label_offset_xy=(0, 0))(
        rectangle_with_offset_box(0), np.random.default_rng(0), no_other_image
    )
    assert (changed.boxes_xyxy[0] - extent(changed.pixels)).tolist() == [1, -2, 1, -2]


def test_boxes_are_clipped_at_the_border_and_dropped_outside() -> None:
    at_right_border = rectangle_with_offset_box(0, x=70)
    mirrored = replace(OFF, flip_h=1)(at_right_border, np.random.default_rng(0), no_other_image)
    assert mirrored.boxes_xyxy[0, 0] == 0
    assert mirrored.boxes_xyxy[0, 2] == 29
    thin = replace(at_right_border, boxes_xyxy=np.array([[98, 10, 99, 30]], np.float32))
    assert len(replace(OFF, flip_h=1)(thin, np.random.default_rng(0), no_other_image).boxes_xyxy) == 0
    assert len(OFF(thin, np.random.default_rng(0), no_other_image).boxes_xyxy) == 1


@pytest.mark.parametrize("offset", [(-11, 0), (0, float("nan")), (-1,), -1])
def test_an_invalid_offset_is_refused(offset: Any) -> None:
    with pytest.raises(ValueError, match="label_offset_xy"):
        AugmentConfig(label_offset_xy=offset)


def test_training_uses_the_offset_of_its_configuration(tmp_path: Path) -> None:
    write_tiny(tmp_path, "train", images=8, seed=0)
    losses = []
    for name, augment in (("none", {}), ("zero", {"label_offset_xy": [0, 0]}), ("some", {"label_offset_xy": [-3, 2]})):
        config = tiny_config(tmp_path, tmp_path / name, data={"val": None}, train={"epochs": 1}, augment=augment)
        train(config)
        losses.append(json.loads((tmp_path / name / "log.jsonl").read_text())["loss"])
    assert losses[0] == losses[1] != losses[2]
