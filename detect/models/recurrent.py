"""Recurrent modules: GRUs along rows and columns of a feature map, and a ConvGRU over the frames of a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNormAct, SeparableConv


class Scan(nn.Module):
    """Adds context from all rows and columns to each cell of a feature map (ReNet, Visin et al. 2015).

    A bidirectional GRU runs along the rows, and a second one along the columns of its outputs, so that the receptive
    field of each cell is the whole map. The outputs are projected to ``channels`` and added to the features (as in ION,
    Bell et al. 2016). The projection is initialised to zero, so an untrained scan is the identity.

    Rows and columns longer than ``window + 2 * overlap`` cells are split into windows that run in parallel. The GRU
    also runs over ``overlap`` cells before and after each window, whose outputs are dropped, so each cell gets context
    from at least ``overlap`` cells on either side. Computation and memory per pixel, the number of sequential steps,
    and the outputs far from the borders don't depend on the size of the image. Shorter rows and columns are not split.

    Args:
        channels: of the features.
        hidden: state size of each GRU per direction.
        window, overlap: in cells.

    Shape:
        FloatTensor[B, channels, H, W] -> float32[B, channels, H, W], in float32 also under autocast, as rounding
        errors accumulate over the steps.
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
            context = self._along(self.rows, x.permute(0, 2, 3, 1))  # [B, H, W, 2 * hidden]
            context = self._along(self.columns, context.transpose(1, 2))  # [B, W, H, 2 * hidden]
            return x + torch.as_tensor(self.project(context.permute(0, 3, 2, 1)))

    def _along(self, gru: nn.GRU, lines: Tensor) -> Tensor:
        """Run a GRU along the third dimension: [B, lines, cells, in] -> [B, lines, cells, 2 * hidden]."""
        outputs = scan_in_windows(gru, lines.flatten(0, 1), window=self.window, overlap=self.overlap)
        return outputs.view(*lines.shape[:3], -1)


def scan_in_windows(gru: nn.GRU, lines: Tensor, *, window: int, overlap: int) -> Tensor:
    """Run a bidirectional GRU along lines; long lines are split into windows with a warm-up on either side.

    Args:
        gru: with ``batch_first``.
        lines: FloatTensor[lines, cells, in].
        window: cells per window.
        overlap: warm-up cells before and after each window; those that would be beyond a border are added on the other
            side.

    Returns:
        FloatTensor[lines, cells, 2 * hidden].
    """
    cells, span = lines.shape[1], window + 2 * overlap
    if cells <= span:
        return torch.as_tensor(gru(lines)[0])
    position = torch.arange(cells, device=lines.device)
    starts = (position[::window] - overlap).clamp(0, cells - span)
    windows = lines[:, starts[:, None] + position[:span]]  # [lines, windows, span, in]
    outputs = torch.as_tensor(gru(windows.flatten(0, 1))[0]).view(*windows.shape[:3], -1)
    window_index = position // window
    return outputs[:, window_index, position - starts[window_index]]


class ScanControl(nn.Module):
    """Control for ``Scan``: a 3x3 convolution with the same number of parameters.

    Like an untrained scan it starts as the identity, but each cell gets context only from its neighbours.

    Args:
        channels: of the features.
        parameters: of the scan; the control has the same number within half a row of weights, 5 * channels + 1.

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


_UPDATE_GATE_BIAS = 3.0  # sigmoid(3) = 0.95: an untrained memory hardly changes the features

# {name of level: FloatTensor[B, channels + 1, H, W]}; the last channel is 1 where the state is valid
MemoryState = dict[str, Tensor]


class ConvGruCell(nn.Module):
    """One step of a convolutional GRU (Ballas et al. 2016) with separable convolutions, initialised near the identity.

    The update gate blends the state and the candidate per cell; the candidate is the features of the frame plus a
    correction that is initialised to zero. Convolutions are separable (depthwise 3x3 and pointwise), so that a memory
    is affordable at stride 4.

    Args:
        channels: of features and state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = SeparableConv(2 * channels + 1, 2 * channels, bias=True)
        self.correction = SeparableConv(2 * channels, channels, bias=True)
        for parameter in self.correction[-1].parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.gates[-1].get_parameter("bias")[:channels] = _UPDATE_GATE_BIAS

    def forward(self, features: Tensor, hidden: Tensor, valid: Tensor) -> Tensor:
        """New state, FloatTensor[B, channels, H, W].

        Args:
            features: FloatTensor[B, channels, H, W], features of this frame.
            hidden: the same shape, the state shifted by the motion of the surface.
            valid: FloatTensor[B, 1, H, W], 1 where the state is valid, 0 where the surface has just entered the view.
        """
        update, reset = self.gates(torch.cat([features, hidden, valid], dim=1)).sigmoid().chunk(2, dim=1)
        update = 1 - valid * (1 - update)  # without a valid state, the candidate alone
        candidate = features + self.correction(torch.cat([features, reset * hidden], dim=1))
        return torch.as_tensor(update * candidate + (1 - update) * hidden)


class Memory(nn.Module):
    """ConvGRU over frames: one state per pyramid level, shifted by the motion of the strip; all levels share the cell.

    Args:
        channels: of the pyramid.
        strides: pixels per cell of each level.
        names: keys of the levels.
        stateful: False for the control, which has the same parameters and resets its state at every frame.
    """

    def __init__(self, channels: int, strides: Sequence[int], names: Sequence[str], *, stateful: bool = True) -> None:
        super().__init__()
        self.cell = ConvGruCell(channels)
        self.strides, self.names, self.stateful = list(strides), list(names), stateful

    @property
    def label(self) -> str:
        """Description in the model summary."""
        return "ConvGRU over frames" if self.stateful else "ConvGRU, state reset at every frame"

    def forward(self, features: Mapping[str, Tensor], state: MemoryState | None, motion_xy: Tensor) -> MemoryState:
        """State after a frame.

        Args:
            features: {name: FloatTensor[B, channels, H, W]}.
            state: after the previous frame; None at the start of a strip.
            motion_xy: FloatTensor[B, 2], motion of the surface in pixels (right, down) since the previous frame.
        """
        shifted = self.predict_next(state, motion_xy) if state is not None and self.stateful else None
        new_state: MemoryState = {}
        for name in self.names:
            level = features[name]
            hidden = (
                level.new_zeros(len(level), level.shape[1] + 1, *level.shape[2:]) if shifted is None else shifted[name]
            )
            new_hidden = self.cell(level, hidden[:, :-1], hidden[:, -1:])
            new_state[name] = torch.cat([new_hidden, torch.ones_like(new_hidden[:, :1])], dim=1)
        return new_state

    def predict_next(self, state: MemoryState, motion_xy: Tensor) -> MemoryState:
        """State shifted by ``motion_xy``, FloatTensor[B, 2], pixels; not valid where new surface enters the view."""
        return {name: shift_features(state[name], motion_xy / stride) for name, stride in zip(self.names, self.strides)}


def state_features(state: MemoryState) -> dict[str, Tensor]:
    """The state without its validity channel: features for the detection heads."""
    return {name: level[:, :-1] for name, level in state.items()}


def shift_features(level: Tensor, motion_xy: Tensor) -> Tensor:
    """Shift a feature map with bilinear interpolation and zero padding.

    Args:
        level: FloatTensor[B, C, H, W].
        motion_xy: FloatTensor[B, 2], cells (right, down).
    """
    height, width = level.shape[-2:]
    y = torch.arange(height, device=level.device, dtype=level.dtype)
    x = torch.arange(width, device=level.device, dtype=level.dtype)
    from_x = (x[None, :] - motion_xy[:, :1] + 0.5) * 2 / width - 1
    from_y = (y[None, :] - motion_xy[:, 1:] + 0.5) * 2 / height - 1
    grid = torch.stack([from_x[:, None, :].expand(-1, height, -1), from_y[:, :, None].expand(-1, -1, width)], dim=-1)
    return F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
