"""Connections that nobody holds for ever: by a head that doesn't come, an answer not taken, a body left unread."""

from __future__ import annotations

import json
from asyncio import TimerHandle, Transport
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0  # that the head of a request may take, from its connection or its first byte on
STALL_S = 20.0  # that a client may take nothing of its answer
LINGER_S = 2.0  # that a refused upload is read on, so that its sender sees why
MOST_CONNECTIONS = 1000


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with an end to all waiting for the client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, TimerHandle] = {}

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a head, if there is room for one more client."""
        super().connection_made(transport)
        self.transport = _Lingering(transport, self)  # type: ignore[assignment]
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, f"{MOST_CONNECTIONS:,} connections are open, as many as are taken on; ask again later")
        else:
            self._start("head", HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Start the clock with the first byte of a request, and stop it with its head."""
        if self.transport.is_closing():
            return
        idle = self._idle()
        super().data_received(data)
        if not self._idle():
            self._stop("head")
        elif "head" not in self._timers and idle and self.conn.trailing_data[0]:
            self._start("head", HEAD_S)

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
        self._start("stall", STALL_S)

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


class _Lingering:
    """A transport that reads on for a moment when it is closed before all was read.

    Closed at once, it would throw the answer away together with what came in and wasn't read.
    """

    def __init__(self, transport: Transport, protocol: PatientProtocol) -> None:
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
