"""The proposal network: torchvision's, number for number."""

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
    """Ours, and torchvision's with the same head and settings."""
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
def test_proposals_are_torchvisions(side: int, rpn: dict[str, Any]) -> None:
    ours, theirs = both(training=False, **rpn)
    given = images(side)
    (found, losses), (expected, _) = ours(*given), theirs(*given)
    assert losses == {}
    assert [len(each) for each in found] == [len(each) for each in expected]
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_losses_and_gradients_are_torchvisions() -> None:
    ours, theirs = both(training=True)
    told = []
    for network in (ours, theirs):
        batch, features = images(64)
        network.head.zero_grad()
        torch.manual_seed(2)  # both sample the same anchors
        found, losses = network(batch, features, TARGETS)
        torch.stack(list(losses.values())).sum().backward()
        told.append((found, losses, [p.grad.clone() for p in network.head.parameters()], features["p8"].grad))
    (found, losses, slopes, deep), (their_found, their_losses, their_slopes, their_deep) = told
    assert losses.keys() == their_losses.keys()
    assert all(torch.equal(losses[name], their_losses[name]) for name in losses)
    assert all(torch.equal(a, b) for a, b in zip(found, their_found))
    for mine, other in zip([*slopes, deep], [*their_slopes, their_deep]):
        torch.testing.assert_close(mine, other)
