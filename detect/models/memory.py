"""Memory over the frames of a moving strip: a convolutional GRU whose state travels with the surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SEEN_BIAS = 3.0  # sigmoid(3) = 0.95: an untrained memory leaves the features nearly as they came

State = dict[str, Tensor]  # one level each: FloatTensor[B, channels + 1, H, W], the last channel telling what is known


class ConvGruCell(nn.Module):
    """One step of a convolutional GRU (Ballas et al. 2016), separable and starting as the identity.

    The update gate decides, cell by cell, between what is remembered and what is seen; the candidate is what is seen
    plus a correction that starts at zero. Convolutions are split into depthwise 3x3 and pointwise ones, so that a
    level of stride 4 can afford a memory.

    Args:
        channels: of features and state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = _separable(2 * channels + 1, 2 * channels)
        self.correction = _separable(2 * channels, channels)
        for parameter in self.correction[-1].parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.gates[-1].get_parameter("bias")[:channels] = _SEEN_BIAS

    def forward(self, seen: Tensor, remembered: Tensor, known: Tensor) -> Tensor:
        """New state.

        Args:
            seen: FloatTensor[B, channels, H, W], features of this frame.
            remembered: the same shape, the state moved to where the surface is now.
            known: FloatTensor[B, 1, H, W], 1 where the state holds something, 0 where the surface has just come in.
        """
        update, reset = self.gates(torch.cat([seen, remembered, known], dim=1)).sigmoid().chunk(2, dim=1)
        update = 1 - known * (1 - update)  # nothing to remember: all from what is seen
        candidate = seen + self.correction(torch.cat([seen, reset * remembered], dim=1))
        return torch.as_tensor(update * candidate + (1 - update) * remembered)


class Memory(nn.Module):
    """A state a pyramid level, moved by the strip's motion before each step; one cell serves all levels.

    Args:
        channels: of the pyramid.
        strides: pixels a cell, level by level.
        names: keys of the levels.
        remembers: False for the control, which has the same parameters and starts anew with every frame.
    """

    def __init__(self, channels: int, strides: Sequence[int], names: Sequence[str], *, remembers: bool = True) -> None:
        super().__init__()
        self.cell = ConvGruCell(channels)
        self.strides, self.names, self.remembers = list(strides), list(names), remembers

    @property
    def label(self) -> str:
        """What a table of parts calls it."""
        return "ConvGRU over frames" if self.remembers else "the same cell without a past"

    def forward(self, features: Mapping[str, Tensor], state: State | None, motion_xy: Tensor) -> State:
        """The state after a frame has been seen.

        Args:
            features: {name: FloatTensor[B, channels, H, W]}.
            state: after the frame before; None at the start of a strip.
            motion_xy: FloatTensor[B, 2], pixels (right, down) that the surface moved since then.
        """
        before = self.foresee(state, motion_xy) if state is not None and self.remembers else None
        after: State = {}
        for name in self.names:
            seen = features[name]
            remembered = (
                seen.new_zeros(len(seen), seen.shape[1] + 1, *seen.shape[2:]) if before is None else before[name]
            )
            new = self.cell(seen, remembered[:, :-1], remembered[:, -1:])
            after[name] = torch.cat([new, torch.ones_like(new[:, :1])], dim=1)
        return after

    def foresee(self, state: State, motion_xy: Tensor) -> State:
        """The state where the surface will be after ``motion_xy``; what comes into view is unknown."""
        return {name: moved(state[name], motion_xy / stride) for name, stride in zip(self.names, self.strides)}


def levels_of(state: State) -> dict[str, Tensor]:
    """A state without the channel that tells what is known: features for the detection heads."""
    return {name: level[:, :-1] for name, level in state.items()}


def moved(level: Tensor, motion_xy: Tensor) -> Tensor:
    """A map moved right and down by ``motion_xy`` cells, FloatTensor[B, 2], between cells bilinearly; zeros come in.

    Args:
        level: FloatTensor[B, C, H, W].
    """
    height, width = level.shape[-2:]
    y = torch.arange(height, device=level.device, dtype=level.dtype)
    x = torch.arange(width, device=level.device, dtype=level.dtype)
    from_x = (x[None, :] - motion_xy[:, :1] + 0.5) * 2 / width - 1
    from_y = (y[None, :] - motion_xy[:, 1:] + 0.5) * 2 / height - 1
    grid = torch.stack([from_x[:, None, :].expand(-1, height, -1), from_y[:, :, None].expand(-1, -1, width)], dim=-1)
    return F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1),
    )
