"""RoI heads: RoIAlign, box head and predictor, losses, and Cascade R-CNN stages that refine the boxes in turn."""

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

_CANONICAL_LEVEL = 4  # stride 16: boxes of the canonical side are pooled there (Lin et al. 2017)


class PyramidRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision has no types
    """torchvision's MultiScaleRoIAlign (He et al. 2017), faster on a CPU; values are equal up to rounding.

    Each sample is a weighted sum of four cells, so pooling from all levels is one ``embedding_bag`` over a table with
    one row of channels per cell. torchvision's CPU backward pass loops over cells and channels and took 1/4 of a
    training step; this one takes 1/20. Other devices and tracing use torchvision's kernels.

    Args:
        names: levels to pool from, keys of the features.
        strides: pixels per cell of each level; powers of two.
        output_size: cells per side of the pooled map.
        sampling_ratio: samples per side that are averaged into each output cell.
        canonical_side: side in pixels of a box that is pooled at stride 16; boxes of half that side are pooled at
            stride 8, and so on (equation 1 of Lin et al. 2017, where it is 224).
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
        """Pool each box from the level that matches its size.

        Args:
            features: {name: float32[B, channels, H, W]}.
            boxes: FloatTensor[N_i, 4] per image, xyxy, pixels.
            image_shapes: (height, width) of each image, pixels.

        Returns:
            FloatTensor[sum of N_i, channels, output_size, output_size].
        """
        maps = [features[name] for name in self.featmap_names]
        if maps[0].device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return torch.as_tensor(super().forward(features, boxes, image_shapes))
        side, samples, channels = self.output_size[0], self.sampling_ratio, maps[0].shape[1]
        table = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in maps])  # [cells, channels]
        extents = torch.tensor([level.shape[-2:] for level in maps])
        cells = extents.prod(dim=1)
        first_row = torch.cat([cells.new_zeros(1), (cells * len(boxes)).cumsum(0)[:-1]])

        levels = self.map_levels(boxes)
        image_index = torch.repeat_interleave(torch.tensor([len(image_boxes) for image_boxes in boxes]))
        scaled = torch.cat(boxes) * torch.tensor(self.scales)[levels, None]
        start, size = scaled[:, :2], (scaled[:, 2:] - scaled[:, :2]).clamp(min=1)
        heights, widths = extents[levels].unbind(dim=1)
        columns, across = _bilinear_corners(start[:, 0], size[:, 0], widths, side, samples)
        rows, down = _bilinear_corners(start[:, 1], size[:, 1], heights, side, samples)

        origin = (first_row[levels] + image_index * cells[levels])[:, None, None, None, None]
        index = origin + (rows * widths[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
        weight = down[:, :, None, :, None] * across[:, None, :, None, :]
        cell_rows = (len(index) * side * side, 4 * samples * samples)
        pooled = F.embedding_bag(
            index.reshape(cell_rows), table, per_sample_weights=weight.reshape(cell_rows), mode="sum"
        )
        return pooled.view(-1, side, side, channels).permute(0, 3, 1, 2)


def _bilinear_corners(start: Tensor, size: Tensor, extent: Tensor, side: int, samples: int) -> tuple[Tensor, Tensor]:
    """Indices and weights of the input cells of each output cell along one axis, both [N, side, 2 * samples]."""
    steps = (torch.arange(side * samples) + 0.5) / (samples * side)
    position = start[:, None] + steps * size[:, None]
    last = (extent - 1)[:, None].to(position.dtype)
    inside = (position >= -1) & (position <= last + 1)  # samples further out have weight 0
    position = position.clamp(min=0).minimum(last)
    low = position.floor()
    fraction = position - low
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside[..., None] / samples
    corners = torch.stack([low, (low + 1).minimum(last)], dim=-1).long()
    shape = (len(start), side, 2 * samples)
    return corners.reshape(shape), weights.reshape(shape)


class BoxHead(nn.Sequential):
    """Convolutions and two linear layers: FloatTensor[N, channels, pool, pool] -> FloatTensor[N, fc_width]."""

    def __init__(self, channels: int, pool: int, *, convs: int, conv_width: int, fc_width: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers.append(ConvNormAct(channels, conv_width))
            channels = conv_width
        layers.append(_FlattenCells())
        in_features = channels * pool * pool
        for _ in range(2):
            layers += [nn.Linear(in_features, fc_width, bias=False), nn.BatchNorm1d(fc_width), nn.SiLU(inplace=True)]
            in_features = fc_width
        layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class _FlattenCells(nn.Module):
    """[N, channels, pool, pool] -> [N, pool * pool * channels], without a copy in the channels-last memory format."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class RoIOutput(NamedTuple):
    """Output of the box predictor for N proposals.

    Attributes:
        logits: float32[N, classes + 1]; class 0 is background.
        deltas: float32[N, 4], offsets from each proposal to its predicted box, encoded by torchvision's BoxCoder.
        iou_logits: float32[N], logit of the predicted IoU of that box; None: no IoU is predicted.
    """

    logits: Tensor
    deltas: Tensor
    iou_logits: Tensor | None


class BoxPredictor(nn.Module):
    """Class scores, one class-agnostic box per proposal, and optionally its IoU: FloatTensor[N, width] -> RoIOutput.

    The box regression is shared by all classes because few labels per class are available.

    Args:
        width: features per proposal.
        classes: number of classes without background.
        predict_iou: whether to predict the IoU of each box.
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
    """Box head and predictor of one stage: FloatTensor[N, channels, pool, pool] -> RoIOutput."""

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
    """Losses of one stage over the N proposals of all images.

    With several processes, the mean of their losses is the loss over all proposals of all processes.

    Args:
        output: predictions for the proposals.
        proposals: FloatTensor[N, 4], xyxy, pixels.
        labels: Int64Tensor[N], 0 for background.
        regression_targets: FloatTensor[N, 4], encoded offsets from each proposal to its object.
        decode: (offsets, proposals) -> boxes, all FloatTensor[N, 4].
        box_loss: on decoded boxes "giou" (Rezatofighi et al. 2019), "diou" or "ciou" (Zheng et al. 2020), or
            torchvision's "smooth_l1" on offsets; summed over the proposals that are objects and divided by N.
        box_loss_weight: factor of the box loss.
        label_smoothing: share of the probability spread over the other classes.

    Returns:
        loss_classifier, loss_box_reg and, if the IoU is predicted, loss_iou: binary cross-entropy between the
        predicted IoU and the IoU of the predicted box with its object, without a gradient to the box.
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
    """torchvision's RoIHeads with denoising boxes, several box losses, IoU prediction and cascade stages.

    Early in a training from random weights few proposals overlap an object, so almost all positives would be the
    ground-truth boxes themselves. Noisy copies of the ground-truth boxes give positives of all qualities from the
    first step (as the denoising boxes of DN-DETR, Li et al. 2022, here in a two-stage detector).

    Args:
        refinement: further stages, each applied to the boxes of the stage before; each one's IoU threshold for
            positives is 0.1 higher (Cascade R-CNN, Cai and Vasconcelos 2018). Scores are the mean over all stages.
        num_denoising_boxes: noisy copies of each ground-truth box that are added to the proposals in training.
        box_noise_scale: maximum shift of each edge of these copies, as a fraction of the box side.
        box_loss, box_loss_weight, label_smoothing: see ``stage_losses``.
        iou_score_weight: weight of the predicted IoU in the score, score ** (1 - weight) * IoU ** weight (IoU-aware
            detector, Wu et al. 2020); 0: the IoU is not predicted.
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
        """Losses in training; detections (boxes, labels and scores per image) in evaluation."""
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
        """Losses of all stages; names of later stages have the suffix _2, _3, ..."""
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
        """Randomly sample the training boxes of one image, FloatTensor[N, 4], with a limited fraction of positives."""
        generator = image_generator(target, "proposals", proposals.device)
        boxes = self.add_denoising_boxes(proposals, target["boxes"].to(proposals.dtype), generator)
        (labels,), _ = self._assign_targets([boxes], [target], iou_thresh=self.proposal_matcher.high_threshold)
        sampler = self.fg_bg_sampler
        positive, negative = sample_pos_neg(labels, sampler.batch_size_per_image, sampler.positive_fraction, generator)
        return boxes[positive | negative]

    def add_denoising_boxes(
        self, proposals: Tensor, gt_xyxy: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Add ground-truth boxes and their noisy copies to one image's proposals: FloatTensor[N, 4], xyxy, pixels."""
        copies = gt_xyxy.repeat(self.num_denoising_boxes, 1)
        sides = (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        noise = torch.rand(copies.shape, generator=generator, dtype=copies.dtype, device=copies.device)
        return torch.cat([proposals, gt_xyxy, copies + (2 * noise - 1) * self.box_noise_scale * sides])

    def losses(
        self, output: RoIOutput, proposals: list[Tensor], labels: Tensor, regression_targets: Tensor
    ) -> dict[str, Tensor]:
        """Losses of one stage.

        Args:
            output: predictions for N proposals.
            proposals: FloatTensor[N_i, 4] per image, xyxy, pixels.
            labels: Int64Tensor[N], 0 for background.
            regression_targets: FloatTensor[N, 4], encoded offsets from each proposal to its object.
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
        """All stages in order."""
        return [CascadeStage(self.box_head, self.box_predictor), *self.refinement]  # the first has torchvision's names

    def _refine_boxes(
        self, proposals: list[Tensor], output: RoIOutput, image_shapes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """Decoded and clipped boxes, FloatTensor[N_i, 4] per image, without a gradient."""
        boxes = self.box_coder.decode_single(output.deltas.detach(), torch.cat(proposals))
        boxes_per_image = boxes.split_with_sizes([len(image_proposals) for image_proposals in proposals])
        return [clip_boxes_to_image(*each) for each in zip(boxes_per_image, image_shapes)]

    def _assign_targets(
        self, proposals: list[Tensor], targets: list[Target], *, iou_thresh: float
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label of each box (0 if no object overlaps it by ``iou_thresh``) and offsets to the object of highest IoU."""
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
        """FloatTensor[N, classes] without background, 0 to 1, weighted with the IoU if it is predicted."""
        scores = output.logits.softmax(dim=1)[:, 1:]
        if output.iou_logits is None:
            return scores
        return scores ** (1 - self.iou_score_weight) * output.iou_logits.sigmoid()[:, None] ** self.iou_score_weight
