"""How the processes of a group connect, and the errors if they don't, or if one is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from detect.config.schema import DataConfig
from detect.data.dataset import DetectionDataset, read_dataset
from detect.engine.data import read_data
from detect.errors import DistributedError
from detect.models import distributed
from detect.models.distributed import World, process_group, was_restarted
from processes import free_port, in_process_group, needs_fork, run_processes
from tiny import write_tiny

CPU = torch.device("cpu")


def names(store: Any, size: int) -> list[str]:
    """The name that each process finds; the main process starts last."""
    group_names: dict[int, str] = {}

    def find_name(rank: int) -> None:
        group_names[rank] = distributed._unique_group_name(store, rank, size)

    world = [threading.Thread(target=find_name, args=(rank,), daemon=True) for rank in reversed(range(size))]
    for process in world:
        process.start()
        process.join(timeout=0.1)
    for process in world:
        process.join(timeout=20)
    return [group_names[rank] for rank in range(size)]


def test_a_new_group_ignores_the_store_entries_of_the_previous_group() -> None:
    store = dist.HashStore()
    teams = [names(store, 3), names(store, 3), names(store, 2), names(store, 4)]
    assert [len(set(world)) for world in teams] == [1] * 4
    assert len({world[0] for world in teams}) == 4


def test_a_failed_rendezvous_gives_one_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_TIMEOUT", timedelta(seconds=1))
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with (
        pytest.raises(DistributedError, match=r"2 processes are to train together and don't find each other \(.+\)"),
        process_group(CPU),
    ):
        pass
    monkeypatch.delenv("RANK")
    with pytest.raises(DistributedError, match="RANK expected") as caught, process_group(CPU):
        pass
    assert "\n" not in str(caught.value)
    assert not dist.is_initialized()


def lose(words: str) -> str:
    try:
        with process_group(CPU):
            raise RuntimeError(words)
    except DistributedError as error:
        return str(error)
    except RuntimeError as error:
        return f"as it was: {error}"
    return ""


@needs_fork
def test_a_lost_process_is_reported_and_own_errors_are_not_hidden() -> None:
    gloo = "[/src/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711. This is typical\nand more"
    for message in run_processes(2, lose, gloo):
        assert message.startswith(
            "another process of this training was lost (Connection closed by peer [127.0.0.1]:4711)"
        )
        assert message.endswith("torchrun --max-restarts does so automatically")
    assert run_processes(2, lose, "shapes differ") == ["as it was: shapes differ"] * 2


def _report_lost_process(rank: int, dead: int, port: int, messages: SimpleQueue[str]) -> None:
    """Two processes of which one is killed while the other waits for it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        with process_group(CPU) as world:
            world.all_gather("both are there")
            if rank == dead:
                os.kill(os.getpid(), signal.SIGKILL)
            world.all_gather("one is not")
    except BaseException as error:  # the test shows any error
        messages.put(f"{type(error).__name__}: {error}")
    else:
        messages.put("nothing was noticed")


@needs_fork
@pytest.mark.parametrize("dead", [0, 1])
def test_a_killed_process_is_recognised_by_torchs_error_text(dead: int) -> None:
    """Fails if torch changes its error text: then ``joined`` must be updated. The first process keeps the store."""
    context = multiprocessing.get_context("fork")
    messages, port = context.SimpleQueue(), free_port()
    world = [context.Process(target=_report_lost_process, args=(rank, dead, port, messages)) for rank in range(2)]
    for process in world:
        process.start()
    for process in world:
        process.join(timeout=60)
    assert world[dead].exitcode == -signal.SIGKILL
    assert world[1 - dead].exitcode == 0
    assert not messages.empty()
    assert messages.get().startswith("DistributedError: another process of this training was lost (")


def test_only_torchrun_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert not was_restarted()
    for count, restarted in (("0", False), ("2", True)):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
        assert was_restarted() is restarted


def _read(rank: int, data: DataConfig) -> list[str]:
    read, pixels = [], DetectionDataset._read

    def watched(self: DetectionDataset, index: int) -> Any:
        read.append(self.path(index).name)
        return pixels(self, index)

    DetectionDataset._read = watched  # type: ignore[method-assign]  # in a forked process
    read_data(data, world=World(rank, 2), say=lambda _: None)
    return read


@needs_fork
@pytest.mark.parametrize("cache", [False, True])
def test_images_that_are_not_kept_are_read_by_one_process_each(tmp_path: Path, cache: bool) -> None:
    train, val = write_tiny(tmp_path, "train", images=7, seed=0), write_tiny(tmp_path, "val", images=3, seed=1)
    first, second = (
        {name for name in share if name != "train_00.bmp"}  # read for its bit depth
        for share in run_processes(2, in_process_group, _read, DataConfig(train=train, val=val, cache=cache))
    )
    of_train = {path.name for path in (each.path for each in read_dataset(train, role="data.train").images)}
    assert (first | second) >= of_train - {"train_00.bmp"}
    assert {"val_00.bmp", "val_01.bmp", "val_02.bmp"} <= first | second
    common = {name for name in first & second if name.startswith("train")}
    assert common == (of_train - {"train_00.bmp"} if cache else set())
