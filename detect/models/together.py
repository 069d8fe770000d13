"""What networks agree on where several processes train one together: sums over all of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def team_size() -> int:
    """How many processes train together; 1 for an ordinary training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, a new tensor of the same shape; all of them have to ask, in the same order."""
    total = values.clone()
    if team_size() > 1:
        dist.all_reduce(total)
    return total


def mean_count(count: int, device: torch.device) -> Tensor:
    """What a process divides its sum of losses by, FloatTensor[]: the mean of all processes' counts, none taken as one.

    Gradients are averaged over the processes. The average of sums divided by this is the sum over all divided by
    the count of all, as one process would have it; the average of means would weigh a process of few like one of many.
    """
    size = team_size()
    total = summed(torch.tensor(float(count), device=device))
    return total.clamp(min=1) / size
