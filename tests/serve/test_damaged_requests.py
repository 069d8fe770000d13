"""Damaged and hostile requests: each is rejected with one sentence in JSON, and the server continues to work."""

from __future__ import annotations

import pickle
import socket
import struct
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from detect.serve import server as connections
from detect.serve.requests import Limits
from serving import Client, Known, as_file, as_form, as_npy, gray, served

LIMITS = Limits(max_mb=0.25, max_pixels=100_000, timeout_s=10)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    known = Known()
    known.gate.set()
    with served(known.look, limits=LIMITS) as one:
        yield one
        assert one.detect(as_file(gray(200))).status == 200
    (image,) = [each for batch in known.seen for each in batch]
    assert image[0, 0] == 200, "no rejected image has reached the detector"


def png(width: int, height: int, content: bytes) -> bytes:
    """A gray PNG of the given size with any content."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def npy_head(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The header of an .npy file with any text."""
    described = text.encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(described))
    return b"\x93NUMPY" + bytes(version) + size + described


class Trap:
    """Calls a function if it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('pathlib').Path('/tmp/detect-trap').touch()",)


NPY, RAW, FORM = "application/x-npy", "application/octet-stream", "multipart/form-data; boundary=cut"
WHOLE = as_file(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8))
OBJECTS = np.array([Trap(), None], dtype=object)
PICKLED = npy_head(str({"descr": "|O", "fortran_order": False, "shape": (2,)}) + "\n") + pickle.dumps(OBJECTS)
FIELDS = as_npy(np.zeros((4, 4), dtype=[("x", np.uint8)]))
TEXT_FORM = b'--cut\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--cut--\r\n'

BODIES = {
    "nothing": (b"", "image/png", "", 422, "the body is empty"),
    "text": (b"no picture at all", "image/png", "", 422, "is no image"),
    "an empty GIF": (b"GIF89a" + bytes(40), "image/gif", "", 422, "is no image"),
    "a truncated PNG": (WHOLE[: len(WHOLE) // 2], "image/png", "", 422, "damaged or cut short"),
    "a PNG of zeros": (png(300, 300, zlib.compress(bytes(50))), "image/png", "", 422, "damaged or cut short"),
    "a PNG with a huge size": (png(10**5, 10**5, b""), "image/png", "", 422, "10000000000 pixels"),
    "a PNG that decompresses to many pixels": (
        png(7000, 7000, zlib.compress(bytes(7001 * 7000), 9)), "image/png", "", 413, "more than the 100,000 pixels",
    ),
    "an npy that unpickles": (PICKLED, NPY, "", 422, "contains object, not pixels"),
    "a pickle": (pickle.dumps(Trap()), NPY, "", 422, "is no image"),
    "an npy with fields": (FIELDS, NPY, "", 422, "not pixels"),
    "an npy of floats": (as_npy(np.zeros((4, 4))), NPY, "", 422, "contains float64, not pixels"),
    "an npy of four axes": (as_npy(np.zeros((2, 2, 2, 3), np.uint8)), NPY, "", 422, "is no image"),
    "an npy of a number": (as_npy(np.uint8(3)), NPY, "", 422, "is no image"),
    "a truncated npy": (as_npy(gray(1))[:-7], NPY, "", 422, "needs 1,200 bytes, but 1,193 were received"),
    "an npy with extra bytes": (as_npy(gray(1)) + b"x", NPY, "", 422, "but 1,201 were received"),
    "an npy with a huge shape": (
        npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 99999999999)}\n"), NPY, "",
        413, "more than the 100,000 pixels",
    ),
    "an npy with a negative shape": (
        npy_head("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -4)}\n") + bytes(16), NPY, "", 422, "no image",
    ),
    "an npy with code in its header": (npy_head("__import__('os').abort()\n"), NPY, "", 422, "header can't be read"),
    "an npy with a long header": (npy_head("(" * 60_000), NPY, "", 422, "header can't be read"),
    "an npy of version 9": (b"\x93NUMPY\x09\x00" + bytes(200), NPY, "", 422, "header can't be read"),
    "an npy without a header": (b"\x93NUMPY", NPY, "", 422, "header can't be read"),
    "values without a shape": (bytes(900), RAW, "", 422, "is no image"),
    "too few values": (bytes(900), RAW, "?shape=30,31", 422, "needs 930 bytes, but 900 were received"),
    "values with a huge shape": (bytes(900), RAW, "?shape=999999999,999999999", 413, "more than the 100,000"),
    "values of height 0": (bytes(900), RAW, "?shape=0,30", 422, "is no image"),
    "five channels": (bytes(4500), RAW, "?shape=30,30,5", 422, "is no image"),
    "a shape that is not a number": (bytes(900), RAW, "?shape=big", 422, "shape is 'big'"),
    "a shape with an image file": (WHOLE, "image/png", "?shape=90,90", 422, "shape is given for image/png"),
    "values of floats": (bytes(900), RAW, "?shape=30,30&dtype=float64", 422, "dtype is 'float64'"),
    "a threshold that is not a number": (WHOLE, "image/png", "?threshold=high", 422, "threshold is 'high'"),
    "a threshold above 1": (WHOLE, "image/png", "?threshold=2", 422, "threshold is '2'"),
    "a threshold of NaN": (WHOLE, "image/png", "?threshold=nan", 422, "threshold is 'nan'"),
    "an unsupported content type": (WHOLE, "text/html", "", 415, "content type is 'text/html'"),
    "an invalid content type": (WHOLE, "\x00" * 3 + "é" * 300, "", 400, "is not valid HTTP"),
    "a form without a boundary": (b"xyz", "multipart/form-data", "", 400, "the form is malformed"),
    "an empty form": (b"", FORM, "", 422, "no file named image"),
    "a form of random bytes": (bytes(range(256)), FORM, "", 400, "the form is malformed"),
    "a form with another part": (*as_form(WHOLE, part="file"), "", 422, "no file named image"),
    "a form with text instead of a file": (TEXT_FORM, FORM, "", 422, "no file named image"),
    "two files": (as_form(WHOLE)[0][:-9] + as_form(WHOLE)[0], FORM, "", 400, "the form is malformed"),
    "an invalid file name": (*as_form(b"x", name="../../etc/\x1b[31m" + "x" * 500), "", 422, "etc/\\x1b[31m"),
    "too many bytes": (bytes(300_000), "image/png", "", 413, "300,000 bytes or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_bad_body_is_rejected(client: Client, case: str) -> None:
    body, content_type, query, status, message = BODIES[case]
    if case == "an invalid content type":
        reply = raw(client, b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: \x00\r\n\r\n")
        assert b"HTTP/1.1 400" in reply
        assert b'{"error": "the request is not valid HTTP' in reply
        return
    reply = client.detect(body, content_type, query)
    assert (reply.status, message in reply.error) == (status, True), reply.content
    assert "detect-" not in reply.error, "the message contains no path of the server"
    preview = client.ask("POST", f"/v1/preview{query}", body, content_type=content_type)
    assert preview.status == status or "threshold" in case


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nowhere", 404, "/nowhere: the path does not exist; the paths are /health"),
        ("GET", "/v1/detect/", 404, "the path does not exist"),
        ("GET", "/script/../app.py", 404, "the path does not exist"),
        ("GET", "/v1/detect", 405, "GET is not allowed here; use POST"),
        ("POST", "/health", 405, "use GET"),
        ("DELETE", "/", 405, "use GET"),
    ],
)
def test_wrong_path_or_method_is_rejected(client: Client, method: str, path: str, status: int, message: str) -> None:
    reply = client.ask(method, path)
    assert (reply.status, message in reply.error) == (status, True), reply.content


def raw(client: Client, *parts: bytes, pause_s: float = 0.0, wait_s: float = 30.0) -> bytes:
    """Send bytes with pauses, and return everything received until the server closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", client.port), timeout=wait_s) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
    return received


HEAD = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def test_large_upload_is_rejected_before_and_during_the_transfer(client: Client) -> None:
    reply = raw(client, HEAD + b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n")
    assert b"HTTP/1.1 413" in reply
    assert b"99,999,999,999 bytes or more" in reply
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    reply = raw(client, HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", *[chunk] * 6)
    assert b"HTTP/1.1 413" in reply


def test_invalid_http_is_rejected(client: Client) -> None:
    assert b"HTTP/1.1 400" in raw(client, b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
    assert b"HTTP/1.1 400" in raw(client, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")
    assert b"HTTP/1.1 400" in raw(client, HEAD + b"Content-Length: -5\r\n\r\n")


def test_slow_clients_are_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connections, "LINGER_S", 0.3)
    known = Known()
    known.gate.set()
    with served(known.look, limits=Limits(timeout_s=0.6, max_mb=0.1)) as client:
        start = time.monotonic()
        assert raw(client) == b"", "a client that sends nothing"
        assert raw(client, *[b"GET / HT", *[b"x"] * 20], pause_s=0.05) == b"", "a request head that never ends"
        slow = raw(client, HEAD + b"Content-Length: 50\r\n\r\n", b"x" * 9)
        assert b"HTTP/1.1 408" in slow, "a body that never ends"
        assert b"the upload took more than 0.6 s" in slow
        long = HEAD + b"Content-Length: 900000\r\n\r\n"
        assert b"HTTP/1.1 413" in raw(client, long, *[b"x"] * 3, pause_s=0.05), "an upload after the error"
        raw(client, long, *[b"x"] * 100, pause_s=0.05)
        again = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        assert raw(client, again, b"GET /he", pause_s=0.1).count(b"HTTP/1.1") == 1, "a second head that never ends"
        assert time.monotonic() - start < 20
        assert client.detect(as_file(gray(1))).status == 200


def test_number_of_connections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    known = Known()
    known.gate.set()
    with served(known.look) as client:
        connections_open = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(3)]
        time.sleep(0.3)
        reply = raw(client)
        assert b"HTTP/1.1 503" in reply
        assert b"connections are open" in reply
        for each in connections_open:
            each.close()
        time.sleep(0.3)
        assert client.ask("GET", "/health").status == 200
