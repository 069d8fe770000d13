"""The faster 5x5 convolution equals torch's, values and gradients, at sizes that no tile divides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detect.models.winograd import WinogradConv2d


@pytest.mark.parametrize("size_hw", [(16, 16), (25, 13), (7, 50), (1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(size_hw: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = WinogradConv2d(6, 10, bias=bias)
    maps = torch.randn(3, 6, *size_hw).to(memory_format=torch.channels_last)
    towards = torch.randn(3, 10, *size_hw, dtype=torch.float64)

    def run(function: nn.Module | None, dtype: torch.dtype) -> list[Tensor]:
        inputs = maps.detach().to(dtype).requires_grad_()
        weights = [each.detach().to(dtype).requires_grad_() for each in conv.parameters()]
        if function is None:
            output = F.conv2d(inputs, weights[0], weights[1] if bias else None, padding=2)
        else:
            output = torch.func.functional_call(conv, dict(zip(dict(conv.named_parameters()), weights)), inputs)
        (output * towards.to(dtype)).sum().backward()
        return [output, inputs.grad, *(each.grad for each in weights)]  # type: ignore[list-item]

    for mine, exact in zip(run(conv, torch.float32), run(None, torch.float64), strict=True):
        assert mine.shape == exact.shape
        assert (mine - exact).abs().max() < 2e-4 * exact.abs().max()


def test_weights_are_those_of_an_ordinary_convolution_and_inference_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = WinogradConv2d(4, 4, bias=True), nn.Conv2d(4, 4, 5, padding=2)
    theirs.load_state_dict(ours.state_dict())
    maps = torch.randn(2, 4, 9, 9)
    monkeypatch.setattr("detect.models.winograd._filtered", lambda *_: pytest.fail("no gradient is asked for"))
    with torch.no_grad():
        assert torch.equal(ours(maps), theirs(maps))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(maps).dtype == torch.bfloat16
