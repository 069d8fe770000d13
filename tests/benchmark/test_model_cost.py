"""Parameters and multiply-adds compared with counts by hand."""

from __future__ import annotations

import torch

from detect.benchmark.speed import model_cost
from detect.config.schema import ModelConfig
from detect.models.anchors import default_anchors
from detect.models.faster_rcnn import build_detector
from tiny import TINY_MODEL


def build(**changes: object) -> torch.nn.Module:
    model = ModelConfig.model_validate({**TINY_MODEL, **changes})
    return build_detector(model, classes=2, channels=1, mean=[0.5], std=[0.2], shapes=default_anchors(2, 2))


TWO_STAGES = {"stem": 8, "widths": (8, 16), "depths": (0, 0)}


def test_multiply_adds_equal_the_count_by_hand() -> None:
    detector = build(backbone=TWO_STAGES)
    cells = {2: 20 * 32, 4: 10 * 16, 8: 5 * 8}  # of an image of 64 x 40 pixels
    stem = cells[2] * 9 * 1 * 8
    first = cells[4] * (9 * 8 * 8 + 8 * 8 + 8 * 8)  # a convolution with stride, then in and out of the CSP block
    second = cells[8] * (9 * 8 * 16 + 16 * 16 + 16 * 16)
    pyramid = cells[4] * (8 * 16 + 9 * 16 * 16) + cells[8] * (16 * 16 + 9 * 16 * 16)
    proposals = (cells[4] + cells[8]) * (9 * 16 * 16 + 16 * 2 + 16 * 8)
    head = 20 * (9 * 9 * 16 * 16 + 9 * 16 * 32 + 32 * 32 + 32 * 3 + 32 * 4)
    assert model_cost(detector, (64, 40)).multiply_adds == stem + first + second + pyramid + proposals + head


def test_all_parameters_are_counted_and_the_detector_is_unchanged() -> None:
    detector = build(backbone=TWO_STAGES).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    cost = model_cost(detector, (64, 64))
    assert cost.parameters == sum(p.numel() for p in detector.parameters())
    assert detector.training
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_a_larger_image_costs_more_unless_it_is_resized() -> None:
    assert (
        model_cost(build(backbone=TWO_STAGES), (128, 64)).multiply_adds
        > model_cost(build(backbone=TWO_STAGES), (64, 64)).multiply_adds
    )
    resized = build(backbone=TWO_STAGES, input_size=32)
    assert model_cost(resized, (64, 64)) == model_cost(resized, (128, 128)) == model_cost(resized, (32, 32))
