"""From proposals to detections, or to losses: one look at each, or several, each at the boxes of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import box_iou, clip_boxes_to_image

from ..config import BoxLoss, Suppression
from .box_losses import stage_losses
from .draws import balanced, draws_of
from .final_boxes import final_boxes
from .heads import Seen, Stage

Target = dict[str, Tensor]  # boxes FloatTensor[N, 4] (xyxy, pixels), labels Int64Tensor[N], seed (see draws_of)


class DetectionHeads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RoIHeads with noisy copies of the true boxes, a choice of losses, foreseen IoU and refinement.

    Early in a training from random weights few proposals come near an object, so the head would see little but the
    true boxes themselves and background. Shaken copies of the true boxes give it positives of all qualities from the
    first step (the idea of the noised boxes of DN-DETR, Li et al. 2022, in a two-stage detector).

    Args:
        refinement: stages that look at the boxes of the one before again, each asking for 0.1 more IoU of an object
            (Cascade R-CNN, Cai and Vasconcelos 2018); scores are the mean over all stages.
        noisy_copies: how many of each true box join the proposals in training.
        noise: largest shift of each of their edges, as a share of the box's side.
        box_loss: see ``stage_losses``, likewise the next two.
        box_loss_weight: factor of the box loss.
        label_smoothing: share of the probability spread over the other classes.
        quality_weight: how much the foreseen IoU counts in a score: score ** (1 - weight) * IoU ** weight (IoU-aware
            detector, Wu et al. 2020); 0: nothing is foreseen.
        suppression, voting: see ``final_boxes``.
    """

    def __init__(
        self,
        *args: Any,
        refinement: Sequence[Stage] = (),
        noisy_copies: int,
        noise: float,
        box_loss: BoxLoss,
        box_loss_weight: float,
        label_smoothing: float,
        quality_weight: float,
        suppression: Suppression = "hard",
        voting: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.refinement = nn.ModuleList(refinement)
        self.noisy_copies, self.noise = noisy_copies, noise
        self.box_loss, self.box_loss_weight, self.label_smoothing = box_loss, box_loss_weight, label_smoothing
        self.quality_weight = quality_weight
        self.suppression, self.voting = suppression, voting

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections (boxes, labels, scores an image) otherwise."""
        if self.training:
            assert targets is not None
            return [], self._learned(features, proposals, image_shapes, targets)
        scores = []
        for look in self.looks():
            seen = look(self.box_roi_pool(features, proposals, image_shapes))
            proposals = self._moved(proposals, seen, image_shapes)
            scores.append(self.scores_of(seen))
        of_images = torch.stack(scores).mean(dim=0).split_with_sizes([len(boxes) for boxes in proposals])
        return [self._final(*each) for each in zip(proposals, of_images, image_shapes)], {}

    def _final(self, boxes: Tensor, scores: Tensor, size_hw: tuple[int, int]) -> dict[str, Tensor]:
        return final_boxes(
            boxes,
            scores,
            size_hw,
            least=self.score_thresh,
            nms_iou=self.nms_thresh,
            most=self.detections_per_img,
            suppression=self.suppression,
            voting=self.voting,
        )

    def _learned(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """The losses of all stages; a later one's names end in its number."""
        proposals = [self._sampled(*each) for each in zip(proposals, targets)]
        losses = {}
        for number, look in enumerate(self.looks()):
            least = self.proposal_matcher.high_threshold + 0.1 * number
            labels, wanted = self._assigned(proposals, targets, least=least)
            seen = look(self.box_roi_pool(features, proposals, image_shapes))
            of_stage = self.losses(seen, proposals, torch.cat(labels), torch.cat(wanted))
            ending = f"_{number + 1}" if number > 0 else ""
            losses.update({name + ending: loss for name, loss in of_stage.items()})
            if number < len(self.refinement):
                proposals = self._moved(proposals, seen, image_shapes)
        return losses

    def _sampled(self, proposals: Tensor, target: Target) -> Tensor:
        """The boxes of one image to learn from, FloatTensor[N, 4]: a random choice, with a share of objects."""
        draws = draws_of(target, "proposals", proposals.device)
        boxes = self.with_copies(proposals, target["boxes"].to(proposals.dtype), draws)
        (labels,), _ = self._assigned([boxes], [target], least=self.proposal_matcher.high_threshold)
        sampler = self.fg_bg_sampler
        objects, background = balanced(labels, sampler.batch_size_per_image, sampler.positive_fraction, draws)
        return boxes[objects | background]

    def with_copies(self, proposals: Tensor, true_xyxy: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Proposals of one image with its true boxes and their noisy copies, FloatTensor[N, 4], xyxy, pixels."""
        copies = true_xyxy.repeat(self.noisy_copies, 1)
        sides = (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        chance = torch.rand(copies.shape, generator=draws, dtype=copies.dtype, device=copies.device)
        return torch.cat([proposals, true_xyxy, copies + (2 * chance - 1) * self.noise * sides])

    def losses(self, seen: Seen, proposals: list[Tensor], labels: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Losses of one stage.

        Args:
            seen: what it says of N proposals.
            proposals: FloatTensor[N_i, 4] an image, xyxy, pixels.
            labels: Int64Tensor[N], 0 for background.
            wanted: FloatTensor[N, 4], the offsets that lead from each proposal to its object.
        """
        return stage_losses(
            seen,
            torch.cat(proposals),
            labels,
            wanted,
            decode=self.box_coder.decode_single,
            box_loss=self.box_loss,
            box_loss_weight=self.box_loss_weight,
            label_smoothing=self.label_smoothing,
        )

    def looks(self) -> list[Stage]:
        """The stages in the order in which they look."""
        return [Stage(self.box_head, self.box_predictor), *self.refinement]  # the first by torchvision's names

    def _moved(self, proposals: list[Tensor], seen: Seen, image_shapes: list[tuple[int, int]]) -> list[Tensor]:
        """The boxes that proposals stand for, FloatTensor[N_i, 4] an image; nothing is learned through them."""
        boxes = self.box_coder.decode_single(seen.offsets.detach(), torch.cat(proposals))
        each = boxes.split_with_sizes([len(of_image) for of_image in proposals])
        return [clip_boxes_to_image(of_image, shape) for of_image, shape in zip(each, image_shapes)]

    def _assigned(
        self, proposals: list[Tensor], targets: list[Target], *, least: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label of each box, 0 if it meets no object with that IoU, and the offsets to the object it meets best."""
        labels, wanted = [], []
        for boxes, target in zip(proposals, targets):
            if len(target["boxes"]) == 0:
                labels.append(target["labels"].new_zeros(len(boxes)))
                wanted.append(torch.zeros_like(boxes))
                continue
            overlap, nearest = box_iou(boxes, target["boxes"]).max(dim=1)
            labels.append(torch.where(overlap >= least, target["labels"][nearest], 0))
            wanted.append(self.box_coder.encode_single(target["boxes"][nearest].to(boxes.dtype), boxes))
        return labels, wanted

    def scores_of(self, seen: Seen) -> Tensor:
        """FloatTensor[N, classes] without background, 0 to 1, weighed with the foreseen IoU if there is one."""
        scores = seen.logits.softmax(dim=1)[:, 1:]
        if seen.quality is None:
            return scores
        return scores ** (1 - self.quality_weight) * seen.quality.sigmoid()[:, None] ** self.quality_weight
