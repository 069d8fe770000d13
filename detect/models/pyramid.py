"""Backbone and feature pyramid as one module that torchvision's detectors accept as their backbone."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from .backbones import Backbone


class Pyramid(nn.Module):
    """Feature pyramid network (Lin et al. 2017) with batch normalisation over a backbone's stages.

    Attributes:
        out_channels: channels of every level.
        strides: pixels a cell, level by level.
        names: keys of the levels, "p4" being the one at stride 4.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(backbone.out_channels, channels, norm_layer=nn.BatchNorm2d)
        self.out_channels = channels
        self.strides = list(backbone.strides)
        self.names = [f"p{stride}" for stride in self.strides]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """FloatTensor[B, C, H, W] -> {name: float32[B, out_channels, ceil(H/stride), ceil(W/stride)]}."""
        features = OrderedDict(zip(self.names, self.body(images)))
        # under autocast the levels come in bfloat16; RoIAlign and box arithmetic want float32
        return OrderedDict((name, level.float()) for name, level in self.fpn(features).items())
