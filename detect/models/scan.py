"""Recurrence over a feature map: a GRU along its rows and one along its columns, and a control without recurrence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import ConvNormAct


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
        self.project = _zero_projection(2 * hidden, channels)

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
        self.project = _zero_projection(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.project(self.mix(x)))


def _zero_projection(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv
