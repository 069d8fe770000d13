"""The region proposal network, with boxes made of those anchors alone that may become proposals."""

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
    """The random numbers of one image in one step, whatever process it is on and whatever stands beside it.

    Args:
        target: of the image; its ``seed``, a whole number below 2 ** 31 on the CPU, decides. Without one, torch's
            common stream is drawn from (None).
        stream: what they are for.
        device: where they are drawn.
    """
    if "seed" not in target:
        return None
    return torch.Generator(device).manual_seed(2 * int(target["seed"]) + _SEED_OFFSETS[stream])


def sample_pos_neg(
    labels: Tensor, batch_size_per_image: int, positive_fraction: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """A random choice of boxes to learn from, as torchvision's BalancedPositiveNegativeSampler makes it.

    Args:
        labels: Tensor[N], 1 and more for objects, 0 for background, -1 for neither.
        batch_size_per_image: boxes to choose.
        positive_fraction: largest share of objects among ``batch_size_per_image``.
        generator: where random numbers come from; None: torch's common stream.

    Returns:
        BoolTensor[N] twice: the chosen objects, and the chosen background.
    """
    objects, background = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    positives = min(len(objects), int(batch_size_per_image * positive_fraction))
    chosen = []
    for candidates, count in ((objects, positives), (background, batch_size_per_image - positives)):
        order = torch.randperm(len(candidates), generator=generator, device=labels.device)[:count]
        chosen.append(torch.zeros(len(labels), dtype=torch.bool, device=labels.device))
        chosen[-1][candidates[order]] = True
    return chosen[0], chosen[1]


class LightRPNHead(RPNHead):  # type: ignore[misc]  # torchvision has no types
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


class SparseRegionProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RegionProposalNetwork (Ren et al. 2015), the same numbers with less work.

    torchvision makes boxes of all anchors and offsets to all anchors, thousands an image, before it picks the few
    hundred that count. Here they are picked first.
    """

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each image, FloatTensor[N, 4], xyxy, pixels, best first; in training the losses as well."""
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
        """From each level its best, then of each image the best that don't overlap within a level."""
        boxes, logits, levels = [], [], []
        per_level = anchors.split_with_sizes([level.shape[1] for level in objectness])
        for number, (scores, deltas, level_anchors) in enumerate(zip(objectness, offsets, per_level)):
            best, chosen = scores[..., 0].topk(min(self.pre_nms_top_n(), len(level_anchors)), dim=1)
            top_deltas = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
            decoded = self.box_coder.decode_single(top_deltas.reshape(-1, 4), level_anchors[chosen.flatten()])
            boxes.append(decoded.reshape(top_deltas.shape))
            logits.append(best)
            levels.append(torch.full_like(chosen[0], number))
        level = torch.cat(levels)
        each = zip(torch.cat(boxes, dim=1), torch.cat(logits, dim=1).sigmoid(), sizes)
        return [
            self._filter_proposals(clip_boxes_to_image(of_image, size), scores, level)
            for of_image, scores, size in each
        ]

    def _filter_proposals(self, boxes: Tensor, scores: Tensor, level: Tensor) -> Tensor:
        is_valid = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(dim=1) & (scores >= self.score_thresh)
        boxes, scores, level = boxes[is_valid], scores[is_valid], level[is_valid]
        kept: Tensor = batched_nms(boxes, scores, level, self.nms_thresh)[: self.post_nms_top_n()]
        return boxes[kept]

    def _compute_loss(
        self, objectness: Tensor, offsets: Tensor, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Of the sampled anchors: cross-entropy of being an object, and smooth L1 of the offsets of those that are.

        Args:
            objectness: FloatTensor[B, anchors, 1], logits.
            offsets: FloatTensor[B, anchors, 4].
            anchors: FloatTensor[anchors, 4], xyxy, pixels.
            targets: of each image its boxes, and the seed of its random sampling if that matters (``image_generator``).
        """
        labels, objects = self.assign_targets_to_anchors([anchors] * len(targets), targets)
        sampler, device = self.fg_bg_sampler, anchors.device
        batch_size, positive_fraction = sampler.batch_size_per_image, sampler.positive_fraction
        chosen = [
            sample_pos_neg(of, batch_size, positive_fraction, image_generator(t, "anchors", device))
            for of, t in zip(labels, targets)
        ]
        positive, negative = (torch.stack(each) for each in zip(*chosen))
        image, place = positive.nonzero(as_tuple=True)
        regression_targets = self.box_coder.encode_single(torch.stack(objects)[image, place], anchors[place])
        sampled = torch.cat([positive.flatten().nonzero()[:, 0], negative.flatten().nonzero()[:, 0]])
        objectness_labels = torch.stack(labels).flatten()[sampled]
        box_loss: Any = F.smooth_l1_loss(offsets[image, place], regression_targets, beta=1 / 9, reduction="sum")
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], objectness_labels, reduction="sum"
        )
        count = reduce_mean_count(len(sampled), device)
        return {"loss_objectness": objectness_loss / count, "loss_rpn_box_reg": box_loss / count}


def _permute_and_flatten(level: Tensor, values: int) -> Tensor:
    """FloatTensor[B, anchors * values, H, W] -> [B, H * W * anchors, values], row by row, cell by cell."""
    batch, _, height, width = level.shape
    return level.view(batch, -1, values, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, values)
