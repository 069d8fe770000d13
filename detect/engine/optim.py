"""The optimiser, its learning-rate schedule, and the precision of a step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import TrainConfig


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
