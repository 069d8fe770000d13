"""PyramidRoIAlign gives the values and gradients of torchvision for boxes anywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from detect.models.roi_heads import PyramidRoIAlign

STRIDES = (4, 8, 16, 32)
NAMES = [f"p{stride}" for stride in STRIDES]
SHAPES = [(200, 136)] * 3


def pyramid() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(3, 5, -(-200 // stride), -(-136 // stride), generator=generator).requires_grad_()
        for name, stride in zip(NAMES, STRIDES)
    }


def scattered_boxes() -> list[Tensor]:
    """40 boxes per image, from tiny to larger than the image, some across or outside its border."""
    generator = torch.Generator().manual_seed(2)
    centres = torch.rand(3, 40, 2, generator=generator) * 260 - 30
    sides = torch.rand(3, 40, 2, generator=generator) ** 2 * 260
    return list(torch.cat([centres - sides / 2, centres + sides / 2], dim=2))


def ours(*, sampling_ratio: int = 2, canonical_side: int = 224) -> PyramidRoIAlign:
    return PyramidRoIAlign(NAMES, STRIDES, output_size=7, sampling_ratio=sampling_ratio, canonical_side=canonical_side)


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("canonical_side", [224, 60])
def test_values_and_gradients_equal_those_of_torchvision(sampling_ratio: int, canonical_side: int) -> None:
    maps, boxes = pyramid(), scattered_boxes()
    reference = MultiScaleRoIAlign(NAMES, 7, sampling_ratio, canonical_scale=canonical_side)
    expected = reference(maps, boxes, SHAPES)
    actual = ours(sampling_ratio=sampling_ratio, canonical_side=canonical_side)(maps, boxes, SHAPES)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    grad_output = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
    leaves = list(maps.values())
    for our_grad, expected_grad in zip(
        torch.autograd.grad(actual, leaves, grad_output), torch.autograd.grad(expected, leaves, grad_output)
    ):
        torch.testing.assert_close(our_grad, expected_grad, rtol=0, atol=1e-4)


def test_a_smaller_canonical_side_pools_boxes_from_coarser_levels() -> None:
    maps = {name: torch.full((1, 1, 200 // s + 1, 200 // s + 1), float(s)) for name, s in zip(NAMES, STRIDES)}
    box = [torch.tensor([[20.0, 20.0, 120.0, 120.0]])]
    strides = [ours(canonical_side=side)(maps, box, [(200, 200)]).mean().item() for side in (224, 112, 56)]
    assert strides == pytest.approx([4, 8, 16])


def test_images_without_boxes_give_empty_outputs() -> None:
    empty, one = torch.zeros(0, 4), torch.tensor([[1.0, 1.0, 30.0, 30.0]])
    assert ours()(pyramid(), [empty, empty, empty], SHAPES).shape == (0, 5, 7, 7)
    assert ours()(pyramid(), [empty, one, empty], SHAPES).shape == (1, 5, 7, 7)
