"""From scores and boxes of an image's proposals to its detections."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

_SMALLEST = 1e-2  # pixels: the side of a box below which it is none


def final_boxes(
    boxes: Tensor, scores: Tensor, size_hw: tuple[int, int], *, least: float, nms_iou: float, most: int
) -> dict[str, Tensor]:
    """What is left of an image's boxes after thresholding and non-maximum suppression a class.

    Args:
        boxes: FloatTensor[N, 4], xyxy, pixels, one a proposal whatever its class.
        scores: FloatTensor[N, classes], 0 to 1, background left out.
        size_hw: height and width of the image, to which boxes are cut.
        least: scores have to be above it.
        nms_iou: of two boxes of one class that overlap by more, the one with the lower score goes.
        most: number of boxes that are kept, the best.

    Returns:
        boxes FloatTensor[M, 4], labels Int64Tensor[M] from 1 on, scores FloatTensor[M], best first.
    """
    boxes = clip_boxes_to_image(boxes, size_hw)
    whole = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST).all(dim=1)
    proposal, category = torch.where((scores > least) & whole[:, None])
    boxes, scores = boxes[proposal], scores[proposal, category]
    kept = batched_nms(boxes, scores, category, nms_iou)[:most]
    return {"boxes": boxes[kept], "labels": category[kept] + 1, "scores": scores[kept]}
