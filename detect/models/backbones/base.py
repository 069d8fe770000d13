"""What all backbones have in common: maps at halving sizes, and the choice of one of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ConfigError


class Backbone(nn.Module):
    """Image in, one feature map a stride out.

    Attributes:
        out_channels: channels of each map, finest first.
        strides: pixels a cell of each map, each twice the one before.

    Shape:
        FloatTensor[B, in_channels, H, W] -> list of FloatTensor[B, out_channels[i], ceil(H / strides[i]),
        ceil(W / strides[i])].
    """

    out_channels: list[int]
    strides: list[int]

    @property
    def label(self) -> str:
        """What a table of parts calls it."""
        return type(self).__name__

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def keep_only(self, stride: int) -> None:
        """Give the map at this stride alone from now on, and drop what comes after it.

        Raises:
            ConfigError: there is no map at this stride.
        """
        if stride not in self.strides:
            found = f"the backbone has no level at stride {stride}, only at {', '.join(map(str, self.strides))}"
            raise ConfigError(found, where="model.fpn.single_stride", fix="choose one of these")
        level = self.strides.index(stride)
        self.strides, self.out_channels = [stride], [self.out_channels[level]]
        self._drop_after(level)

    def _drop_after(self, level: int) -> None:
        raise NotImplementedError


class StagedBackbone(Backbone):
    """A stem, then stages one after another, each of which halves the map and gives one.

    Args:
        stem: image to half its size.
        stages: from stride 4 on.
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
