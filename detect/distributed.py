"""Training shared by several processes, as torchrun starts them: who this one is, and what all of them agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training; a team of one is an ordinary training.

    Attributes:
        rank: this process's number, from 0.
        size: how many processes there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes, prints and judges."""
        return self.rank == 0

    def check_shares(self, batch_size: int) -> None:
        """Refuse a batch, of images or clips, that the team can't share evenly.

        Raises:
            ConfigError: it can't.
        """
        if batch_size % self.size:
            found = f"{batch_size} images or clips a step can't be shared evenly by {self.size} processes"
            raise ConfigError(found, where="train.batch_size", fix=f"make it a multiple of {self.size}")

    def wrapped(self, model: nn.Module, *, rests: bool = False) -> nn.Module:
        """The model, its gradients averaged over the team in each backward pass.

        Args:
            model: on its device.
            rests: whether some of its parts have nothing to do in some steps.
        """
        return DistributedDataParallel(model, find_unused_parameters=rests) if self.size > 1 else model

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value averaged over the team; a value that is no finite number anywhere is none everywhere."""
        if self.size == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        if dist.get_backend() == "nccl":
            total = total.float().cuda()
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist()))

    def gathered(self, value: Any) -> list[Any]:
        """Each process's value, a plain Python one or a CPU tensor, by rank, on every process."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def told(self, value: Any) -> Any:
        """The leader's value, a plain Python one, on every process."""
        if self.size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """This process's team, by the variables that torchrun sets; alone without them.

    Args:
        device: what the team trains on; GPUs talk over NCCL, CPUs over Gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process among those of its machine, where only "cuda" was asked for.

    Raises:
        ConfigError: the machine has fewer GPUs than processes.
    """
    if device != torch.device("cuda") or "LOCAL_RANK" not in os.environ:
        return device
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= gpus:
        found = f"each process wants a GPU of its own, and this machine has {gpus}"
        raise ConfigError(found, where="train.processes", fix="start as many processes, or set train.device=cpu")
    return torch.device("cuda", number)
