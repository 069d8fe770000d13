"""Two trainings can't write into one folder: the lock names its holder and ends with its process."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detect.engine.run_folder import RunLock
from detect.engine.trainer import train
from detect.errors import ConfigError, DataError
from tiny import tiny_config, write_tiny

ROOT = Path(__file__).resolve().parents[2]

# Takes the lock, starts a child like a loader process, and waits to be killed.
_HOLDER = """
import os, pathlib, sys, time
from detect.engine.run_folder import RunLock
lock = RunLock(pathlib.Path(sys.argv[1]))  # released with its last reference, like a file
lock.acquire()
child = os.fork() if hasattr(os, "fork") else None
if child != 0:
    print(child, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills and forks the POSIX way")
def test_a_killed_process_and_its_children_release_the_lock(tmp_path: Path) -> None:
    data, run = write_tiny(tmp_path, "train", images=4, seed=0), tmp_path / "run"
    run.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(run)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        config = tiny_config(data.parent, run, data={"val": None}, train={"epochs": 1})
        for resume in (False, True):
            with pytest.raises(ConfigError) as caught:
                train(config, resume=resume)
            message = rf"run: another training writes there \(process {holder.pid} on \S+, since 20\S+\); wait for it"
            assert caught.match(message)
        assert [path.name for path in run.iterdir()] == [".lock"]
        holder.kill()
        holder.wait()
        assert train(config, resume=True) == run  # at once, although the child is running
    finally:
        os.kill(child, 9)
        holder.kill()
        holder.communicate()
    assert not (run / ".lock").exists()


def test_a_second_training_in_the_same_process_raises(tmp_path: Path) -> None:
    with RunLock(tmp_path) as first:
        assert first.acquire()
        assert first.acquire()  # already held by this object
        holder = json.loads((tmp_path / ".lock").read_text())
        assert holder["process"] == os.getpid()
        assert set(holder) == {"process", "host", "since"}
        with pytest.raises(ConfigError, match=rf"another training writes there \(process {os.getpid()}\)"):
            RunLock(tmp_path).acquire()
    assert not (tmp_path / ".lock").exists()
    with RunLock(tmp_path) as second:
        assert second.acquire()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask for files")
def test_the_lock_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with RunLock(tmp_path) as lock:
            assert lock.acquire()
            assert lock.path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_leftover_lock_file_does_not_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"process": 1, "host": "elsewhere", "since": "long ago", "and": "more"}')
    with RunLock(tmp_path) as lock:
        assert lock.acquire()
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()


@pytest.mark.skipif(os.name != "posix", reason="replaces fcntl.flock")
def test_a_lock_on_a_removed_file_is_not_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder may remove the file between opening and locking, and another process may create it again."""
    fcntl = pytest.importorskip("fcntl")
    locking, calls = fcntl.flock, []

    def slow(file: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        locking(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with RunLock(tmp_path) as lock:
        assert lock.acquire()
        assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB] * 2
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(file: int, operation: int) -> None:
        raise OSError(number, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    write_tiny(tmp_path, "train", images=4, seed=0)
    for resume in (False, True):  # a new folder, then an existing one
        train(tiny_config(tmp_path, tmp_path / "run", data={"val": None}, train={"epochs": 1}), resume=resume)
        assert "run: this file system has no locks; make sure that no other training" in capsys.readouterr().out


def test_a_failed_training_releases_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match="names no file"):
        train(tiny_config(tmp_path, tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []
    with RunLock(tmp_path / "run") as again:
        assert again.acquire()
