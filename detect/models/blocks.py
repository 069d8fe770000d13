"""Building blocks of the networks: convolution with normalisation, and a cross-stage-partial block."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation, SiLU; FloatTensor[B, in, H, W] -> [B, out, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(inplace=True),
        )


class SeparableConv(nn.Sequential):
    """A convolution of each channel alone, then one of 1x1 over all of them (Howard et al. 2017, MobileNets).

    FloatTensor[B, in, H, W] -> [B, out, H, W], in about a ninth of the multiplications of a full 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, bias: bool = False) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        )


class CspBlock(nn.Module):
    """Cross-stage-partial block: half of the channels pass ``depth`` residual pairs of 3x3 convolutions.

    The outputs of all pairs are kept and joined with the untouched half, so that gradients reach every depth
    directly (Wang et al. 2020, CSPNet; the dense joining follows ELAN, Wang et al. 2022).
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        half = max(out_channels // 2, 1)
        self.enter = ConvNormAct(in_channels, 2 * half, kernel=1)
        self.pairs = nn.ModuleList(
            nn.Sequential(ConvNormAct(half, half), ConvNormAct(half, half)) for _ in range(depth)
        )
        self.leave = ConvNormAct((2 + depth) * half, out_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, dim=1))
        for pair in self.pairs:
            parts.append(parts[-1] + pair(parts[-1]))
        return torch.as_tensor(self.leave(torch.cat(parts, dim=1)))
