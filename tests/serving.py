"""For the tests of serving: a server in a thread with a detector of known results, and a client."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image as Pillow

from detect.images import Pixels
from detect.serve.app import create_app
from detect.serve.requests import Limits
from detect.serve.server import listen, make_server
from detect.serve.service import ServedModel
from detect.structures import Detections

CATEGORIES = ("bright", "dark")
THRESHOLDS = {"bright": 0.5, "dark": 0.2}


@dataclass
class Known:
    """A detector that returns two boxes for every image, with scores given by its gray values.

    Attributes:
        seen: the processed images, batch by batch.
        gate: event that it waits for before each batch.
        began: event that is set when a batch has begun.
    """

    seen: list[list[Pixels]] = field(default_factory=list)
    gate: Event = field(default_factory=Event)
    began: Event = field(default_factory=Event)

    def look(self, images: Sequence[Pixels]) -> list[Detections]:
        self.began.set()
        assert self.gate.wait(60)
        self.seen.append(list(images))
        return [self.of(each) for each in images]

    @staticmethod
    def of(image: Pixels) -> Detections:
        height, width = image.shape[:2]
        boxes = np.array([[1, 2, width - 1, height - 2], [0, 0, 4, 5]], np.float32)
        share = float(image.mean()) / (255 if image.dtype == np.uint8 else 65535)
        scores = np.sort(np.array([share, 0.3], np.float32))[::-1]
        return Detections(boxes, scores.copy(), np.array([1, 2], np.int64), CATEGORIES)


@dataclass(frozen=True)
class Reply:
    """A response of the server."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> str:
        """The sentence of an error response, after a check of its format."""
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["error"]
        sentence = self.json["error"]
        assert sentence
        assert "\n" not in sentence
        return str(sentence)


class Client:
    """Sends requests to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            headers_by_name = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers_by_name, response.read())
        finally:
            connection.close()

    def detect(self, body: bytes, kind: str = "image/png", query: str = "", **headers: str) -> Reply:
        return self.ask("POST", f"/v1/detect{query}", body, content_type=kind, **headers)


@contextmanager
def served(look: Any, *, limits: Limits | None = None, token: str | None = None) -> Iterator[Client]:
    """A server in a thread, stopped in the same way as by a signal."""
    limits = limits or Limits(timeout_s=20)
    model = ServedModel("known", CATEGORIES, THRESHOLDS, look)
    ready = Event()
    server = make_server(create_app(model, limits, token=token), timeout_s=limits.timeout_s, say=ready.set)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Client(port)
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


def gray(value: int, *, width: int = 40, height: int = 30, dtype: Any = np.uint8) -> Pixels:
    """An image of one gray value."""
    return np.full((height, width), value, dtype)


def as_file(pixels: Pixels, kind: str = "PNG") -> bytes:
    """An image file."""
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, kind)
    return file.getvalue()


def as_npy(array: Any, **options: Any) -> bytes:
    """An .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def as_form(content: bytes, name: str = "plate.png", part: str = "image") -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    head = f'--cut\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--cut--\r\n", "multipart/form-data; boundary=cut"
