"""What a detector costs: its parameters, and the multiplications for one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from ..config.schema import MemoryConfig, ModelConfig
from .fpn import build_pyramid
from .roi_heads import BoxHead


def count_parameters(model: ModelConfig, channels: int, *, layers: int) -> float:
    """Parameters of the parts whose size a configuration sets: backbones, pyramids and the box heads.

    Args:
        model: the description, from a file that nobody vouches for.
        channels: of the images.
        layers: most layers that are counted; a network with more is infinitely large.

    Raises:
        ConfigError: parts that don't fit together.
    """
    if _max_depth(model) > layers:
        return math.inf
    light = model.memory.light if isinstance(model.memory, MemoryConfig) else None
    with torch.device("meta"):  # which takes no memory
        pyramids = [build_pyramid(model, channels)]
        if light is not None:
            pyramids.append(build_pyramid(model.model_copy(update={"backbone": light, "scan": None}), channels))
        roi = model.roi
        sizes = {"convs": roi.convs, "conv_width": roi.conv_width, "fc_width": roi.fc_width}
        head = BoxHead(model.fpn.channels, roi.pool, **sizes, dropout=0.0)
    parts: list[nn.Module] = [*pyramids, *[head] * roi.stages]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _max_depth(model: ModelConfig) -> int:
    """The largest number of layers that one key asks for."""
    backbones: list[Any] = [model.backbone, *([model.memory.light] if model.memory and model.memory.light else [])]
    depths: list[int] = [depth for each in backbones for depth in getattr(each, "depths", ())]
    return max([model.roi.convs, model.rpn.convs, *depths])


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Size and work of a detector.

    Attributes:
        parameters: weights that can be trained.
        multiply_adds: of all convolutions and matrix products for one image; other arithmetic, such as normalisation,
            RoIAlign and non-maximum suppression, isn't counted.
    """

    parameters: int
    multiply_adds: int


@torch.no_grad()
def model_cost(detector: FasterRCNN, size_wh: tuple[int, int]) -> ModelCost:
    """Count parameters and multiply-adds of a detector on one image.

    The box head is counted for as many proposals as may reach it, so that the figure depends on the network and the
    image's size alone, not on what is seen.

    Args:
        detector: in any mode; it is left as it was.
        size_wh: width and height of the image in pixels, before the detector resizes or pads it.
    """
    parameters = list(detector.parameters())
    width, height = size_wh
    training = detector.training
    detector.eval()
    blank = torch.zeros(len(detector.transform.image_mean), height, width, device=parameters[0].device)
    heads, pool = detector.roi_heads, detector.roi_heads.box_roi_pool
    counter = FlopCounterMode(display=False)
    with counter:
        batch, _ = detector.transform([blank])
        levels = list(detector.backbone(batch.tensors).values())
        detector.rpn.head(levels)
        pooled = blank.new_zeros(detector.rpn.post_nms_top_n(), levels[0].shape[1], *pool.output_size)
        for stage in heads.stages():
            stage(pooled)
    detector.train(training)
    multiply_adds = counter.get_total_flops() // 2  # a multiplication and an addition count as two operations
    return ModelCost(sum(p.numel() for p in parameters), multiply_adds)
