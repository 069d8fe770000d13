"""What a detector costs: its parameters, and the multiplications of one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN


@dataclass(frozen=True, slots=True)
class Cost:
    """Size and work of a detector.

    Attributes:
        parameters: weights that can be trained.
        multiply_adds: of all convolutions and matrix products for one image; other arithmetic, such as normalisation,
            RoIAlign and non-maximum suppression, isn't counted.
    """

    parameters: int
    multiply_adds: int


@torch.no_grad()
def cost(detector: FasterRCNN, size_wh: tuple[int, int]) -> Cost:
    """Count parameters and multiply-adds of a detector on one image.

    The box head is counted for as many proposals as may reach it, so that the figure depends on the network and the
    image's size alone, not on what is seen.

    Args:
        detector: in any mode; it is left as it was.
        size_wh: width and height of the image in pixels, before the detector resizes or pads it.
    """
    parameters = list(detector.parameters())
    width, height = size_wh
    training = detector.training
    detector.eval()
    blank = torch.zeros(len(detector.transform.image_mean), height, width, device=parameters[0].device)
    heads, pool = detector.roi_heads, detector.roi_heads.box_roi_pool
    counter = FlopCounterMode(display=False)
    with counter:
        batch, _ = detector.transform([blank])
        levels = list(detector.backbone(batch.tensors).values())
        detector.rpn.head(levels)
        pooled = blank.new_zeros(detector.rpn.post_nms_top_n(), levels[0].shape[1], *pool.output_size)
        for look in heads.looks():
            look(pooled)
    detector.train(training)
    multiply_adds = counter.get_total_flops() // 2  # a multiplication and an addition count as two operations
    return Cost(sum(p.numel() for p in parameters), multiply_adds)
