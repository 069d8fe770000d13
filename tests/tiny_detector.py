"""Detectors small enough to build and train in a blink, for tests of their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN

from detect.config.schema import ModelConfig
from detect.inference.predictor import Predictor
from detect.models.anchors import default_anchors, fit_anchors
from detect.models.checkpoint import Checkpoint, DetectorSpec, save_checkpoint
from detect.models.faster_rcnn import build_detector, proposal_strides
from tiny import CATEGORIES, TINY_MODEL


def model_config(**changes: Any) -> ModelConfig:
    """The tiny model with other sections."""
    return ModelConfig.model_validate({**TINY_MODEL, **changes})


def tiny_detector(*, channels: int = 1, **changes: Any) -> FasterRCNN:
    """A detector of two classes with random weights."""
    model = model_config(**changes)
    return build_detector(
        model,
        classes=2,
        channels=channels,
        mean=[0.5] * channels,
        std=[0.2] * channels,
        shapes=default_anchors(len(proposal_strides(model, channels)), 2),
    )


def train_one_step(detector: FasterRCNN) -> None:
    """One step of descent on two noise images with a box each; every gradient has to be there and finite."""
    detector.train()
    channels = len(detector.transform.image_mean)
    target = {"boxes": torch.tensor([[4.0, 4, 40, 30]]), "labels": torch.tensor([1])}
    losses = detector([torch.rand(channels, 64, 64), torch.rand(channels, 64, 64)], [target, target])
    torch.stack(list(losses.values())).sum().backward()
    without = [name for name, p in detector.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    torch.optim.SGD(detector.parameters(), lr=1e-3).step()


def untrained(folder: Path, *, channels: int = 1, categories: tuple[str, ...] = CATEGORIES) -> Predictor:
    """A detector with random weights that reports something everywhere."""
    torch.manual_seed(0)
    roi = {**TINY_MODEL["roi"], "score_threshold": 0.0}
    shapes = fit_anchors(np.random.default_rng(0).uniform(8, 40, (100, 2)), 4, 2)
    detector = DetectorSpec(
        ModelConfig.model_validate({**TINY_MODEL, "roi": roi}),
        categories,
        channels,
        (0.5,) * channels,
        (0.2,) * channels,
        shapes,
    )
    save_checkpoint(folder / "random.pt", Checkpoint(detector, detector.build().state_dict(), epoch=0))
    return Predictor.load(folder / "random.pt", device="cpu")
