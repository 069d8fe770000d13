"""Non-maximum suppression as ONNX has it, with torchvision's result where it runs in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms


def suppressed(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Int64Tensor[N], the boxes that stay, best first, at most ``most``."""
    kept: Tensor = _Suppression.apply(boxes[None], scores[None, None], most, iou, None)
    return kept[:, 2]


def suppressed_by_class(boxes: Tensor, scores: Tensor, iou: float, least: float, most: int) -> tuple[Tensor, Tensor]:
    """Which box stays as which class, by classes.

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        scores: FloatTensor[N, classes].
        iou: of two boxes of one class that overlap by more, the one with the lower score goes.
        least: scores have to be above it.
        most: boxes that stay in a class; a number of the graph, not of the image that it is traced with.

    Returns:
        Int64Tensor[M] of boxes, Int64Tensor[M] of classes from 0 on.
    """
    kept: Tensor = _Suppression.apply(boxes[None], scores.T[None], most, iou, least)
    return kept[:, 2], kept[:, 1]


class _Suppression(torch.autograd.Function):
    """FloatTensor[1, N, 4], FloatTensor[1, classes, N] -> Int64Tensor[M, 3] of 0, class and box."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, most: int, iou: float, least: float | None) -> Tensor:
        flat, of_box = boxes[0], scores[0].T
        if of_box.shape[1] == 1 and least is None:
            kept = nms(flat, of_box[:, 0], iou)[:most]
            return torch.stack([torch.zeros_like(kept), torch.zeros_like(kept), kept], dim=1)
        box, category = torch.where(of_box > (0 if least is None else least))
        kept = batched_nms(flat[box], of_box[box, category], category, iou)
        return torch.stack([torch.zeros_like(kept), category[kept], box[kept]], dim=1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: int, iou: float, least: float | None) -> Any:
        numbers = [torch.tensor([most], dtype=torch.int64), torch.tensor([iou], dtype=torch.float32)]
        if least is not None:
            numbers.append(torch.tensor([least], dtype=torch.float32))
        constants = [g.op("Constant", value_t=number) for number in numbers]
        return g.op("NonMaxSuppression", boxes, scores, *constants)
