from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detect.models.faster_rcnn import ClippingRCNNTransform, NativeSizeTransform


@pytest.mark.parametrize(
    ("transform", "found", "size"),
    [
        (ClippingRCNNTransform(224, 4000, [0.5], [0.5]), 224.0, 1999),
        (NativeSizeTransform(224, 4000, [0.5], [0.5]), 200.00002, 200),
    ],
    ids=["resized", "native"],
)
def test_boxes_end_where_the_image_ends(transform: ClippingRCNNTransform, found: float, size: int) -> None:
    inner = size if isinstance(transform, NativeSizeTransform) else 224
    result = [{"boxes": torch.tensor([[-1e-5, 0.0, found, found]])}]
    transform.eval()
    plain = GeneralizedRCNNTransform.postprocess(transform, [dict(result[0])], [(inner, inner)], [(size, size)])
    assert plain[0]["boxes"].max() > size  # what torchvision's own arithmetic leaves
    inside = transform.postprocess(result, [(inner, inner)], [(size, size)])
    assert inside[0]["boxes"].tolist() == [[0, 0, size, size]]
