"""Backbones: image in, one feature map a stage out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ConvNormAct, CspBlock


class Csp(nn.Module):
    """A light CSP network for training from scratch: a gentle stem, then one CSP block at each stride.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels at stride 2.
        widths: channels of the stages, at strides 4, 8, 16, ...
        depths: residual pairs in each stage.

    Shape:
        FloatTensor[B, in_channels, H, W] -> list of FloatTensor[B, widths[i], ceil(H / 2^(i+2)), ceil(W / 2^(i+2))].
    """

    def __init__(self, in_channels: int, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = list(widths)
        self.strides = [2 ** (i + 2) for i in range(len(widths))]
        self.stem = ConvNormAct(in_channels, stem, stride=2)
        self.stages = nn.ModuleList()
        entering = stem
        for width, depth in zip(widths, depths):
            self.stages.append(nn.Sequential(ConvNormAct(entering, width, stride=2), CspBlock(width, width, depth)))
            entering = width

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


BACKBONES = {"csp": Csp}
