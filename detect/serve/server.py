"""A process that serves: its socket, its connections, and how signals end it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from asyncio import TimerHandle, Transport
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ConfigError

HEADER_TIMEOUT_S = 10.0  # that the head of a request may take, from its connection or its first byte on
WRITE_TIMEOUT_S = 20.0  # that a client may take nothing of its answer
LINGER_S = 2.0  # that a refused upload is read on, so that its sender sees why
MAX_CONNECTIONS = 1000


class TimeoutProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with an end to all waiting for the client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, TimerHandle] = {}

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a head, if there is room for one more client."""
        super().connection_made(transport)
        self.transport = _LingeringTransport(transport, self)  # type: ignore[assignment]
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, f"{MAX_CONNECTIONS:,} connections are open, as many as are taken on; ask again later")
        else:
            self._start("head", HEADER_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Start the clock with the first byte of a request, and stop it with its head."""
        if self.transport.is_closing():
            return
        idle = self._idle()
        super().data_received(data)
        if not self._idle():
            self._stop("head")
        elif "head" not in self._timers and idle and self.conn.trailing_data[0]:
            self._start("head", HEADER_TIMEOUT_S)

    def on_response_complete(self) -> None:
        """A connection whose request was refused before its body was whole serves no other one."""
        super().on_response_complete()
        if self.unread:
            self.transport.close()

    @property
    def unread(self) -> bool:
        """Whether the client may still be sending what nobody wants."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def shutdown(self) -> None:
        """End it as soon as its request is answered."""
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """The client takes nothing."""
        super().pause_writing()
        self._start("stall", WRITE_TIMEOUT_S)

    def resume_writing(self) -> None:
        """It takes something."""
        super().resume_writing()
        self._stop("stall")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP, in JSON as all else."""
        self._refuse(400, f"the request can't be understood ({msg.rstrip('.')}); send HTTP/1.1")

    def _idle(self) -> bool:
        """Whether no request is at work."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        end = self.transport.abort if name == "stall" else self.transport.close
        self._timers[name] = self.loop.call_later(seconds, end)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


class _LingeringTransport:
    """A transport that reads on for a moment when it is closed before all was read.

    Closed at once, it would throw the answer away together with what came in and wasn't read.
    """

    def __init__(self, transport: Transport, protocol: TimeoutProtocol) -> None:
        self._transport, self._protocol, self._closing = transport, protocol, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        if not self._protocol.unread:
            self._transport.close()
            return
        self._closing = True
        self._transport.resume_reading()
        self._transport.write_eof()
        self._protocol.loop.call_later(LINGER_S, self._transport.close)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHUTDOWN_GRACE_S = 5.0  # beyond what a request may take, that a stop waits


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


def make_server(app: FastAPI, *, timeout_s: float, say: Callable[[], None] = lambda: None) -> uvicorn.Server:
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
        http=TimeoutProtocol,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff")],
        timeout_keep_alive=10,
        timeout_graceful_shutdown=int(2 * timeout_s + _SHUTDOWN_GRACE_S),
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
