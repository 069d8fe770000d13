"""Hard and soft NMS, box voting and IoU on tensors, used by the heads, exported graphs, tiles and streams."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from ..config.schema import NmsMethod

MIN_SIDE_PX = 1e-2  # pixels: smaller boxes are dropped
# (exponent, sigma) in exp(-IoU ** exponent / sigma)
_SOFT_NMS_DECAY = {"gaussian": (2, 0.5), "super_gaussian": (4, 0.12)}
_MAX_PICKS = 40  # iterations per class: more don't change results, and an exported graph is unrolled over them
_VOTING_IOU, _VOTING_SIGMA = 0.5, 0.1


def postprocess_detections(
    boxes: Tensor,
    scores: Tensor,
    size_hw: tuple[int, int],
    *,
    score_thresh: float,
    nms_thresh: float,
    detections_per_img: int,
    nms_method: NmsMethod = "hard",
    voting: bool = False,
) -> dict[str, Tensor]:
    """Detections of one image: score threshold, then non-maximum suppression per class.

    Args:
        boxes: FloatTensor[N, 4], xyxy, pixels, one class-agnostic box per proposal.
        scores: FloatTensor[N, classes], 0 to 1, without background.
        size_hw: height and width of the image in pixels; boxes are clipped to it.
        score_thresh: only scores above it are kept.
        nms_thresh: IoU above which the lower-scored of two boxes of one class is dropped; used only by "hard".
        detections_per_img: maximum number of detections, those with the highest scores.
        nms_method: "hard" drops boxes; "gaussian" and "super_gaussian" lower their scores, see ``soft_nms``.
        voting: whether boxes are averaged with the boxes that overlap them, see ``box_voting``.

    Returns:
        boxes FloatTensor[M, 4], labels Int64Tensor[M] from 1 on, scores FloatTensor[M], highest score first.
    """
    boxes = clip_boxes_to_image(boxes, size_hw)
    is_valid = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX).all(dim=1) & (scores > score_thresh).any(dim=1)
    boxes, scores = boxes[is_valid], torch.where(scores > score_thresh, scores, 0.0)[is_valid]
    scores, class_boxes = rescore_by_overlap(
        boxes, scores, nms_method=nms_method, voting=voting, score_thresh=score_thresh
    )
    if nms_method != "hard":
        proposal, category = torch.where(scores > score_thresh)
        kept_scores = scores[proposal, category]
        keep = kept_scores.argsort(descending=True, stable=True)[:detections_per_img]
    else:
        proposal, category = torch.where(scores > 0)
        kept_scores = scores[proposal, category]
        keep = batched_nms(boxes[proposal], kept_scores, category, nms_thresh)[:detections_per_img]
    return {
        "boxes": class_boxes[category[keep], proposal[keep]],
        "labels": category[keep] + 1,
        "scores": kept_scores[keep],
    }


def rescore_by_overlap(
    boxes: Tensor, scores: Tensor, *, nms_method: NmsMethod, voting: bool, score_thresh: float | None = None
) -> tuple[Tensor, Tensor]:
    """Soft-NMS scores and voted boxes, as far as either is used.

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        scores: FloatTensor[N, classes], 0 to 1.
        nms_method: "hard" leaves scores unchanged; for the others see ``soft_nms``.
        voting: whether to apply ``box_voting``; otherwise boxes are unchanged.
        score_thresh: see ``soft_nms``.

    Returns:
        Scores, FloatTensor[N, classes], and boxes, FloatTensor[classes, N, 4].
    """
    class_boxes = boxes[None].expand(scores.shape[1], -1, -1)
    if nms_method == "hard" and not voting:
        return scores, class_boxes
    overlap = pairwise_iou(boxes)
    return (
        scores if nms_method == "hard" else soft_nms(overlap, scores, nms_method, score_thresh=score_thresh),
        box_voting(boxes, overlap, scores) if voting else class_boxes,
    )


def soft_nms(
    overlap: Tensor,
    scores: Tensor,
    method: Literal["gaussian", "super_gaussian"] = "gaussian",
    *,
    score_thresh: float | None = None,
    max_picks: int = _MAX_PICKS,
) -> Tensor:
    """Scores after Soft-NMS (Bodla et al. 2017), FloatTensor[N, classes], for all classes at once.

    In each class the box with the highest score is picked, and the scores of the others are multiplied by a factor
    that falls with their IoU with it. This is repeated for the remaining boxes, up to ``max_picks`` times. Where the
    extent of a label is ambiguous, a second box on the same defect is kept with a lower score.

    Args:
        overlap: FloatTensor[N, N], pairwise IoU of the boxes.
        scores: FloatTensor[N, classes], 0 to 1.
        method: factor of a score: "gaussian", exp(-IoU ** 2 / 0.5) as in the paper, or "super_gaussian",
            exp(-IoU ** 4 / 0.12). At an IoU of 0.3 they are 0.84 and 0.93, at 0.5 both 0.6, at 0.7 0.38 and 0.14:
            "super_gaussian" changes slightly overlapping boxes less and suppresses duplicates more.
        score_thresh: scores up to it need not be exact, so the iteration stops when no higher score remains; None:
            always ``max_picks`` iterations, as in an exported graph, whose length can't depend on the image.
        max_picks: maximum number of iterations.
    """
    if len(scores) == 0:
        return scores
    row = torch.arange(len(scores), device=scores.device)
    exponent, sigma = _SOFT_NMS_DECAY[method]
    decay = torch.exp(-(overlap**exponent) / sigma)
    decay = torch.where(row[:, None] == row[None, :], -1.0, decay)
    by_class = scores.T
    for _ in range(max_picks):
        if score_thresh is not None and not bool((by_class > score_thresh).any()):
            break
        best = by_class.argmax(dim=1)  # picked boxes have negative scores
        by_class = by_class * torch.where(by_class > 0, decay[best], 1.0)
    return by_class.abs().T


def box_voting(boxes: Tensor, overlap: Tensor, scores: Tensor) -> Tensor:
    """Weighted mean of each box and the boxes that overlap it, FloatTensor[classes, N, 4].

    The weight of each box with an IoU above 0.5 is score * exp(-(1 - IoU) ** 2 / 0.1), with the scores of each class
    (box voting, Gidaris and Komodakis 2015, with the weights of He et al. 2019).

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        overlap: FloatTensor[N, N], pairwise IoU of the boxes.
        scores: FloatTensor[N, classes], 0 to 1.
    """
    iou_weights = torch.where(overlap > _VOTING_IOU, torch.exp(-((1 - overlap) ** 2) / _VOTING_SIGMA), 0.0)
    weights = scores.T[:, None, :] * iou_weights
    return (weights @ boxes) / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)


def nms_per_class(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou_thresh: float
) -> NDArray[np.int64]:
    """Hard NMS per class with torchvision's ``nms``, for detections merged from several tiles or frames.

    Args:
        boxes: float32[N, 4], xyxy.
        scores: float32[N].
        labels: int64[N].
        iou_thresh: IoU above which the lower-scored of two boxes of one class is dropped.

    Returns:
        int64[M], indices of the remaining rows, highest score first.
    """
    keep = [np.zeros(0, np.int64)]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        keep.append(rows[nms(torch.from_numpy(boxes[rows]), torch.from_numpy(scores[rows]), iou_thresh).numpy()])
    all_classes = np.sort(np.concatenate(keep))
    return np.asarray(all_classes[np.argsort(-scores[all_classes], kind="stable")])


def pairwise_iou(boxes: Tensor) -> Tensor:
    """IoU of all pairs of boxes, FloatTensor[N, N], per edge, as runtimes are slow with a last axis of 2."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    width = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp(min=0)
    height = (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp(min=0)
    area, intersection = (x2 - x1) * (y2 - y1), width * height
    return intersection / (area[:, None] + area - intersection).clamp(min=1e-9)


def elementwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each row of ``a`` with the same row of ``b``: FloatTensor[N, 4] twice, xyxy -> FloatTensor[N]."""
    intersection = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    return intersection / (areas - intersection).clamp(min=1e-9)
