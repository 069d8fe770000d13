"""Optimizer, learning-rate schedule, EMA of the weights, seeds, deterministic algorithms and precision."""

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
    """Exponential moving average of parameters and of normalisation statistics.

    The decay starts low and rises to ``decay`` as min(decay, (1 + n) / (1 / reach + n)) at update n, so that the random
    initial weights don't dominate a short training. While it rises, this is the polynomial-decay averaging of Shamir
    and Zhang (2013, https://arxiv.org/abs/1212.1824). Decay 0 keeps a plain copy.

    Args:
        model: the model to average.
        decay: maximum decay, 0 to 1, excluding 1.
        reach: mean age of the averaged weights as a share of the updates so far, 0 to 0.5, while the decay rises.
    """

    def __init__(self, model: nn.Module, decay: float, reach: float) -> None:
        self.decay, self.reach, self.updates = decay, reach, 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights after a step to the average."""
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
    """Seed of a run's random initial weights."""
    return _derive_seed(seed, _WEIGHTS_STREAM)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Seed of an epoch's random numbers: the same in a resumed run, different on each process of a group."""
    return _derive_seed(seed, _EPOCH_STREAM, epoch, *([rank] if rank else []))


def _derive_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


_DETERMINISTIC: Any = torch.utils.deterministic  # untyped: torch declares no type for the module's setting


@contextmanager
def deterministic_algorithms(device: torch.device, *, required: bool) -> Iterator[None]:
    """Use torch's deterministic algorithms in a context; restores the earlier settings afterwards.

    On a CPU they are always used, because they cost no time there; an operation without one raises a warning. With
    ``required`` they are used on every device, and such an operation raises torch's RuntimeError.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = _DETERMINISTIC.fill_uninitialized_memory
    if required:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch requires it for matrix products on a GPU
    _DETERMINISTIC.fill_uninitialized_memory = required and filling  # a debugging aid that costs time
    torch.use_deterministic_algorithms(required or device.type == "cpu", warn_only=not required)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _DETERMINISTIC.fill_uninitialized_memory = filling


def build_optimizer(model: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """Build AdamW or SGD with Nesterov momentum; biases and normalisation parameters have no weight decay."""
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return torch.optim.AdamW(groups, lr=settings.lr)


def learning_rate(step: int, settings: TrainConfig, *, total_steps: int) -> float:
    """Linear warm-up to the peak ``settings.lr``, then cosine decay to ``settings.lr_floor`` times the peak.

    Args:
        step: 0-based index of the step to take.
        settings: peak, final rate, and warm-up steps, which are limited to a third of the training.
        total_steps: length of the training in steps.
    """
    peak, floor = settings.lr, settings.lr_floor
    warmup = min(settings.warmup_steps, total_steps // 3)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return the dtype of convolutions: "auto" gives bfloat16 if the hardware supports it natively, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public function for it
    return "bfloat16" if device.type == "cpu" and native is not None and native() else "float32"
