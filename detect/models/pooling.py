"""RoIAlign over the levels of a pyramid, with a gradient that does not hold up training on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

_CANONICAL_LEVEL = 4  # stride 16, from which the feature pyramid paper pools a box of the canonical side


class PyramidRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision has no types
    """torchvision's MultiScaleRoIAlign (He et al. 2017), the same numbers up to rounding, faster on a CPU.

    Each sampled value is a weighted sum of four cells, so the whole pooling of all levels is one look-up in a table
    with a row of channels a cell. torchvision's CPU gradient adds cell by cell and channel by channel, which took a
    quarter of a training step; the look-up's takes a twentieth. Other devices keep torchvision's kernels.

    Args:
        names: levels to pool from, keys of the features.
        strides: pixels a cell, level by level; powers of two.
        output_size: cells a side of what a box becomes.
        sampling_ratio: samples a side averaged into each of these cells.
        canonical_side: side in pixels of a box that is pooled at stride 16; half of it is pooled at stride 8, and so
            on (equation 1 of Lin et al. 2017, who take 224).
    """

    def __init__(
        self,
        names: Sequence[str],
        strides: Sequence[int],
        *,
        output_size: int,
        sampling_ratio: int,
        canonical_side: int,
    ) -> None:
        super().__init__(list(names), output_size, sampling_ratio, canonical_scale=canonical_side)
        self.scales = [1 / stride for stride in strides]
        first, last = int(math.log2(strides[0])), int(math.log2(strides[-1]))
        self.map_levels = LevelMapper(first, last, canonical_side, _CANONICAL_LEVEL)

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool each box from the level that suits its size.

        Args:
            features: {name: float32[B, channels, H, W]}.
            boxes: FloatTensor[N_i, 4] an image, xyxy, pixels.
            image_shapes: (height, width) of each image.

        Returns:
            FloatTensor[sum of N_i, channels, output_size, output_size].
        """
        maps = [features[name] for name in self.featmap_names]
        if maps[0].device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return torch.as_tensor(super().forward(features, boxes, image_shapes))
        side, samples, channels = self.output_size[0], self.sampling_ratio, maps[0].shape[1]
        table = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in maps])  # a row a cell
        extents = torch.tensor([level.shape[-2:] for level in maps])
        cells = extents.prod(dim=1)
        first_row = torch.cat([cells.new_zeros(1), (cells * len(boxes)).cumsum(0)[:-1]])

        levels = self.map_levels(boxes)
        image = torch.repeat_interleave(torch.tensor([len(each) for each in boxes]))
        scaled = torch.cat(boxes) * torch.tensor(self.scales)[levels, None]
        start, size = scaled[:, :2], (scaled[:, 2:] - scaled[:, :2]).clamp(min=1)
        heights, widths = extents[levels].unbind(dim=1)
        columns, across = _corners(start[:, 0], size[:, 0], widths, side, samples)
        rows, down = _corners(start[:, 1], size[:, 1], heights, side, samples)

        origin = (first_row[levels] + image * cells[levels])[:, None, None, None, None]
        index = origin + (rows * widths[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
        weight = down[:, :, None, :, None] * across[:, None, :, None, :]
        cell_rows = (len(index) * side * side, 4 * samples * samples)
        pooled = F.embedding_bag(
            index.reshape(cell_rows), table, per_sample_weights=weight.reshape(cell_rows), mode="sum"
        )
        return pooled.view(-1, side, side, channels).permute(0, 3, 1, 2)


def _corners(start: Tensor, size: Tensor, extent: Tensor, side: int, samples: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the cells that each output cell reads and their weights, both [N, side, 2 * samples]."""
    steps = (torch.arange(side * samples) + 0.5) / (samples * side)
    position = start[:, None] + steps * size[:, None]
    last = (extent - 1)[:, None].to(position.dtype)
    inside = (position >= -1) & (position <= last + 1)  # samples further out count as zero
    position = position.clamp(min=0).minimum(last)
    low = position.floor()
    fraction = position - low
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside[..., None] / samples
    corners = torch.stack([low, (low + 1).minimum(last)], dim=-1).long()
    shape = (len(start), side, 2 * samples)
    return corners.reshape(shape), weights.reshape(shape)
