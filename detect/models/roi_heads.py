"""From proposals to detections, or to losses: RoIAlign, one stage or several, each at the boxes of the one before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import (
    MultiScaleRoIAlign,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)
from torchvision.ops.poolers import LevelMapper

from ..config.schema import BoxLoss, NmsMethod
from .distributed import reduce_mean_count
from .layers import ConvNormAct
from .nms import elementwise_iou, postprocess_detections
from .rpn import image_generator, sample_pos_neg

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
        columns, across = _bilinear_corners(start[:, 0], size[:, 0], widths, side, samples)
        rows, down = _bilinear_corners(start[:, 1], size[:, 1], heights, side, samples)

        origin = (first_row[levels] + image * cells[levels])[:, None, None, None, None]
        index = origin + (rows * widths[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
        weight = down[:, :, None, :, None] * across[:, None, :, None, :]
        cell_rows = (len(index) * side * side, 4 * samples * samples)
        pooled = F.embedding_bag(
            index.reshape(cell_rows), table, per_sample_weights=weight.reshape(cell_rows), mode="sum"
        )
        return pooled.view(-1, side, side, channels).permute(0, 3, 1, 2)


def _bilinear_corners(start: Tensor, size: Tensor, extent: Tensor, side: int, samples: int) -> tuple[Tensor, Tensor]:
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


class RoIOutput(NamedTuple):
    """What a box head says of N proposals.

    Attributes:
        logits: float32[N, classes + 1], 0 being background.
        deltas: float32[N, 4], from each proposal to the box it stands for, as torchvision's BoxCoder has them.
        iou_logits: float32[N], the logit of the IoU that this box is thought to have; None: nothing is said of it.
    """

    logits: Tensor
    deltas: Tensor
    iou_logits: Tensor | None


class BoxPredictor(nn.Module):
    """Class scores and one box a proposal, shared by all classes: few labels a class, one geometry.

    Args:
        width: of what is known of a proposal, FloatTensor[N, width].
        classes: background not counted.
        predict_iou: whether the IoU of each box is foreseen as well.
    """

    def __init__(self, width: int, classes: int, *, predict_iou: bool = False) -> None:
        super().__init__()
        self.score = nn.Linear(width, classes + 1)
        self.offset = nn.Linear(width, 4)
        self.iou_score = nn.Linear(width, 1) if predict_iou else None
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.score.bias)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> RoIOutput:
        iou_logits = None if self.iou_score is None else self.iou_score(x).float()[:, 0]
        return RoIOutput(self.score(x).float(), self.offset(x).float(), iou_logits)


class CascadeStage(nn.Module):
    """One look at the proposals: FloatTensor[N, channels, pool, pool] -> RoIOutput."""

    def __init__(self, head: BoxHead, predictor: BoxPredictor) -> None:
        super().__init__()
        self.head, self.predictor = head, predictor

    def forward(self, pooled: Tensor) -> RoIOutput:
        output: RoIOutput = self.predictor(self.head(pooled))
        return output


_BOX_IOU_LOSSES = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}


def stage_losses(
    output: RoIOutput,
    proposals: Tensor,
    labels: Tensor,
    regression_targets: Tensor,
    *,
    decode: Callable[[Tensor, Tensor], Tensor],
    box_loss: BoxLoss,
    box_loss_weight: float,
    label_smoothing: float,
) -> dict[str, Tensor]:
    """Losses of N proposals of all images together; of several processes, what averages to the losses of all of theirs.

    Args:
        output: what is said of them.
        proposals: FloatTensor[N, 4], xyxy, pixels.
        labels: Int64Tensor[N], 0 for background.
        regression_targets: FloatTensor[N, 4], the offsets that lead from each proposal to its object.
        decode: offsets and proposals -> boxes, all FloatTensor[N, 4].
        box_loss: on decoded boxes "giou" (Rezatofighi et al. 2019), "diou" or "ciou" (Zheng et al. 2020), or
            torchvision's "smooth_l1" on offsets; summed over the proposals that are objects and divided by N.
        box_loss_weight: factor of the box loss.
        label_smoothing: share of the probability spread over the other classes.

    Returns:
        loss_classifier, loss_box_reg, and, where an IoU is foreseen, loss_iou: its binary cross-entropy with the
        IoU that the found boxes of objects have, which the boxes learn nothing from.
    """
    positive = labels > 0
    offsets, regression_targets = output.deltas[positive], regression_targets[positive]
    pred_xyxy = decode(offsets, proposals[positive])
    target_xyxy = decode(regression_targets, proposals[positive])
    if box_loss == "smooth_l1":
        box = F.smooth_l1_loss(offsets, regression_targets, beta=1 / 9, reduction="sum")
    else:
        box = _BOX_IOU_LOSSES[box_loss](pred_xyxy, target_xyxy, reduction="sum")
    count = reduce_mean_count(labels.numel(), labels.device)
    classes = F.cross_entropy(output.logits, labels, label_smoothing=label_smoothing, reduction="sum")
    losses = {"loss_classifier": classes / count, "loss_box_reg": box_loss_weight * box / count}
    if output.iou_logits is not None:
        overlap = elementwise_iou(pred_xyxy.detach(), target_xyxy)
        iou_loss = F.binary_cross_entropy_with_logits(output.iou_logits[positive], overlap, reduction="sum")
        losses["loss_iou"] = iou_loss / reduce_mean_count(len(overlap), overlap.device)
    return losses


Target = dict[str, Tensor]  # boxes FloatTensor[N, 4] (xyxy, pixels), labels Int64Tensor[N], seed (see image_generator)


class CascadeRoIHeads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RoIHeads with noisy copies of the true boxes, a choice of losses, foreseen IoU and refinement.

    Early in a training from random weights few proposals come near an object, so the head would see little but the
    true boxes themselves and background. Shaken copies of the true boxes give it positives of all qualities from the
    first step (the idea of the noised boxes of DN-DETR, Li et al. 2022, in a two-stage detector).

    Args:
        refinement: stages that look at the boxes of the one before again, each asking for 0.1 more IoU of an object
            (Cascade R-CNN, Cai and Vasconcelos 2018); scores are the mean over all stages.
        num_denoising_boxes: how many of each true box join the proposals in training.
        box_noise_scale: largest shift of each of their edges, as a share of the box's side.
        box_loss: see ``stage_losses``, likewise the next two.
        box_loss_weight: factor of the box loss.
        label_smoothing: share of the probability spread over the other classes.
        iou_score_weight: how much the foreseen IoU counts in a score: score ** (1 - weight) * IoU ** weight (IoU-aware
            detector, Wu et al. 2020); 0: nothing is foreseen.
        nms_method, voting: see ``postprocess_detections``.
    """

    def __init__(
        self,
        *args: Any,
        refinement: Sequence[CascadeStage] = (),
        num_denoising_boxes: int,
        box_noise_scale: float,
        box_loss: BoxLoss,
        box_loss_weight: float,
        label_smoothing: float,
        iou_score_weight: float,
        nms_method: NmsMethod = "hard",
        voting: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.refinement = nn.ModuleList(refinement)
        self.num_denoising_boxes, self.box_noise_scale = num_denoising_boxes, box_noise_scale
        self.box_loss, self.box_loss_weight, self.label_smoothing = box_loss, box_loss_weight, label_smoothing
        self.iou_score_weight = iou_score_weight
        self.nms_method, self.voting = nms_method, voting

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
            return [], self._training_losses(features, proposals, image_shapes, targets)
        scores = []
        for stage in self.stages():
            output = stage(self.box_roi_pool(features, proposals, image_shapes))
            proposals = self._refine_boxes(proposals, output, image_shapes)
            scores.append(self.class_scores(output))
        scores_per_image = torch.stack(scores).mean(dim=0).split_with_sizes([len(boxes) for boxes in proposals])
        return [self._postprocess(*each) for each in zip(proposals, scores_per_image, image_shapes)], {}

    def _postprocess(self, boxes: Tensor, scores: Tensor, size_hw: tuple[int, int]) -> dict[str, Tensor]:
        return postprocess_detections(
            boxes,
            scores,
            size_hw,
            score_thresh=self.score_thresh,
            nms_thresh=self.nms_thresh,
            detections_per_img=self.detections_per_img,
            nms_method=self.nms_method,
            voting=self.voting,
        )

    def _training_losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """The losses of all stages; a later one's names end in its number."""
        proposals = [self._select_training_samples(*each) for each in zip(proposals, targets)]
        losses = {}
        for number, stage in enumerate(self.stages()):
            iou_thresh = self.proposal_matcher.high_threshold + 0.1 * number
            labels, regression_targets = self._assign_targets(proposals, targets, iou_thresh=iou_thresh)
            output = stage(self.box_roi_pool(features, proposals, image_shapes))
            stage_loss = self.losses(output, proposals, torch.cat(labels), torch.cat(regression_targets))
            suffix = f"_{number + 1}" if number > 0 else ""
            losses.update({name + suffix: loss for name, loss in stage_loss.items()})
            if number < len(self.refinement):
                proposals = self._refine_boxes(proposals, output, image_shapes)
        return losses

    def _select_training_samples(self, proposals: Tensor, target: Target) -> Tensor:
        """The boxes of one image to learn from, FloatTensor[N, 4]: a random choice, with a share of objects."""
        generator = image_generator(target, "proposals", proposals.device)
        boxes = self.add_denoising_boxes(proposals, target["boxes"].to(proposals.dtype), generator)
        (labels,), _ = self._assign_targets([boxes], [target], iou_thresh=self.proposal_matcher.high_threshold)
        sampler = self.fg_bg_sampler
        objects, background = sample_pos_neg(labels, sampler.batch_size_per_image, sampler.positive_fraction, generator)
        return boxes[objects | background]

    def add_denoising_boxes(
        self, proposals: Tensor, gt_xyxy: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Proposals of one image with its true boxes and their noisy copies, FloatTensor[N, 4], xyxy, pixels."""
        copies = gt_xyxy.repeat(self.num_denoising_boxes, 1)
        sides = (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        noise = torch.rand(copies.shape, generator=generator, dtype=copies.dtype, device=copies.device)
        return torch.cat([proposals, gt_xyxy, copies + (2 * noise - 1) * self.box_noise_scale * sides])

    def losses(
        self, output: RoIOutput, proposals: list[Tensor], labels: Tensor, regression_targets: Tensor
    ) -> dict[str, Tensor]:
        """Losses of one stage.

        Args:
            output: what it says of N proposals.
            proposals: FloatTensor[N_i, 4] an image, xyxy, pixels.
            labels: Int64Tensor[N], 0 for background.
            regression_targets: FloatTensor[N, 4], the offsets that lead from each proposal to its object.
        """
        return stage_losses(
            output,
            torch.cat(proposals),
            labels,
            regression_targets,
            decode=self.box_coder.decode_single,
            box_loss=self.box_loss,
            box_loss_weight=self.box_loss_weight,
            label_smoothing=self.label_smoothing,
        )

    def stages(self) -> list[CascadeStage]:
        """The stages in order."""
        return [CascadeStage(self.box_head, self.box_predictor), *self.refinement]  # the first by torchvision's names

    def _refine_boxes(
        self, proposals: list[Tensor], output: RoIOutput, image_shapes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """The boxes that proposals stand for, FloatTensor[N_i, 4] an image; nothing is learned through them."""
        boxes = self.box_coder.decode_single(output.deltas.detach(), torch.cat(proposals))
        each = boxes.split_with_sizes([len(of_image) for of_image in proposals])
        return [clip_boxes_to_image(of_image, shape) for of_image, shape in zip(each, image_shapes)]

    def _assign_targets(
        self, proposals: list[Tensor], targets: list[Target], *, iou_thresh: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label of each box, 0 if it meets no object with that IoU, and the offsets to the object it meets best."""
        labels, regression_targets = [], []
        for boxes, target in zip(proposals, targets):
            if len(target["boxes"]) == 0:
                labels.append(target["labels"].new_zeros(len(boxes)))
                regression_targets.append(torch.zeros_like(boxes))
                continue
            overlap, nearest = box_iou(boxes, target["boxes"]).max(dim=1)
            labels.append(torch.where(overlap >= iou_thresh, target["labels"][nearest], 0))
            regression_targets.append(self.box_coder.encode_single(target["boxes"][nearest].to(boxes.dtype), boxes))
        return labels, regression_targets

    def class_scores(self, output: RoIOutput) -> Tensor:
        """FloatTensor[N, classes] without background, 0 to 1, weighed with the foreseen IoU if there is one."""
        scores = output.logits.softmax(dim=1)[:, 1:]
        if output.iou_logits is None:
            return scores
        return scores ** (1 - self.iou_score_weight) * output.iou_logits.sigmoid()[:, None] ** self.iou_score_weight
