"""ClippingRCNNTransform and NativeSizeTransform clip boxes to the images."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detect.models.faster_rcnn import ClippingRCNNTransform, NativeSizeTransform


@pytest.mark.parametrize(
    ("transform", "corner", "size"),
    [
        (ClippingRCNNTransform(224, 4000, [0.5], [0.5]), 224.0, 1999),
        (NativeSizeTransform(224, 4000, [0.5], [0.5]), 200.00002, 200),
    ],
    ids=["resized", "native"],
)
def test_boxes_are_clipped_to_the_image(transform: ClippingRCNNTransform, corner: float, size: int) -> None:
    input_side = size if isinstance(transform, NativeSizeTransform) else 224
    result = [{"boxes": torch.tensor([[-1e-5, 0.0, corner, corner]])}]
    transform.eval()
    plain = GeneralizedRCNNTransform.postprocess(
        transform, [dict(result[0])], [(input_side, input_side)], [(size, size)]
    )
    assert plain[0]["boxes"].max() > size  # torchvision's rounding exceeds the border
    clipped = transform.postprocess(result, [(input_side, input_side)], [(size, size)])
    assert clipped[0]["boxes"].tolist() == [[0, 0, size, size]]
