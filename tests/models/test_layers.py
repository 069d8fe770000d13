"""Cheaper detector parts: separable convolutions, and levels without anchors that are only used by RoIAlign."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detect.benchmark.speed import model_cost
from detect.errors import ConfigError
from detect.models.faster_rcnn import proposal_strides
from detect.models.layers import SeparableConv
from tiny import TINY_MODEL
from tiny_detector import model_config, tiny_detector, train_one_step

LIGHT = {
    "fpn": {"channels": 16, "smoothing": "separable"},
    "rpn": {**TINY_MODEL["rpn"], "kernel": "separable", "finest_stride": 8},
}


def test_a_separable_convolution_equals_a_full_one_of_rank_one() -> None:
    """The kernel from one channel to another is the depthwise kernel times the pointwise weight."""
    separable, full = SeparableConv(3, 5, 5), nn.Conv2d(3, 5, 5, padding=2, bias=False)
    depthwise, pointwise = (layer.weight for layer in separable)
    full.weight = nn.Parameter(pointwise * depthwise.transpose(0, 1))
    x = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(separable(x), full(x))


def test_a_light_detector_trains_all_parameters_and_costs_less() -> None:
    torch.manual_seed(0)
    light = tiny_detector(**LIGHT)
    train_one_step(light)
    assert model_cost(light, (64, 64)).multiply_adds < 0.8 * model_cost(tiny_detector(), (64, 64)).multiply_adds
    (detections,) = light.eval()([torch.rand(1, 64, 64)])
    assert torch.isfinite(detections["boxes"]).all()


def test_levels_finer_than_the_finest_stride_have_no_anchors() -> None:
    assert proposal_strides(model_config(rpn={"finest_stride": 16}), 1) == [16, 32]
    detector = tiny_detector(rpn={"finest_stride": 16}).eval()
    names, objectness_shapes = [], []
    detector.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, given: names.append(list(given[0])))
    detector.rpn.head.register_forward_hook(
        lambda _, given, out: objectness_shapes.append([len(m[0, 0]) for m in out[0]])
    )
    detector([torch.rand(1, 64, 64)])
    assert names == [["p4", "p8", "p16", "p32"]], "boxes are still pooled from all levels"
    assert objectness_shapes == [[4, 2]]


def test_a_finest_stride_above_all_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"finest_stride: no level would have anchors: .* 4, 8, 16, 32; choose"):
        proposal_strides(model_config(rpn={"finest_stride": 64}), 1)
