"""The light CSP network, made for training from scratch on small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..layers import ConvNormAct, CspBlock
from .base import StagedBackbone


class Csp(StagedBackbone):
    """A gentle stem, then one CSP block at each stride.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels at stride 2.
        widths: channels of the stages, at strides 4, 8, 16, ...
        depths: residual pairs in each stage.
    """

    def __init__(self, in_channels: int, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        stages, entering = [], stem
        for width, depth in zip(widths, depths):
            stages.append(nn.Sequential(ConvNormAct(entering, width, stride=2), CspBlock(width, width, depth)))
            entering = width
        super().__init__(ConvNormAct(in_channels, stem, stride=2), stages, widths)
