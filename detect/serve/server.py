"""A process that serves: its socket, and how signals end it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..errors import ConfigError
from .connections import PatientProtocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_S = 5.0  # beyond what a request may take, that a stop waits


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on; they wait until ``run``.

    Args:
        host: name or address of this machine.
        port: 0: a free one.

    Raises:
        ConfigError: no such address here, or the port is taken or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        taken = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = (os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)).lower()
        fix = "stop the program that uses it, or choose another --host or --port (0: a free one)"
        raise ConfigError(f"can't listen there ({reason})", where=f"{host}:{port}", fix=fix) from None
    # Named TCP, so that asyncio sends answers at once: else each waits 40 ms for the client to acknowledge its head.
    return socket.socket(taken.family, taken.type, socket.IPPROTO_TCP, fileno=taken.detach())


def address_of(listening: socket.socket) -> str:
    """ "http://127.0.0.1:8000/"."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(app: FastAPI, *, timeout_s: float, say: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server to ``run(sockets=[listen(...)])`` until SIGINT or SIGTERM, or until its ``should_exit`` is set.

    Then nothing new is taken, and what is at work is finished. A second signal ends the process at once. In a thread
    that isn't the main one it leaves signals alone.

    Args:
        app: from ``create_app``.
        timeout_s: the app's, for uploads and for answers.
        say: called when it serves.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff")],
        timeout_keep_alive=10,
        timeout_graceful_shutdown=int(2 * timeout_s + _GRACE_S),
    )
    return _Server(config, say)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, say: Callable[[], None]) -> None:
        super().__init__(config)
        self._say = say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises them again in the end, and the exit code would tell of a process that was killed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _write(b"detect: stopped at once; what was at work is lost\n")
            os._exit(128 + sig)
        self.should_exit = True
        _write(b"detect: stopping when what is at work is finished; a second signal stops at once\n")


def _write(line: bytes) -> None:
    """print() isn't allowed in a signal's handler while another one is at work."""
    os.write(sys.stderr.fileno(), line)
