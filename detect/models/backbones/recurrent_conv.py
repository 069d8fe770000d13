"""Recurrent convolutional layers (Liang & Hu 2015): neurons of one layer look at their neighbours, step after step."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .staged import StagedBackbone


class RecurrentConvCell(nn.Module):
    """One step of a recurrent convolutional layer: what comes from below, and the layer's own last state.

    Shape:
        drive, state: FloatTensor[B, width, H, W] -> the next state, of the same shape.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrent = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, drive: Tensor, state: Tensor, norm: nn.Module) -> Tensor:
        return F.relu(norm(drive + self.recurrent(state)))


class RecurrentConvLayer(nn.Module):
    """A convolution whose result drives ``steps`` steps of one cell; with none it is convolution, norm, ReLU.

    The feed-forward convolution is computed once and the recurrent weights are the same at each step, so that every
    step widens the field of view at no further weights. Only the normalisation is a step's own, as the states of
    different steps have different statistics. The paper's is local response normalisation; batch normalisation in its
    place is today's form.

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

    The paper pools 3x3 with stride 2 after a 5x5 convolution; here the convolution itself strides, at a quarter of
    its work, so that the first recurrent layer sees stride 4.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        stem: channels at stride 2.
        widths: channels of the stages, at strides 4, 8, 16, ...
        steps: how often each layer applies its recurrent weights; 0 gives a plain network.
    """

    def __init__(self, in_channels: int, stem: int, widths: Sequence[int], steps: int) -> None:
        entering = nn.Sequential(
            nn.Conv2d(in_channels, stem, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        stages = [
            nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), RecurrentConvLayer(below, width, steps))
            for below, width in zip([stem, *widths], widths)
        ]
        super().__init__(entering, stages, widths)


def widths_without_recurrence(widths: Sequence[int], stem: int, steps: int) -> tuple[int, ...]:
    """Widths that give a plain network (``steps=0``) as many parameters as one of these widths has with recurrence.

    All widths grow by one factor. It is the control that shows whether the recurrence helps or merely its weights.

    Args:
        widths, stem, steps: of the recurrent network.
    """
    wanted = _count_parameters(widths, stem, steps)
    candidates = (tuple(round(width * (1 + i / 1000)) for width in widths) for i in range(2000))
    return min(candidates, key=lambda wider: abs(_count_parameters(wider, stem, 0) - wanted))


def _count_parameters(widths: Sequence[int], stem: int, steps: int) -> int:
    """Of the stages: two 3x3 convolutions, or one without recurrence, and scale and shift of each normalisation."""
    return sum(
        9 * below * width + 2 * width * (steps + 1) + (9 * width * width if steps else 0)
        for below, width in zip([stem, *widths], widths)
    )
