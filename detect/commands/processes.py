"""One command line run by several processes that train together on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from .verb import INTERRUPTED_EXIT, LOST_EXIT

_POLL_S = 0.1
_WATCH_S = 0.5
_GRACE_S = 5
_TELLS_NOTHING = (None, 0, LOST_EXIT)  # exit codes of processes that go on, ended well, or lost another one
_PARENT = "DETECT_PARENT"  # a process started by run_together finds here who waits for it


def is_alone() -> bool:
    """Whether nobody has put this process into a team yet: neither torchrun nor ``run_together``."""
    return "RANK" not in os.environ


def is_follower() -> bool:
    """Whether another process of the team does the talking."""
    return os.environ.get("RANK", "0") != "0"


def run_together(arguments: Sequence[str], count: int) -> int:
    """Run ``detect`` with these arguments in ``count`` processes, sharing this machine's cores.

    They find each other by the variables that torchrun sets as well. Only the first one's output is shown, unless
    another fails alone, or the first one knows no more than that. When one fails or Ctrl-C comes, all end.

    Returns:
        The exit code of the first to fail by itself, 0 if none does.
    """
    threads = str(max(1, (os.cpu_count() or 1) // count))
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, "-m", "detect", *arguments]
    with tempfile.TemporaryFile("w+") as aside:
        team = []
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), _PARENT: str(os.getpid())}
            environment = {"OMP_NUM_THREADS": threads, **os.environ, **shared, **own}
            out, err = (None, None) if rank == 0 else (subprocess.DEVNULL, aside)
            team.append(subprocess.Popen(command, env=environment, stdout=out, stderr=err))
        try:
            code = _first_failure(team)
            leader = _ended(team[0]) if code else 0
            codes = _telling_codes(team)
        except KeyboardInterrupt:  # the terminal has told all of them, and the leader says how to go on
            for process in team:
                if _ended(process) is None:
                    process.send_signal(signal.SIGINT)
                process.wait()
            return INTERRUPTED_EXIT
        finally:
            for process in team:
                process.kill()
                process.wait()
        if code and leader in _TELLS_NOTHING:
            aside.seek(0)
            sys.stderr.write(aside.read())
        return next((each for each in codes if each not in _TELLS_NOTHING), code)


def end_with_parent() -> None:
    """End a process of ``run_together`` soon after that has been killed, which would leave it training unseen."""
    parent = os.environ.get(_PARENT)
    if parent is None or os.name != "posix":  # elsewhere a process keeps its parent's number for ever
        return

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_WATCH_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _first_failure(team: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [process.poll() for process in team]
        if any(codes) or all(code == 0 for code in codes):
            return next((code for code in codes if code), 0)
        time.sleep(_POLL_S)


def _telling_codes(team: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes once one tells more than that another process was lost: who caused that may end a moment later."""
    deadline = time.monotonic() + _GRACE_S
    while True:
        codes = [process.poll() for process in team]
        told = any(code not in _TELLS_NOTHING for code in codes)
        if told or None not in codes or time.monotonic() > deadline:
            return codes
        time.sleep(_POLL_S)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that is about to end; None if it goes on."""
    try:
        return process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
