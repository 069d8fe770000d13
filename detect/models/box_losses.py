"""What a look at the proposals costs: their classes, their boxes, and the IoU foreseen for these."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from ..config import BoxLoss
from .heads import Seen
from .together import mean_count

_OF_BOXES = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}


def stage_losses(
    seen: Seen,
    proposals: Tensor,
    labels: Tensor,
    wanted: Tensor,
    *,
    decode: Callable[[Tensor, Tensor], Tensor],
    box_loss: BoxLoss,
    box_loss_weight: float,
    label_smoothing: float,
) -> dict[str, Tensor]:
    """Losses of N proposals of all images together; of several processes, what averages to the losses of all of theirs.

    Args:
        seen: what is said of them.
        proposals: FloatTensor[N, 4], xyxy, pixels.
        labels: Int64Tensor[N], 0 for background.
        wanted: FloatTensor[N, 4], the offsets that lead from each proposal to its object.
        decode: offsets and proposals -> boxes, all FloatTensor[N, 4].
        box_loss: on decoded boxes "giou" (Rezatofighi et al. 2019), "diou" or "ciou" (Zheng et al. 2020), or
            torchvision's "smooth_l1" on offsets; summed over the proposals that are objects and divided by N.
        box_loss_weight: factor of the box loss.
        label_smoothing: share of the probability spread over the other classes.

    Returns:
        loss_classifier, loss_box_reg, and, where an IoU is foreseen, loss_quality: its binary cross-entropy with the
        IoU that the found boxes of objects have, which the boxes learn nothing from.
    """
    positive = labels > 0
    offsets, wanted = seen.offsets[positive], wanted[positive]
    found_xyxy = decode(offsets, proposals[positive])
    wanted_xyxy = decode(wanted, proposals[positive])
    if box_loss == "smooth_l1":
        box = F.smooth_l1_loss(offsets, wanted, beta=1 / 9, reduction="sum")
    else:
        box = _OF_BOXES[box_loss](found_xyxy, wanted_xyxy, reduction="sum")
    count = mean_count(labels.numel(), labels.device)
    classes = F.cross_entropy(seen.logits, labels, label_smoothing=label_smoothing, reduction="sum")
    losses = {"loss_classifier": classes / count, "loss_box_reg": box_loss_weight * box / count}
    if seen.quality is not None:
        overlap = _paired_iou(found_xyxy.detach(), wanted_xyxy)
        foreseen = F.binary_cross_entropy_with_logits(seen.quality[positive], overlap, reduction="sum")
        losses["loss_quality"] = foreseen / mean_count(len(overlap), overlap.device)
    return losses


def _paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of the first with the first, the second with the second, ...: FloatTensor[N, 4] twice -> FloatTensor[N]."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    return shared / (areas - shared).clamp(min=1e-9)
