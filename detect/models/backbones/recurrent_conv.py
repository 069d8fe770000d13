"""Recurrent convolutional network (Liang & Hu 2015): layers with recurrent connections between neighbouring cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .staged import StagedBackbone


class RecurrentConvCell(nn.Module):
    """One step of a recurrent convolutional layer.

    Shape:
        drive (feed-forward input) and state: FloatTensor[B, width, H, W] -> the next state, of the same shape.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrent = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, drive: Tensor, state: Tensor, norm: nn.Module) -> Tensor:
        return F.relu(norm(drive + self.recurrent(state)))


class RecurrentConvLayer(nn.Module):
    """A convolution whose output is the input of ``steps`` recurrent steps; with 0 steps: convolution, norm, ReLU.

    The feed-forward convolution is computed once and all steps share the recurrent weights, so that each step enlarges
    the receptive field without further weights. Each step has its own normalisation, as the states of different steps
    have different statistics. It is batch normalisation instead of the paper's local response normalisation.

    Shape:
        FloatTensor[B, in_channels, H, W] -> FloatTensor[B, width, H, W].
    """

    def __init__(self, in_channels: int, width: int, steps: int) -> None:
        super().__init__()
        self.feed_forward = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.step_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(steps))
        self.cell = RecurrentConvCell(width) if steps else None

    def forward(self, x: Tensor) -> Tensor:
        drive = self.feed_forward(x)
        state = F.relu(self.first_norm(drive))
        if self.cell is not None:
            for norm in self.step_norms:
                state = self.cell(drive, state, norm)
        return state


class RecurrentConv(StagedBackbone):
    """A stem, then pooling and one recurrent convolutional layer at each stride.

    The paper has a 5x5 convolution and 3x3 pooling with stride 2. Here the 5x5 convolution itself has stride 2, at 1/4
    of its cost, so that the first recurrent layer is at stride 4.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels at stride 2.
        widths: channels of the stages, at strides 4, 8, 16, ...
        steps: recurrent steps of each layer; 0 is a network without recurrence.
    """

    def __init__(self, in_channels: int, stem: int, widths: Sequence[int], steps: int) -> None:
        stem_layers = nn.Sequential(
            nn.Conv2d(in_channels, stem, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        stages = [
            nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), RecurrentConvLayer(in_width, width, steps))
            for in_width, width in zip([stem, *widths], widths)
        ]
        super().__init__(stem_layers, stages, widths)


def widths_without_recurrence(widths: Sequence[int], stem: int, steps: int) -> tuple[int, ...]:
    """Widths of a network without recurrence (``steps=0``) that has the same number of parameters as a recurrent one.

    All widths are scaled by the same factor. This control separates the effect of recurrence from that of more weights.

    Args:
        widths, stem, steps: of the recurrent network.
    """
    target = _count_parameters(widths, stem, steps)
    candidates = (tuple(round(width * (1 + i / 1000)) for width in widths) for i in range(2000))
    return min(candidates, key=lambda scaled: abs(_count_parameters(scaled, stem, 0) - target))


def _count_parameters(widths: Sequence[int], stem: int, steps: int) -> int:
    """Parameters of the stages: two 3x3 convolutions (one if ``steps`` is 0), and weight and bias of each norm."""
    return sum(
        9 * in_width * width + 2 * width * (steps + 1) + (9 * width * width if steps else 0)
        for in_width, width in zip([stem, *widths], widths)
    )
