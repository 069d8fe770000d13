"""Exponential moving average of the weights, judged and shipped instead of the weights of the last step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Average of parameters and of normalisation statistics.

    The decay starts low and rises to ``decay`` as min(decay, (1 + n) / (1 / reach + n)) at update n, so that a short
    training isn't held back by its random start. While it rises, this is the polynomial-decay averaging of Shamir and
    Zhang (2013, https://arxiv.org/abs/1212.1824). Decay 0 keeps a plain copy.

    Args:
        model: what is averaged.
        decay: the largest decay, in 0 to 1, 1 excluded.
        reach: mean age of the averaged weights as a share of the updates so far, in 0 to 0.5, while the decay rises.
    """

    def __init__(self, model: nn.Module, decay: float, reach: float) -> None:
        self.decay, self.reach, self.updates = decay, reach, 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (1 / self.reach + self.updates))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.weights[name])
                current.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averaged, current, share)
