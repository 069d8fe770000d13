"""Training shared by several processes, as torchrun starts them: who this one is, and what all of them agree on."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError, DistributedError, is_out_of_memory


def world_size() -> int:
    """How many processes train together; 1 for an ordinary training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, a new tensor of the same shape; all of them have to ask, in the same order."""
    total = values.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def reduce_mean_count(count: int, device: torch.device) -> Tensor:
    """What a process divides its sum of losses by, FloatTensor[]: the mean of all processes' counts, none taken as one.

    Gradients are averaged over the processes. The average of sums divided by this is the sum over all divided by
    the count of all, as one process would have it; the average of means would weigh a process of few like one of many.
    """
    size = world_size()
    total = all_reduce_sum(torch.tensor(float(count), device=device))
    return total.clamp(min=1) / size


# The leader audits its data before the first step, and shares of images are read in unequal times.
_TIMEOUT = timedelta(hours=1)
_POLL_S = 0.05
_CONNECTION_ERRORS = ("gloo", "nccl", "processgroup", "process group", "tcpstore")  # in what torch says then


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one training; a group of one is an ordinary training.

    Attributes:
        rank: this process's number, from 0.
        size: how many processes there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch, of images or clips, that the group can't share evenly.

        Raises:
            ConfigError: it can't.
        """
        if batch_size % self.size:
            found = f"{batch_size} images or clips a step can't be shared evenly by {self.size} processes"
            raise ConfigError(found, where="train.batch_size", fix=f"make it a multiple of {self.size}")

    def wrap_ddp(self, model: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
        """The model, its gradients averaged over the group in each backward pass.

        Args:
            model: on its device.
            find_unused_parameters: whether some of its parts have nothing to do in some steps.
        """
        return DistributedDataParallel(model, find_unused_parameters=find_unused_parameters) if self.size > 1 else model

    def reduce_mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value averaged over the group; a value that is no finite number anywhere is none everywhere."""
        if self.size == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        if dist.get_backend() == "nccl":
            total = total.float().cuda()
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist()))

    def all_gather(self, value: Any) -> list[Any]:
        """Each process's value, a plain Python one or a CPU tensor, by rank, on every process."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """The leader's value, a plain Python one, on every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """This process's group, by the variables that torchrun sets; alone without them.

    Args:
        device: what the group trains on; GPUs talk over NCCL, CPUs over Gloo.

    Raises:
        DistributedError: the processes don't find each other, or one was lost.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_TIMEOUT))
        store = PrefixStore(_unique_group_name(store, rank, size), store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        found = f"{size} processes are to train together and don't find each other ({_first_line(error)})"
        fix = "start them with torchrun, all with the same address and port"
        raise DistributedError(found, where="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT", fix=fix) from None
    try:
        yield World(dist.get_rank(), size)
    except RuntimeError as error:
        if is_out_of_memory(error) or not any(word in str(error).lower() for word in _CONNECTION_ERRORS):
            raise
        found = f"another process of this training was lost ({_first_line(error)})"
        fix = "--resume goes on after the last whole epoch, which torchrun --max-restarts does by itself"
        raise DistributedError(found, fix=fix) from None
    finally:
        dist.destroy_process_group()


def _unique_group_name(store: Store, rank: int, size: int) -> str:
    """A name that all processes of this group know, and none of a group before it.

    torchrun keeps one store for a group and all that it starts in its place, where a new process may read the address
    of a dead one and wait for it. So each says hello by a word of its own, and goes by the welcome that repeats it.
    """
    word = uuid4().hex
    store.set(f"hello/{rank}", word)
    while True:
        if rank == 0:
            store.set("welcome", json.dumps([word, *(store.get(f"hello/{i}").decode() for i in range(1, size))]))
            if store.check([f"{word}/{i}" for i in range(1, size)]):
                return word
        else:
            welcome = json.loads(store.get("welcome"))
            if len(welcome) == size and welcome[rank] == word:
                store.set(f"{welcome[0]}/{rank}", "heard")
                return str(welcome[0])
        time.sleep(_POLL_S)


def was_restarted() -> bool:
    """Whether torchrun has started this process again, after it or another one of its group was lost."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _first_line(error: Exception) -> str:
    """What torch says first, without the places in its source."""
    sentence = re.sub(r"\[[^\]]*\.(cc|cpp):\d+\] ", "", str(error).strip()).partition("\n")[0]
    return sentence.partition(". This is")[0].rstrip(".")


def resolve_device(name: str) -> torch.device:
    """The device that a name means; every other part of the library is given this one.

    Args:
        name: "auto" is the first GPU if there is one, else the CPU; other names are torch's ("cpu", "cuda:1"). Where
            torchrun has started several processes on a machine, "auto" and "cuda" mean a GPU of its own for each.

    Raises:
        ConfigError: no such device, not on this machine, or fewer GPUs than processes.
    """
    if name == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        try:
            device = torch.device(name)
        except RuntimeError:
            raise ConfigError(f"unknown device '{name}'", fix="use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' was asked for, but torch sees no GPU", fix="use device auto or cpu")
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= gpus:
            found = f"each process needs a GPU of its own, and this machine has {gpus}"
            raise ConfigError(found, where="train.processes", fix="start as many processes, or set train.device=cpu")
        device = torch.device("cuda", number)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise ConfigError(f"device '{name}' doesn't work on this machine", fix="use auto, cpu or cuda") from None
    return device
