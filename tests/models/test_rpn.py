"""SparseRegionProposalNetwork gives the proposals, losses and gradients of torchvision's RPN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from tiny import TINY_MODEL
from tiny_detector import tiny_detector

TARGETS = [
    {"boxes": torch.tensor([[4.0, 4, 40, 30], [30, 20, 60, 60]])},
    {"boxes": torch.zeros(0, 4)},
    {"boxes": torch.tensor([[0.0, 50, 64, 64]])},
]


def both(*, training: bool, **rpn: Any) -> tuple[Any, Any]:
    """Our RPN, and torchvision's with the same head and settings."""
    torch.manual_seed(0)
    ours = tiny_detector(rpn={**TINY_MODEL["rpn"], **rpn}).rpn.train(training)
    for name, parameter in ours.head.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5 if "bbox" in name else 2.0)
    theirs = RegionProposalNetwork(
        ours.anchor_generator, ours.head, 0.6, 0.3, 32, 0.5, ours._pre_nms_top_n, ours._post_nms_top_n, 0.7
    )
    return ours, theirs.train(training)


def images(side: int) -> tuple[ImageList, dict[str, Tensor]]:
    torch.manual_seed(1)
    features = {f"p{s}": torch.randn(3, 16, -(-side // s), -(-side // s), requires_grad=True) for s in (4, 8, 16, 32)}
    return ImageList(torch.zeros(3, 1, side, side), [(side, side), (side, side - 8), (side - 16, side)]), features


@pytest.mark.parametrize("side", [64, 200])
@pytest.mark.parametrize("rpn", [{}, {"proposals_test": 1000}, {"finest_stride": 8}])
def test_proposals_equal_those_of_torchvision(side: int, rpn: dict[str, Any]) -> None:
    ours, theirs = both(training=False, **rpn)
    given = images(side)
    (proposals, losses), (expected, _) = ours(*given), theirs(*given)
    assert losses == {}
    assert [len(each) for each in proposals] == [len(each) for each in expected]
    assert all(torch.equal(a, b) for a, b in zip(proposals, expected))


def test_losses_and_gradients_equal_those_of_torchvision() -> None:
    ours, theirs = both(training=True)
    results = []
    for network in (ours, theirs):
        batch, features = images(64)
        network.head.zero_grad()
        torch.manual_seed(2)  # both sample the same anchors
        proposals, losses = network(batch, features, TARGETS)
        torch.stack(list(losses.values())).sum().backward()
        results.append((proposals, losses, [p.grad.clone() for p in network.head.parameters()], features["p8"].grad))
    (proposals, losses, grads, p8_grad), (their_proposals, their_losses, their_grads, their_p8_grad) = results
    assert losses.keys() == their_losses.keys()
    assert all(torch.equal(losses[name], their_losses[name]) for name in losses)
    assert all(torch.equal(a, b) for a, b in zip(proposals, their_proposals))
    for grad, their_grad in zip([*grads, p8_grad], [*their_grads, their_p8_grad]):
        torch.testing.assert_close(grad, their_grad)
