"""Recurrence: a GRU along the rows and columns of a feature map, and a memory over the frames of a moving strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNormAct


class Scan(nn.Module):
    """Adds to each cell what lies along its row and, through the columns, in all rows (ReNet, Visin et al. 2015).

    A bidirectional GRU runs along the rows, a second one along the columns of what the first has found, so that a cell
    can learn of any other. Their states are projected back and added to the features (as ION adds context, Bell et al.
    2016). The projection starts at zero: a detector begins as it would without the scan.

    Rows and columns longer than ``window + 2 * overlap`` cells are cut into windows that run side by side. Each is
    scanned from ``overlap`` cells before it to as many after it, and only the window itself is kept. A cell hears from
    at least ``overlap`` cells on either side; work and memory a pixel, the number of steps one after another, and what
    is seen far from the borders don't depend on the image's size. Shorter ones are scanned whole.

    Args:
        channels: of the features.
        hidden: state of each GRU, each way.
        window, overlap: in cells.

    Shape:
        FloatTensor[B, channels, H, W] -> float32[B, channels, H, W], computed in float32 under autocast too, as small
        errors add up over the steps.
    """

    label = "GRU along rows and columns"

    def __init__(self, channels: int, hidden: int, *, window: int, overlap: int) -> None:
        super().__init__()
        self.window, self.overlap = window, overlap
        self.rows = nn.GRU(channels, hidden, batch_first=True, bidirectional=True)
        self.columns = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.project = _zero_init_conv(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            seen = self._along(self.rows, x.permute(0, 2, 3, 1))  # [B, H, W, channels]
            seen = self._along(self.columns, seen.transpose(1, 2))  # [B, W, H, 2 * hidden]
            return x + torch.as_tensor(self.project(seen.permute(0, 3, 2, 1)))

    def _along(self, gru: nn.GRU, lines: Tensor) -> Tensor:
        """Run a GRU along the third dimension: [B, lines, cells, in] -> [B, lines, cells, 2 * hidden]."""
        found = scan_in_windows(gru, lines.flatten(0, 1), window=self.window, overlap=self.overlap)
        return found.view(*lines.shape[:3], -1)


def scan_in_windows(gru: nn.GRU, lines: Tensor, *, window: int, overlap: int) -> Tensor:
    """Run a bidirectional GRU along lines, in windows with a warm-up on either side where the lines are long.

    Args:
        gru: with ``batch_first``.
        lines: FloatTensor[lines, cells, in].
        window: cells of a window.
        overlap: cells before and after it that are scanned with it; at the border of the lines there are as many more
            on the other side.

    Returns:
        FloatTensor[lines, cells, 2 * hidden].
    """
    cells, span = lines.shape[1], window + 2 * overlap
    if cells <= span:
        return torch.as_tensor(gru(lines)[0])
    position = torch.arange(cells, device=lines.device)
    starts = (position[::window] - overlap).clamp(0, cells - span)
    pieces = lines[:, starts[:, None] + position[:span]]  # [lines, windows, span, in]
    found = torch.as_tensor(gru(pieces.flatten(0, 1))[0]).view(*pieces.shape[:3], -1)
    home = position // window
    return found[:, home, position - starts[home]]


class ScanControl(nn.Module):
    """What a scan is judged against: a 3x3 convolution in its place, as wide as gives it as many parameters.

    Like a scan it starts as the identity, but a cell hears from its neighbours only.

    Args:
        channels: of the features.
        parameters: of the scan; met within half a row of weights, 5 * channels + 1.

    Shape:
        FloatTensor[B, channels, H, W] -> the same shape.
    """

    label = "convolution instead of a scan"

    def __init__(self, channels: int, parameters: int) -> None:
        super().__init__()
        width = max(round((parameters - channels) / (10 * channels + 2)), 1)
        self.mix = ConvNormAct(channels, width)
        self.project = _zero_init_conv(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.project(self.mix(x)))


def _zero_init_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


_UPDATE_GATE_BIAS = 3.0  # sigmoid(3) = 0.95: an untrained memory leaves the features nearly as they came

MemoryState = dict[
    str, Tensor
]  # one level each: FloatTensor[B, channels + 1, H, W], the last channel telling what is known


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
        self.gates = _separable_conv(2 * channels + 1, 2 * channels)
        self.correction = _separable_conv(2 * channels, channels)
        for parameter in self.correction[-1].parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.gates[-1].get_parameter("bias")[:channels] = _UPDATE_GATE_BIAS

    def forward(self, features: Tensor, hidden: Tensor, valid: Tensor) -> Tensor:
        """New state.

        Args:
            features: FloatTensor[B, channels, H, W], features of this frame.
            hidden: the same shape, the state moved to where the surface is now.
            valid: FloatTensor[B, 1, H, W], 1 where the state holds something, 0 where the surface has just come in.
        """
        update, reset = self.gates(torch.cat([features, hidden, valid], dim=1)).sigmoid().chunk(2, dim=1)
        update = 1 - valid * (1 - update)  # nothing to remember: all from what is seen
        candidate = features + self.correction(torch.cat([features, reset * hidden], dim=1))
        return torch.as_tensor(update * candidate + (1 - update) * hidden)


class Memory(nn.Module):
    """A state a pyramid level, moved by the strip's motion before each step; one cell serves all levels.

    Args:
        channels: of the pyramid.
        strides: pixels a cell, level by level.
        names: keys of the levels.
        stateful: False for the control, which has the same parameters and starts anew with every frame.
    """

    def __init__(self, channels: int, strides: Sequence[int], names: Sequence[str], *, stateful: bool = True) -> None:
        super().__init__()
        self.cell = ConvGruCell(channels)
        self.strides, self.names, self.stateful = list(strides), list(names), stateful

    @property
    def label(self) -> str:
        """What a table of parts calls it."""
        return "ConvGRU over frames" if self.stateful else "the same cell without a past"

    def forward(self, features: Mapping[str, Tensor], state: MemoryState | None, motion_xy: Tensor) -> MemoryState:
        """The state after a frame has been seen.

        Args:
            features: {name: FloatTensor[B, channels, H, W]}.
            state: after the frame before; None at the start of a strip.
            motion_xy: FloatTensor[B, 2], pixels (right, down) that the surface moved since then.
        """
        before = self.predict_next(state, motion_xy) if state is not None and self.stateful else None
        after: MemoryState = {}
        for name in self.names:
            level = features[name]
            hidden = (
                level.new_zeros(len(level), level.shape[1] + 1, *level.shape[2:]) if before is None else before[name]
            )
            new = self.cell(level, hidden[:, :-1], hidden[:, -1:])
            after[name] = torch.cat([new, torch.ones_like(new[:, :1])], dim=1)
        return after

    def predict_next(self, state: MemoryState, motion_xy: Tensor) -> MemoryState:
        """The state where the surface will be after ``motion_xy``; what comes into view is unknown."""
        return {name: shift_features(state[name], motion_xy / stride) for name, stride in zip(self.names, self.strides)}


def state_features(state: MemoryState) -> dict[str, Tensor]:
    """A state without the channel that tells what is known: features for the detection heads."""
    return {name: level[:, :-1] for name, level in state.items()}


def shift_features(level: Tensor, motion_xy: Tensor) -> Tensor:
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


def _separable_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1),
    )
