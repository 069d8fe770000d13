"""From scores and boxes of an image's proposals to its detections."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from ..config.schema import Suppression

_MIN_SIDE_PX = 1e-2  # pixels: the side of a box below which it is none
_LOSSES = {"soft": (2, 0.5), "steep": (4, 0.12)}  # power of the IoU in a score's loss, and what it is divided by
_MAX_PICKS = (
    40  # in each class; more change nothing that counts, and a graph for other runtimes holds every one of them
)
_VOTERS_IOU, _VOTERS_SPREAD = 0.5, 0.1


def postprocess_detections(
    boxes: Tensor,
    scores: Tensor,
    size_hw: tuple[int, int],
    *,
    least: float,
    nms_iou: float,
    most: int,
    suppression: Suppression = "hard",
    voting: bool = False,
) -> dict[str, Tensor]:
    """What is left of an image's boxes after thresholding and non-maximum suppression a class.

    Args:
        boxes: FloatTensor[N, 4], xyxy, pixels, one a proposal whatever its class.
        scores: FloatTensor[N, classes], 0 to 1, background left out.
        size_hw: height and width of the image, to which boxes are cut.
        least: scores have to be above it.
        nms_iou: of two boxes of one class that overlap by more, the one with the lower score goes, if ``hard``.
        most: number of boxes that are kept, the best.
        suppression: "hard", or "soft" or "steep": overlap lowers scores instead, see ``softly_suppressed``.
        voting: boxes are moved to where those that overlap them say, see ``voted``.

    Returns:
        boxes FloatTensor[M, 4], labels Int64Tensor[M] from 1 on, scores FloatTensor[M], best first.
    """
    boxes = clip_boxes_to_image(boxes, size_hw)
    whole = (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE_PX).all(dim=1) & (scores > least).any(dim=1)
    boxes, scores = boxes[whole], torch.where(scores > least, scores, 0.0)[whole]
    scores, outlines = rescore_by_overlap(boxes, scores, suppression=suppression, voting=voting, least=least)
    if suppression != "hard":
        proposal, category = torch.where(scores > least)
        found = scores[proposal, category]
        kept = found.argsort(descending=True, stable=True)[:most]
    else:
        proposal, category = torch.where(scores > 0)
        found = scores[proposal, category]
        kept = batched_nms(boxes[proposal], found, category, nms_iou)[:most]
    return {
        "boxes": outlines[category[kept], proposal[kept]],
        "labels": category[kept] + 1,
        "scores": found[kept],
    }


def rescore_by_overlap(
    boxes: Tensor, scores: Tensor, *, suppression: Suppression, voting: bool, least: float | None = None
) -> tuple[Tensor, Tensor]:
    """What overlap makes of the scores, FloatTensor[N, classes], and of the boxes, FloatTensor[classes, N, 4].

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        scores: FloatTensor[N, classes], 0 to 1.
        suppression, voting: see ``softly_suppressed`` and ``voted``; with "hard" and without voting all stays as it is.
        least: as for ``softly_suppressed``.
    """
    outlines = boxes[None].expand(scores.shape[1], -1, -1)
    if suppression == "hard" and not voting:
        return scores, outlines
    overlap = class_overlaps(boxes)
    return (
        scores if suppression == "hard" else soft_nms(overlap, scores, suppression, least=least),
        box_voting(boxes, overlap, scores) if voting else outlines,
    )


def soft_nms(
    overlap: Tensor,
    scores: Tensor,
    suppression: Literal["soft", "steep"] = "soft",
    *,
    least: float | None = None,
    picks: int = _MAX_PICKS,
) -> Tensor:
    """Scores after Soft-NMS (Bodla et al. 2017), FloatTensor[N, classes], for all classes at once.

    In each class the best box is picked, every other loses the more of its score the more it overlaps it, then the best
    of the rest is picked, and so on; after the last pick the rest stay as they are. Where a label's extent is a matter
    of taste, the second reading of a place stays in play.

    Args:
        overlap: FloatTensor[N, N], IoU of each box with each.
        scores: FloatTensor[N, classes], 0 to 1.
        suppression: what is left of a score: "soft", exp(-IoU ** 2 / 0.5) as in the paper, or "steep",
            exp(-IoU ** 4 / 0.12). Both leave 0.6 of it at an IoU of 0.5; at 0.3, "soft" leaves 0.84 and "steep" 0.93,
            at 0.7, 0.38 and 0.14: what touches a better box is spared, what repeats it is not.
        least: scores up to it need not be exact, so the picking ends there; None: all picks are made, as in a graph,
            whose length can't depend on the image.
        picks: in each class.
    """
    if len(scores) == 0:
        return scores
    place = torch.arange(len(scores), device=scores.device)
    power, scale = _LOSSES[suppression]
    kept_share = torch.exp(-(overlap**power) / scale)
    kept_share = torch.where(place[:, None] == place[None, :], -1.0, kept_share)
    by_class = scores.T
    for _ in range(picks):
        if least is not None and not bool((by_class > least).any()):
            break
        best = by_class.argmax(dim=1)  # what was picked is below 0
        by_class = by_class * torch.where(by_class > 0, kept_share[best], 1.0)
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
    near = torch.where(overlap > _VOTERS_IOU, torch.exp(-((1 - overlap) ** 2) / _VOTERS_SPREAD), 0.0)
    weights = scores.T[:, None, :] * near
    return (weights @ boxes) / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)


def class_overlaps(boxes: Tensor) -> Tensor:
    """IoU of each box with each, FloatTensor[N, N]; edge by edge, as runtimes are slow at a last axis of 2."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    wide = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp(min=0)
    high = (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp(min=0)
    area, shared = (x2 - x1) * (y2 - y1), wide * high
    return shared / (area[:, None] + area - shared)
