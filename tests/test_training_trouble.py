"""Trouble that only shows in the middle of a training is told in words too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import TINY_MODEL, tiny_config, write_tiny

from detect.config import AugmentConfig
from detect.data import Augment, DetectionDataset, TrainingLoader, read_dataset
from detect.engine import train
from detect.errors import ConfigError, DataError


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_named(tmp_path: Path, workers: int) -> None:
    records = read_dataset(write_tiny(tmp_path, "train", images=8, seed=0), role="data.train")
    images = DetectionDataset(records, channels=1, cache=False)
    images.preload()
    images.path(5).unlink()
    chain = Augment(**AugmentConfig().model_dump(exclude={"mosaic_off_epochs"}))
    loader = TrainingLoader(
        images, augment=chain, plain=chain, plain_from=1, batch_size=4, seed=0, workers=workers, pin=False
    )
    with pytest.raises(DataError) as caught:
        list(loader.epoch(1))
    assert str(caught.value) == f"{images.path(5)}: no such image; check the path"


@pytest.mark.parametrize(
    "model",
    [
        {"roi": {**TINY_MODEL["roi"], "batch_per_image": 1}},
        {"input_size": 16},  # a single cell at stride 32
    ],
)
def test_a_batch_too_small_to_be_normalised_is_told(tmp_path: Path, model: dict[str, Any]) -> None:
    write_tiny(tmp_path, "train", images=4, seed=0)
    config = tiny_config(
        tmp_path,
        tmp_path / "run",
        data={"val": None},
        model={**TINY_MODEL, **model},
        train={"epochs": 1, "batch_size": 1},
    )
    with pytest.raises(ConfigError, match=r"train\.batch_size: a batch is too small to be normalised.*; raise it"):
        train(config)
