"""How many parameters a detector would have, found out without building it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..config import MemoryConfig, ModelConfig
from .heads import BoxHead
from .pyramid import build_pyramid


def parameters_of(model: ModelConfig, channels: int, *, layers: int) -> float:
    """Parameters of the parts whose size a configuration sets: backbones, pyramids and the box heads.

    Args:
        model: the description, from a file that nobody vouches for.
        channels: of the images.
        layers: most layers that are counted; a network with more is infinitely large.

    Raises:
        ConfigError: parts that don't fit together.
    """
    if _deepest(model) > layers:
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


def _deepest(model: ModelConfig) -> int:
    """The largest number of layers that one key asks for."""
    backbones: list[Any] = [model.backbone, *([model.memory.light] if model.memory and model.memory.light else [])]
    depths: list[int] = [depth for each in backbones for depth in getattr(each, "depths", ())]
    return max([model.roi.convs, model.rpn.convs, *depths])
