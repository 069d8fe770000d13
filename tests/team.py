"""Trainings by several processes on this machine, forked so that none has to import torch again."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import pytest
import torch.distributed as dist

from detect.config.schema import Config
from detect.engine.trainer import train

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the POSIX way")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work`` gives in each of ``size`` processes that know each other by torchrun's variables, by rank."""
    context = multiprocessing.get_context("fork")
    port, told = str(free_port()), context.SimpleQueue()
    world = [context.Process(target=_one, args=(rank, size, port, told, work, arguments)) for rank in range(size)]
    for process in world:
        process.start()
    found = dict(told.get() for _ in world)
    for process in world:
        process.join()
    broken = [each for each in found.values() if isinstance(each, BaseException)]
    if broken:
        raise broken[0]
    return [found[rank] for rank in range(size)]


def train_together(size: int, config: Config) -> None:
    together(size, train, config)


def _one(
    rank: int, size: int, port: str, told: SimpleQueue[Any], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update({**places, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    try:
        told.put((rank, work(*arguments)))
    except BaseException as error:  # whatever it is, the test shows it
        told.put((rank, error))


def in_team(work: Any, *arguments: Any) -> Any:
    dist.init_process_group("gloo")
    try:
        return work(dist.get_rank(), *arguments)
    finally:
        dist.destroy_process_group()
