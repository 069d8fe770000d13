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


def run_processes(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run ``work`` in ``size`` processes with the environment variables of torchrun; its results by rank."""
    context = multiprocessing.get_context("fork")
    port, results = str(free_port()), context.SimpleQueue()
    world = [
        context.Process(target=_run_one, args=(rank, size, port, results, work, arguments)) for rank in range(size)
    ]
    for process in world:
        process.start()
    outcomes = dict(results.get() for _ in world)
    for process in world:
        process.join()
    errors = [each for each in outcomes.values() if isinstance(each, BaseException)]
    if errors:
        raise errors[0]
    return [outcomes[rank] for rank in range(size)]


def train_in_processes(size: int, config: Config) -> None:
    run_processes(size, train, config)


def _run_one(
    rank: int, size: int, port: str, results: SimpleQueue[Any], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update({**places, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    try:
        results.put((rank, work(*arguments)))
    except BaseException as error:  # raised again in the parent
        results.put((rank, error))


def in_process_group(work: Any, *arguments: Any) -> Any:
    dist.init_process_group("gloo")
    try:
        return work(dist.get_rank(), *arguments)
    finally:
        dist.destroy_process_group()
