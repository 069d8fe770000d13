"""NMS, hard and soft, box voting and IoU on tensors, shared by heads, exported graphs, tiles and streams."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from ..config.schema import NmsMethod

MIN_SIDE_PX = 1e-2  # pixels: the side of a box below which it is none
_SOFT_NMS_DECAY = {
    "gaussian": (2, 0.5),
    "super_gaussian": (4, 0.12),
}  # power of the IoU in a score's loss, and what it is divided by
_MAX_PICKS = (
    40  # in each class; more change nothing that counts, and a graph for other runtimes holds every one of them
)
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
    """What is left of an image's boxes after thresholding and non-maximum suppression a class.

    Args:
        boxes: FloatTensor[N, 4], xyxy, pixels, one a proposal whatever its class.
        scores: FloatTensor[N, classes], 0 to 1, background left out.
        size_hw: height and width of the image, to which boxes are cut.
        score_thresh: scores have to be above it.
        nms_thresh: of two boxes of one class that overlap by more, the one with the lower score goes, if ``hard``.
        detections_per_img: number of boxes that are kept, the best.
        nms_method: "hard", or "gaussian" or "super_gaussian": overlap lowers scores instead, see ``soft_nms``.
        voting: boxes are moved to where those that overlap them say, see ``box_voting``.

    Returns:
        boxes FloatTensor[M, 4], labels Int64Tensor[M] from 1 on, scores FloatTensor[M], best first.
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
    """What overlap makes of the scores, FloatTensor[N, classes], and of the boxes, FloatTensor[classes, N, 4].

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        scores: FloatTensor[N, classes], 0 to 1.
        nms_method, voting: see ``soft_nms`` and ``box_voting``; with "hard" and without voting all stays as it is.
        score_thresh: as for ``soft_nms``.
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

    In each class the best box is picked, every other loses the more of its score the more it overlaps it, then the best
    of the rest is picked, and so on; after the last pick the rest stay as they are. Where a label's extent is a matter
    of taste, the second reading of a place stays in play.

    Args:
        overlap: FloatTensor[N, N], IoU of each box with each.
        scores: FloatTensor[N, classes], 0 to 1.
        method: what is left of a score: "gaussian", exp(-IoU ** 2 / 0.5) as in the paper, or "super_gaussian",
            exp(-IoU ** 4 / 0.12). Both leave 0.6 of it at an IoU of 0.5; at 0.3, "gaussian" leaves 0.84 and
            "super_gaussian" 0.93, at 0.7, 0.38 and 0.14: a box that only touches a better one keeps its score, a
            duplicate does not.
        score_thresh: scores up to it need not be exact, so the picking ends there; None: all picks are made, as in a
            graph, whose length can't depend on the image.
        max_picks: in each class.
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
        best = by_class.argmax(dim=1)  # what was picked is below 0
        by_class = by_class * torch.where(by_class > 0, decay[best], 1.0)
    return by_class.abs().T


def box_voting(boxes: Tensor, overlap: Tensor, scores: Tensor) -> Tensor:
    """Boxes moved to the mean of those that overlap them, FloatTensor[classes, N, 4].

    Weights are score * exp(-(1 - IoU) ** 2 / 0.1) of all with an IoU above 0.5, each class with its own scores (box
    voting, Gidaris and Komodakis 2015, with the weights of He et al. 2019).

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        overlap: FloatTensor[N, N], IoU of each box with each.
        scores: FloatTensor[N, classes], 0 to 1.
    """
    iou_weights = torch.where(overlap > _VOTING_IOU, torch.exp(-((1 - overlap) ** 2) / _VOTING_SIGMA), 0.0)
    weights = scores.T[:, None, :] * iou_weights
    return (weights @ boxes) / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)


def nms_per_class(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou_thresh: float
) -> NDArray[np.int64]:
    """Hard NMS of detections that come from several tiles or frames, by torchvision's ``nms`` class by class.

    Args:
        boxes: float32[N, 4], xyxy.
        scores: float32[N].
        labels: int64[N].
        iou_thresh: of two boxes of one class that overlap by more, the one with the lower score goes.

    Returns:
        int64[M], the rows that stay, best score first.
    """
    kept = [np.zeros(0, np.int64)]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows[nms(torch.from_numpy(boxes[rows]), torch.from_numpy(scores[rows]), iou_thresh).numpy()])
    all_classes = np.sort(np.concatenate(kept))
    return np.asarray(all_classes[np.argsort(-scores[all_classes], kind="stable")])


def pairwise_iou(boxes: Tensor) -> Tensor:
    """IoU of each box with each, FloatTensor[N, N]; edge by edge, as runtimes are slow at a last axis of 2."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    wide = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp(min=0)
    high = (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp(min=0)
    area, shared = (x2 - x1) * (y2 - y1), wide * high
    return shared / (area[:, None] + area - shared)


def elementwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each row of ``a`` with the same row of ``b``: FloatTensor[N, 4] twice, xyxy -> FloatTensor[N]."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1)
    return shared / (areas - shared).clamp(min=1e-9)
