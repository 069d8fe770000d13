"""Counters for Prometheus: requests by status, how long they take, what waits, and how large batches are."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Any, Any], Any]


class Metrics:
    """What one server counts.

    Args:
        waiting: tells how many images wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("detect_requests", "Requests answered", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "detect_request_seconds",
            "From a request's head to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "detect_batch_images", "Images looked at together", buckets=_SIZES, registry=self._registry
        )
        self._detections = Counter("detect_detections", "Detections shown", ["label"], registry=self._registry)
        queue = Gauge("detect_waiting_images", "Images that wait for the detector", registry=self._registry)
        queue.set_function(waiting)

    def saw_batch(self, images: int) -> None:
        """A batch was looked at."""
        self._batches.observe(images)

    def showed(self, label: str) -> None:
        """A detection was sent."""
        self._detections.labels(label).inc()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Counted:
    """An app whose requests are counted; paths that aren't known are counted as one.

    Args:
        app: the app.
        metrics: where they are counted.
        paths: known ones.
    """

    def __init__(self, app: AsgiApp, *, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.answered(path, status, time.monotonic() - start)
