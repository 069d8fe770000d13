"""The optimiser, its learning-rate schedule, the averaged weights, seeds and exact arithmetic."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.schema import TrainConfig


class ModelEma:
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


_WEIGHTS_STREAM, _EPOCH_STREAM = 0, 1


def weights_seed(seed: int) -> int:
    """For the random weights that a run starts from."""
    return _derive_seed(seed, _WEIGHTS_STREAM)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """For what an epoch draws, so that it is the same in a resumed run and another on each process of a group."""
    return _derive_seed(seed, _EPOCH_STREAM, epoch, *([rank] if rank else []))


def _derive_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


_DETERMINISTIC: Any = torch.utils.deterministic  # a module whose setting has no type


@contextmanager
def deterministic_algorithms(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Torch's deterministic algorithms while a training lasts; afterwards all is as before.

    On a CPU they are always taken, as they cost nothing there; an operation that has none warns. Where they are
    ``wanted`` it is an error, as torch words it.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = _DETERMINISTIC.fill_uninitialized_memory
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses to multiply on a GPU
    _DETERMINISTIC.fill_uninitialized_memory = wanted and filling  # finds mistakes of torch's users, at a price
    torch.use_deterministic_algorithms(wanted or device.type == "cpu", warn_only=not wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _DETERMINISTIC.fill_uninitialized_memory = filling


def build_optimizer(model: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; weights are decayed, biases and normalisation parameters are not."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return torch.optim.AdamW(groups, lr=settings.lr)


def learning_rate(step: int, settings: TrainConfig, *, total_steps: int) -> float:
    """Linear warm-up to the peak ``settings.lr``, then a cosine down to ``settings.lr_floor`` times it.

    Args:
        step: 0-based step about to be taken.
        settings: peak, last rate, and the steps of the rise, of which at most a third of the training are taken.
        total_steps: length of the training.
    """
    peak, floor = settings.lr, settings.lr_floor
    warmup = min(settings.warmup_steps, total_steps // 3)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def resolve_precision(precision: str, device: torch.device) -> str:
    """The type that convolutions run in: "auto" is bfloat16 where the hardware multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public name for it yet
    return "bfloat16" if device.type == "cpu" and native is not None and native() else "float32"
