"""Region proposal network: sampling, head, and proposals decoded only for the highest-scoring anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image

from .distributed import reduce_mean_count
from .layers import SeparableConv

_SEED_OFFSETS = {"anchors": 0, "proposals": 1}


def image_generator(
    target: Mapping[str, Tensor], stream: Literal["anchors", "proposals"], device: torch.device
) -> torch.Generator | None:
    """Random generator of one image in one step, independent of the process and the rest of the batch.

    Args:
        target: of the image, with its ``seed``, an integer below 2 ** 31 on the CPU.
        stream: what the random numbers are for; the two streams have different seeds.
        device: of the generator.

    Returns:
        A generator, or None (torch's default generator) if ``target`` has no ``seed``.
    """
    if "seed" not in target:
        return None
    return torch.Generator(device).manual_seed(2 * int(target["seed"]) + _SEED_OFFSETS[stream])


def sample_pos_neg(
    labels: Tensor, batch_size_per_image: int, positive_fraction: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Sample boxes for the loss of one image, like torchvision's BalancedPositiveNegativeSampler.

    Args:
        labels: Tensor[N]; 1 or more: object, 0: background, -1: ignored.
        batch_size_per_image: number of boxes to sample.
        positive_fraction: maximum fraction of objects in ``batch_size_per_image``.
        generator: None: torch's default generator.

    Returns:
        Masks of the sampled objects and of the sampled background, BoolTensor[N] each.
    """
    positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    num_positive = min(len(positive), int(batch_size_per_image * positive_fraction))
    masks = []
    for candidates, count in ((positive, num_positive), (negative, batch_size_per_image - num_positive)):
        order = torch.randperm(len(candidates), generator=generator, device=labels.device)[:count]
        masks.append(torch.zeros(len(labels), dtype=torch.bool, device=labels.device))
        masks[-1][candidates[order]] = True
    return masks[0], masks[1]


class LightRPNHead(RPNHead):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RPN head with float32 outputs under autocast, as bfloat16 offsets would shift boxes by pixels.

    Args:
        channels: of every level.
        anchors: number per cell.
        convs: number of convolutions before the two outputs.
        separable: whether these are separable 5x5 convolutions (as in ThunderNet, Qin et al. 2019) instead of 3x3.
        levels: number of levels with anchors; these are the coarsest ones.
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


class SparseRegionProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RegionProposalNetwork (Ren et al. 2015), the same results with less computation.

    torchvision decodes the boxes and encodes the targets of all anchors, thousands per image, before it selects a few
    hundred of them. Here they are selected first.
    """

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each image, FloatTensor[N, 4], xyxy, pixels, highest score first; and the losses in training."""
        maps = list(features.values())
        objectness, offsets = (
            [_permute_and_flatten(level, values) for level in levels] for levels, values in zip(self.head(maps), (1, 4))
        )
        anchors = self.anchor_generator(images, maps)[0]  # the same for all images
        proposals = self._proposals(objectness, offsets, anchors, images.image_sizes)
        if not self.training:
            return proposals, {}
        assert targets is not None
        return proposals, self._compute_loss(torch.cat(objectness, dim=1), torch.cat(offsets, dim=1), anchors, targets)

    @torch.no_grad()
    def _proposals(
        self, objectness: Sequence[Tensor], offsets: Sequence[Tensor], anchors: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Decode the top anchors of each level, then clip, filter and apply NMS per image and level."""
        boxes, logits, levels = [], [], []
        per_level = anchors.split_with_sizes([level.shape[1] for level in objectness])
        for number, (scores, deltas, level_anchors) in enumerate(zip(objectness, offsets, per_level)):
            top_logits, top = scores[..., 0].topk(min(self.pre_nms_top_n(), len(level_anchors)), dim=1)
            top_deltas = deltas.gather(1, top[..., None].expand(-1, -1, 4))
            decoded = self.box_coder.decode_single(top_deltas.reshape(-1, 4), level_anchors[top.flatten()])
            boxes.append(decoded.reshape(top_deltas.shape))
            logits.append(top_logits)
            levels.append(torch.full_like(top[0], number))
        level = torch.cat(levels)
        per_image = zip(torch.cat(boxes, dim=1), torch.cat(logits, dim=1).sigmoid(), sizes)
        return [
            self._filter_proposals(clip_boxes_to_image(image_boxes, size), scores, level)
            for image_boxes, scores, size in per_image
        ]

    def _filter_proposals(self, boxes: Tensor, scores: Tensor, level: Tensor) -> Tensor:
        is_valid = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(dim=1) & (scores >= self.score_thresh)
        boxes, scores, level = boxes[is_valid], scores[is_valid], level[is_valid]
        keep: Tensor = batched_nms(boxes, scores, level, self.nms_thresh)[: self.post_nms_top_n()]
        return boxes[keep]

    def _compute_loss(
        self, objectness: Tensor, offsets: Tensor, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Binary cross-entropy of the objectness of sampled anchors, smooth L1 of the offsets of the positive ones.

        Args:
            objectness: FloatTensor[B, anchors, 1], logits.
            offsets: FloatTensor[B, anchors, 4].
            anchors: FloatTensor[anchors, 4], xyxy, pixels.
            targets: boxes of each image, and optionally the seed of its random sampling (see ``image_generator``).
        """
        labels, matched_gt_boxes = self.assign_targets_to_anchors([anchors] * len(targets), targets)
        sampler, device = self.fg_bg_sampler, anchors.device
        batch_size, positive_fraction = sampler.batch_size_per_image, sampler.positive_fraction
        samples = [
            sample_pos_neg(image_labels, batch_size, positive_fraction, image_generator(target, "anchors", device))
            for image_labels, target in zip(labels, targets)
        ]
        positive, negative = (torch.stack(masks) for masks in zip(*samples))
        image, anchor = positive.nonzero(as_tuple=True)
        gt_boxes = torch.stack(matched_gt_boxes)[image, anchor]
        regression_targets = self.box_coder.encode_single(gt_boxes, anchors[anchor])
        sampled = torch.cat([positive.flatten().nonzero()[:, 0], negative.flatten().nonzero()[:, 0]])
        objectness_labels = torch.stack(labels).flatten()[sampled]
        box_loss: Any = F.smooth_l1_loss(offsets[image, anchor], regression_targets, beta=1 / 9, reduction="sum")
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], objectness_labels, reduction="sum"
        )
        count = reduce_mean_count(len(sampled), device)
        return {"loss_objectness": objectness_loss / count, "loss_rpn_box_reg": box_loss / count}


def _permute_and_flatten(level: Tensor, values: int) -> Tensor:
    """FloatTensor[B, anchors * values, H, W] -> [B, H * W * anchors, values], row by row, cell by cell."""
    batch, _, height, width = level.shape
    return level.view(batch, -1, values, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, values)
