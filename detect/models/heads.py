"""The two heads of the detector: proposals from anchors, and classes and boxes from proposals."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import generalized_box_iou_loss

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


class BoxPredictor(nn.Module):
    """Class scores and one box a proposal, shared by all classes: few labels a class, one geometry.

    Shape:
        FloatTensor[N, width] -> logits float32[N, classes + 1] (0 is background), offsets float32[N, 4 * (classes + 1)]
        in the layout of torchvision's RoIHeads, the same four numbers for each class.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.outputs = classes + 1
        self.score = nn.Linear(width, self.outputs)
        self.offset = nn.Linear(width, 4)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.score.bias)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.score(x).float(), self.offset(x).float().repeat(1, self.outputs)


class DetectionHeads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RoIHeads with noisy copies of the true boxes, a choice of box loss, and label smoothing.

    Early in a training from random weights few proposals come near an object, so the head would see little but the
    true boxes themselves and background. Shaken copies of the true boxes give it positives of all qualities from the
    first step (the idea of the noised boxes of DN-DETR, Li et al. 2022, in a two-stage detector).

    Args:
        noisy_copies: how many of each true box join the proposals in training.
        noise: largest shift of each of their edges, as a share of the box's side.
        box_loss: "giou" (Rezatofighi et al. 2019) on decoded boxes, or torchvision's "smooth_l1" on offsets.
        box_loss_weight: factor of the box loss, summed over positives and divided by all sampled proposals.
        label_smoothing: share of the probability spread over the other classes.
    """

    def __init__(
        self,
        *args: Any,
        noisy_copies: int,
        noise: float,
        box_loss: Literal["giou", "smooth_l1"],
        box_loss_weight: float,
        label_smoothing: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.noisy_copies, self.noise = noisy_copies, noise
        self.box_loss, self.box_loss_weight, self.label_smoothing = box_loss, box_loss_weight, label_smoothing

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections (boxes, labels, scores an image) otherwise."""
        if self.training:
            proposals, _, labels, wanted = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, offsets = self.box_predictor(self.box_head(pooled))
        if self.training:
            return [], self.losses(logits, offsets, proposals, torch.cat(labels), torch.cat(wanted))
        boxes, scores, classes = self.postprocess_detections(logits, offsets, proposals, image_shapes)
        return [{"boxes": b, "labels": c, "scores": s} for b, s, c in zip(boxes, scores, classes)], {}

    def add_gt_proposals(self, proposals: list[Tensor], gt_boxes: list[Tensor]) -> list[Tensor]:
        """Proposals of each image with its true boxes and their noisy copies, FloatTensor[N, 4], xyxy, pixels."""
        return [
            torch.cat([found, true, self._shaken(true.repeat(self.noisy_copies, 1))])
            for found, true in zip(proposals, gt_boxes)
        ]

    def _shaken(self, boxes: Tensor) -> Tensor:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + (2 * torch.rand_like(boxes) - 1) * self.noise * sides

    def losses(
        self, logits: Tensor, offsets: Tensor, proposals: list[Tensor], labels: Tensor, wanted: Tensor
    ) -> dict[str, Tensor]:
        """Classification and box loss of the sampled proposals.

        Args:
            logits: FloatTensor[N, classes + 1].
            offsets: FloatTensor[N, 4 * (classes + 1)].
            proposals: FloatTensor[N_i, 4] an image, xyxy, pixels.
            labels: Int64Tensor[N], 0 for background.
            wanted: FloatTensor[N, 4], the offsets that lead from each proposal to its object.
        """
        classification = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        positive = labels > 0
        found, wanted = offsets[positive, :4], wanted[positive]
        if self.box_loss == "giou":
            boxes = torch.cat(proposals)[positive]
            found_xyxy = self.box_coder.decode_single(found, boxes)
            wanted_xyxy = self.box_coder.decode_single(wanted, boxes)
            box = generalized_box_iou_loss(found_xyxy, wanted_xyxy, reduction="sum")
        else:
            box = F.smooth_l1_loss(found, wanted, beta=1 / 9, reduction="sum")
        return {
            "loss_classifier": classification,
            "loss_box_reg": self.box_loss_weight * box / max(labels.numel(), 1),
        }
