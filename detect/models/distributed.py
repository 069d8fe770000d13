"""Training with several processes started by torchrun: process group, reductions, and the choice of the device."""

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
    """Number of processes of the training; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over all processes, a new tensor of the same shape; all processes have to call it in the same order."""
    total = values.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def reduce_mean_count(count: int, device: torch.device) -> Tensor:
    """Mean count over all processes (at least 1 in total), FloatTensor[]: the divisor of each process's sum of losses.

    Gradients are averaged over the processes. With this divisor, the average equals the total sum divided by the total
    count, as with one process. Averaging the means of the processes would weight all processes equally, whatever their
    counts.
    """
    size = world_size()
    total = all_reduce_sum(torch.tensor(float(count), device=device))
    return total.clamp(min=1) / size


# The main process audits its data before the first step, and processes read their images at different speeds.
_TIMEOUT = timedelta(hours=1)
_POLL_S = 0.05
_CONNECTION_ERRORS = ("gloo", "nccl", "processgroup", "process group", "tcpstore")  # words in torch's messages


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one training; size 1 is training without a process group.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Check that the images or clips of a batch can be divided evenly among the processes.

        Raises:
            ConfigError: they can't.
        """
        if batch_size % self.size:
            message = f"{batch_size} images or clips per step can't be shared evenly by {self.size} processes"
            raise ConfigError(message, where="train.batch_size", fix=f"make it a multiple of {self.size}")

    def wrap_ddp(self, model: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
        """Wrap the model in DistributedDataParallel if there are several processes.

        Args:
            model: on its device.
            find_unused_parameters: whether some parameters are not used in every step.
        """
        return DistributedDataParallel(model, find_unused_parameters=find_unused_parameters) if self.size > 1 else model

    def reduce_mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of each value over the processes; not finite if it is not finite in one of them."""
        if self.size == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        if dist.get_backend() == "nccl":
            total = total.cuda()
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist()))

    def all_gather(self, value: Any) -> list[Any]:
        """Values of all processes (plain Python values or CPU tensors), in the order of ranks, on every process."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """The plain Python value of the main process, on every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Initialise the process group from the environment variables of torchrun; without them, a World of size 1.

    Args:
        device: device of the training; the backend is NCCL for GPUs and Gloo for CPUs.

    Raises:
        DistributedError: the processes can't connect, or one of them was lost.
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
        message = f"{size} processes are to train together and don't find each other ({_first_line(error)})"
        fix = "start them with torchrun, all with the same address and port"
        raise DistributedError(message, where="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT", fix=fix) from None
    try:
        yield World(dist.get_rank(), size)
    except RuntimeError as error:
        if is_out_of_memory(error) or not any(word in str(error).lower() for word in _CONNECTION_ERRORS):
            raise
        message = f"another process of this training was lost ({_first_line(error)})"
        fix = "continue after the last complete epoch with --resume; torchrun --max-restarts does so automatically"
        raise DistributedError(message, fix=fix) from None
    finally:
        dist.destroy_process_group()


def _unique_group_name(store: Store, rank: int, size: int) -> str:
    """A name that is shared by all processes of this group and differs from the names of earlier groups.

    torchrun keeps one store for a group and its restarts, in which a new process could read the address of a dead one
    and wait for it. So each process publishes a random token under "hello/<rank>", rank 0 publishes the tokens of all
    processes under "welcome", and a process accepts a welcome only if it contains its own token. The name is the token
    of rank 0.
    """
    token = uuid4().hex
    store.set(f"hello/{rank}", token)
    while True:
        if rank == 0:
            store.set("welcome", json.dumps([token, *(store.get(f"hello/{i}").decode() for i in range(1, size))]))
            if store.check([f"{token}/{i}" for i in range(1, size)]):
                return token
        else:
            welcome = json.loads(store.get("welcome"))
            if len(welcome) == size and welcome[rank] == token:
                store.set(f"{welcome[0]}/{rank}", "heard")
                return str(welcome[0])
        time.sleep(_POLL_S)


def was_restarted() -> bool:
    """Whether torchrun restarted this process after a process of its group was lost."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _first_line(error: Exception) -> str:
    """First line of an error message of torch, without source locations."""
    line = re.sub(r"\[[^\]]*\.(cc|cpp):\d+\] ", "", str(error).strip()).partition("\n")[0]
    return line.partition(". This is")[0].rstrip(".")


def resolve_device(name: str) -> torch.device:
    """The device of a name. This is the only place of the library where a device is chosen.

    Args:
        name: "auto" is a GPU if there is one, else the CPU; other names are those of torch ("cpu", "cuda:1"). With
            several processes of torchrun on a machine, "auto" and "cuda" are a separate GPU for each process.

    Raises:
        ConfigError: unknown device, not available on this machine, or fewer GPUs than processes.
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
            message = f"each process needs a GPU of its own, and this machine has {gpus}"
            raise ConfigError(message, where="train.processes", fix="start as many processes, or set train.device=cpu")
        device = torch.device("cuda", number)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise ConfigError(f"device '{name}' doesn't work on this machine", fix="use auto, cpu or cuda") from None
    return device
