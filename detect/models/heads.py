"""The two heads of the detector: proposals from anchors, and classes and boxes from proposals."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from .blocks import ConvNormAct, SeparableConv


class ProposalHead(RPNHead):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RPN head with float32 outputs under autocast: bfloat16 offsets would round boxes by pixels.

    Args:
        channels: of every level.
        anchors: a cell.
        convs: how many convolutions precede the two outputs.
        separable: whether they are separable ones with a reach of 5x5 (as in ThunderNet, Qin et al. 2019), not 3x3.
        levels: how many of the maps propose, the coarsest ones.
    """

    def __init__(self, channels: int, anchors: int, *, convs: int, separable: bool, levels: int) -> None:
        super().__init__(channels, anchors, conv_depth=convs)
        self.levels = levels
        if separable:
            layers = (nn.Sequential(SeparableConv(channels, channels, 5, bias=True), nn.ReLU()) for _ in range(convs))
            self.conv = nn.Sequential(*layers)

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x[-self.levels :])
        return [o.float() for o in objectness], [d.float() for d in deltas]


class BoxHead(nn.Sequential):
    """Pooled features of each proposal, FloatTensor[N, channels, pool, pool], -> FloatTensor[N, fc_width]."""

    def __init__(self, channels: int, pool: int, *, convs: int, conv_width: int, fc_width: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers.append(ConvNormAct(channels, conv_width))
            channels = conv_width
        layers.append(_FlattenCells())
        entering = channels * pool * pool
        for _ in range(2):
            layers += [nn.Linear(entering, fc_width, bias=False), nn.BatchNorm1d(fc_width), nn.SiLU(inplace=True)]
            entering = fc_width
        layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class _FlattenCells(nn.Module):
    """[N, channels, pool, pool] -> [N, pool * pool * channels], which costs no copy in the channels-last format."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Seen(NamedTuple):
    """What a box head says of N proposals.

    Attributes:
        logits: float32[N, classes + 1], 0 being background.
        offsets: float32[N, 4], from each proposal to the box it stands for, as torchvision's BoxCoder has them.
        quality: float32[N], the logit of the IoU that this box is thought to have; None: nothing is said of it.
    """

    logits: Tensor
    offsets: Tensor
    quality: Tensor | None


class BoxPredictor(nn.Module):
    """Class scores and one box a proposal, shared by all classes: few labels a class, one geometry.

    Args:
        width: of what is known of a proposal, FloatTensor[N, width].
        classes: background not counted.
        quality: whether the IoU of each box is foreseen as well.
    """

    def __init__(self, width: int, classes: int, *, quality: bool = False) -> None:
        super().__init__()
        self.score = nn.Linear(width, classes + 1)
        self.offset = nn.Linear(width, 4)
        self.quality = nn.Linear(width, 1) if quality else None
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.score.bias)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Seen:
        quality = None if self.quality is None else self.quality(x).float()[:, 0]
        return Seen(self.score(x).float(), self.offset(x).float(), quality)


class Stage(nn.Module):
    """One look at the proposals: FloatTensor[N, channels, pool, pool] -> Seen."""

    def __init__(self, head: BoxHead, predictor: BoxPredictor) -> None:
        super().__init__()
        self.head, self.predictor = head, predictor

    def forward(self, pooled: Tensor) -> Seen:
        seen: Seen = self.predictor(self.head(pooled))
        return seen
