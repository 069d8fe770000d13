"""Two plain networks, the baselines of a comparison: equal convolutions, each followed by pooling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .base import StagedBackbone


class Plain(StagedBackbone):
    """Convolution, ReLU and 2x2 max pooling, several times over, all of one width.

    As a classifier such a network ends in dropout and a linear layer over its last map. Here its pooled maps are what
    the detector looks at: the first convolution's, at stride 2, is too fine for that, the second's has stride 4, the
    third's 8 and so on. Dropout stays where it was, on the last map, and only there.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        layers: number of convolutions.
        kernel: their side.
        width: channels of each.
        dropout: share of the deepest map's values that is set to zero in training.
        norm: "batch" normalises before each ReLU, which networks trained from random weights along with a detector's
            other parts want; "none" is the original form.
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
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # torch's default fades layer by layer without a norm
    normalisation = nn.BatchNorm2d(width) if norm == "batch" else nn.Identity()
    return nn.Sequential(conv, normalisation, nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True))
