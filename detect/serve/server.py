"""The server process: its socket, timeouts of its connections, and shutdown on signals."""

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

HEADER_TIMEOUT_S = 10.0  # for the head of a request, from the connection or from its first byte
WRITE_TIMEOUT_S = 20.0  # during which a client may read nothing of its response
LINGER_S = 2.0  # during which a rejected upload is still read, so that the client receives the error
MAX_CONNECTIONS = 1000


class TimeoutProtocol(H11Protocol):
    """The HTTP/1.1 protocol of uvicorn with timeouts for slow clients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, TimerHandle] = {}

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request head, or reject the connection if there are too many."""
        super().connection_made(transport)
        self.transport = _LingeringTransport(transport, self)  # type: ignore[assignment]
        if len(self.connections) > MAX_CONNECTIONS:
            self._reject(503, f"{MAX_CONNECTIONS:,} connections are open, which is the limit; retry later")
        else:
            self._start("head", HEADER_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Start the head timeout with the first byte of a request, and stop it after the head."""
        if self.transport.is_closing():
            return
        idle = self._idle()
        super().data_received(data)
        if not self._idle():
            self._stop("head")
        elif "head" not in self._timers and idle and self.conn.trailing_data[0]:
            self._start("head", HEADER_TIMEOUT_S)

    def on_response_complete(self) -> None:
        """Close the connection if its request was rejected before the whole body was received."""
        super().on_response_complete()
        if self.unread:
            self.transport.close()

    @property
    def unread(self) -> bool:
        """Whether the client may still send data of a rejected request."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def shutdown(self) -> None:
        """Close the connection as soon as its request is answered."""
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """Start the write timeout: the client does not read."""
        super().pause_writing()
        self._start("stall", WRITE_TIMEOUT_S)

    def resume_writing(self) -> None:
        """Stop the write timeout: the client reads again."""
        super().resume_writing()
        self._stop("stall")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timeouts."""
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Reject a request that is not valid HTTP, in JSON like all errors."""
        self._reject(400, f"the request is not valid HTTP ({msg.rstrip('.')}); send HTTP/1.1")

    def _idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _reject(self, status: int, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        close = self.transport.abort if name == "stall" else self.transport.close
        self._timers[name] = self.loop.call_later(seconds, close)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


class _LingeringTransport:
    """A transport that continues to read for ``LINGER_S`` when it is closed during an upload.

    Closing a socket with unread data would discard the response before the client receives it.
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
_SHUTDOWN_GRACE_S = 5.0  # that a shutdown waits in addition to the timeouts of a request


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; its connections wait until the server runs.

    Args:
        host: host name or address of this machine.
        port: port number; 0: any free port.

    Raises:
        ConfigError: the address does not belong to this machine, or the port is in use or not permitted.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = (os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)).lower()
        fix = "stop the program that uses it, or choose another --host or --port (0: any free port)"
        raise ConfigError(f"can't listen on this address ({reason})", where=f"{host}:{port}", fix=fix) from None
    # With IPPROTO_TCP asyncio sets TCP_NODELAY; without it each response waits 40 ms for an acknowledgement.
    return socket.socket(listening.family, listening.type, socket.IPPROTO_TCP, fileno=listening.detach())


def address_of(listening: socket.socket) -> str:
    """ "http://127.0.0.1:8000/"."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(app: FastAPI, *, timeout_s: float, say: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server to ``run(sockets=[listen(...)])`` until SIGINT or SIGTERM, or until its ``should_exit`` is set.

    After the first signal no new requests are accepted and those in progress are finished; a second signal ends the
    process immediately. Outside the main thread no signal handlers are installed.

    Args:
        app: result of ``create_app``.
        timeout_s: timeout of the app for uploads and for responses.
        say: called when the server accepts requests.
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
        """Handle signals without raising them again as uvicorn does, which would give the exit code of a kill."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _write(b"detect: stopped immediately; requests in progress are lost\n")
            os._exit(128 + sig)
        self.should_exit = True
        _write(b"detect: stopping after the requests in progress; a second signal stops immediately\n")


def _write(line: bytes) -> None:
    """Write to stderr from a signal handler, where print() is not reentrant."""
    os.write(sys.stderr.fileno(), line)
