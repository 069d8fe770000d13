"""Base classes of backbones, and backbones with a stem and sequential stages: plain CNNs and the CSP network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ...errors import ConfigError
from ..layers import ConvNormAct, CspBlock


class Backbone(nn.Module):
    """Base class: a network that maps an image to one feature map per stride.

    Attributes:
        out_channels: channels of each map, finest first.
        strides: pixels per cell of each map, each twice the previous one.

    Shape:
        FloatTensor[B, in_channels, H, W] -> list of FloatTensor[B, out_channels[i], ceil(H / strides[i]),
        ceil(W / strides[i])].
    """

    out_channels: list[int]
    strides: list[int]

    @property
    def label(self) -> str:
        """Description in the model summary."""
        return type(self).__name__

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def keep_only(self, stride: int) -> None:
        """Return only the map at this stride from now on, and remove later stages.

        Raises:
            ConfigError: there is no map at this stride.
        """
        if stride not in self.strides:
            message = f"the backbone has no level at stride {stride}, only at {', '.join(map(str, self.strides))}"
            raise ConfigError(message, where="model.fpn.single_stride", fix="choose one of these")
        level = self.strides.index(stride)
        self.strides, self.out_channels = [stride], [self.out_channels[level]]
        self._drop_after(level)

    def _drop_after(self, level: int) -> None:
        raise NotImplementedError


class StagedBackbone(Backbone):
    """A stem, then sequential stages, each of which halves the resolution and outputs one map.

    Args:
        stem: image -> map at stride 2.
        stages: modules at strides 4, 8, 16, ...
        out_channels: of the stages.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = list(out_channels)
        self.strides = [2 ** (i + 2) for i in range(len(stages))]
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[-len(self.strides) :]

    def _drop_after(self, level: int) -> None:
        self.stages = self.stages[: level + 1]


class Plain(StagedBackbone):
    """Plain CNN: blocks of convolution, ReLU and 2x2 max pooling, all of the same width.

    As a classifier, such a network ends in dropout and a linear layer on its last map. Here the outputs of the blocks
    are the maps of the detector: the second has stride 4, the third 8 and so on; the first, at stride 2, is not used.
    Dropout is applied to the last map only, as in the classifier.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        layers: number of convolutions.
        kernel: side of the kernels.
        width: channels of each convolution.
        dropout: probability of zeroing values of the deepest map in training.
        norm: "batch" adds batch normalisation before each ReLU, for training a detector from random weights; "none" is
            the original network.
    """

    def __init__(
        self, in_channels: int, *, layers: int, kernel: int, width: int, dropout: float, norm: Literal["batch", "none"]
    ) -> None:
        first = _pooled_conv(in_channels, width, kernel, norm)
        others = [_pooled_conv(width, width, kernel, norm) for _ in range(layers - 1)]
        super().__init__(first, others, [width] * (layers - 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> list[Tensor]:
        *finer, deepest = super().forward(images)
        return [*finer, self.dropout(deepest)]


class Plain3(Plain):
    """Three 3x3 convolutions; maps at strides 4 and 8. The arguments are Plain's."""

    def __init__(self, in_channels: int, width: int, dropout: float, norm: Literal["batch", "none"]) -> None:
        super().__init__(in_channels, layers=3, kernel=3, width=width, dropout=dropout, norm=norm)


class Plain5(Plain):
    """Five 5x5 convolutions; maps at strides 4, 8, 16 and 32. The arguments are Plain's."""

    def __init__(self, in_channels: int, width: int, dropout: float, norm: Literal["batch", "none"]) -> None:
        super().__init__(in_channels, layers=5, kernel=5, width=width, dropout=dropout, norm=norm)


def _pooled_conv(in_channels: int, width: int, kernel: int, norm: Literal["batch", "none"]) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2, bias=norm == "none")
    # with torch's default and without a norm, activations would shrink with each layer
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    normalisation = nn.BatchNorm2d(width) if norm == "batch" else nn.Identity()
    return nn.Sequential(conv, normalisation, nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True))


class Csp(StagedBackbone):
    """A stem of one convolution, then a strided convolution and a CSP block at each stride.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels at stride 2.
        widths: channels of the stages, at strides 4, 8, 16, ...
        depths: residual pairs of 3x3 convolutions per stage.
    """

    def __init__(self, in_channels: int, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        stages, in_width = [], stem
        for width, depth in zip(widths, depths):
            stages.append(nn.Sequential(ConvNormAct(in_width, width, stride=2), CspBlock(width, width, depth)))
            in_width = width
        super().__init__(ConvNormAct(in_channels, stem, stride=2), stages, widths)
