"""``detect serve`` as a process: what it says, what it refuses, and how it stops."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.structures import Detections
from detect.synthetic.scenes import sample_image
from serving import Client, as_file, gray

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def process(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A server of the released model at a free port."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-W", "error", "-m", "detect", "serve", "released", "--port", "0", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            said = re.search(r"serving released at http://127\.0\.0\.1:(\d+)/; Ctrl-C stops", line)
            assert said, (line, server.stderr.read() if server.stderr else "")
            yield server, Client(int(said[1]))
        finally:
            if server.poll() is None:
                server.kill()


def large() -> bytes:
    """A picture that is looked at in many tiles, for a second or more."""
    return as_file(np.tile(sample_image("patches", 1, seed=2)[0], (7, 7)))


def test_a_signal_lets_what_is_at_work_finish(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-mine\n")
    arguments = ("--token-file", "token", "--max-mb", "3", "--max-pixels", "3000000", "--threads", "1")
    with process(tmp_path, *arguments) as (server, client), ThreadPoolExecutor(1) as pool:
        mine = {"authorization": "Bearer a-token-of-mine"}
        assert client.detect(as_file(gray(9))).status == 401
        assert client.detect(as_file(gray(9)), **mine).json["model"] == "released"
        assert client.detect(b"not a picture", **mine).status == 422
        assert client.detect(as_file(gray(9, width=1999, height=1999)), **mine).status == 413
        assert client.detect(bytes(4_000_000), **mine).status == 413
        asked = pool.submit(client.detect, large(), query="?threshold=0.05", **mine)
        time.sleep(0.4)
        assert not asked.done()
        server.send_signal(signal.SIGTERM)
        answer = asked.result()
        assert answer.status == 200
        assert answer.json["detections"]
        assert server.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            client.ask("GET", "/health")
        assert server.stderr is not None
        said = server.stderr.read()
    assert "detect: stopping after the requests in progress" in said
    assert "Traceback" not in said


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with process(tmp_path) as (server, client), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.detect, large())
        time.sleep(0.4)
        server.send_signal(signal.SIGINT)
        time.sleep(0.2)
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 128 + signal.SIGINT
        with pytest.raises((ConnectionError, OSError)):
            asked.result()


def test_help_and_a_missing_package_are_told_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from detect.cli import main; assert main(['serve', '--help']) == 0; "
        "assert not {'torch', 'fastapi', 'uvicorn', 'numpy'} & set(sys.modules); "
        "sys.modules['fastapi'] = None; sys.exit(main(['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "detect: serving needs the package fastapi, which isn't installed; "
        "install it with: pip install 'surface-detect[serve]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threshold", "7"], "--threshold is 7.0; give a score from 0 to 1"),
        (["--port", "70000"], "--port is 70000"),
        (["--threads", "0"], "--threads is 0"),
        (["--batch", "0"], "--batch is 0; give more than 0"),
        (["--timeout", "nan"], "--timeout is nan"),
        (["--max-pixels", "60000000"], "at most 50,000,000"),
        (["--host", "no.such.host.invalid"], "can't listen on this address"),
        (["--token-file", "nowhere"], "nowhere: the token can't be read (no such file or directory)"),
        (["--token-file", "short"], "short: the token must be 8 or more"),
    ],
)
def test_what_can_t_be_served_is_refused(
    detect: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc\n")
    outcome = detect("serve", "released", *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(detect: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = detect("serve", "released", "--port", port)
    assert outcome.code == 2
    assert f"127.0.0.1:{port}: can't listen on this address (address already in use)" in outcome.err


def test_an_open_door_is_warned_of_and_an_export_is_served(
    detect: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detect.export.runtimes import Contract, write_contract
    from detect.serve import app as serving_app
    from detect.serve import server as serving_server
    from detect.serve import service as models

    contract = Contract("model.onnx", "onnx", "fp32", (30, 40), 1, "uint8", 255, ("a", "b"))
    write_contract(tmp_path, contract, {"thresholds": {"a": 0.25}})
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("a", "b"))

    class Runner:
        categories = ("a", "b")

        def __call__(self, image: Any) -> Detections:
            return nothing

    served: list[Any] = []

    class Ended:
        def run(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(models, "load_exported", lambda folder, threads: Runner())
    monkeypatch.setattr(serving_app, "create_app", lambda model, *_, **__: served.append(model))
    monkeypatch.setattr(serving_server, "make_server", lambda *_, **__: Ended())
    outcome = detect("serve", tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert outcome.code == 0
    assert "detect: check this: anyone who can reach http://0.0.0.0:" in outcome.err
    (model,) = served
    assert dict(model.thresholds) == {"a": 0.25, "b": 0.5}
    assert list(model.detect([gray(1)])) == [nothing]
    monkeypatch.setenv("DETECT_TOKEN", "a-token-of-mine")
    assert "check this" not in detect("serve", tmp_path, "--host", "0.0.0.0", "--port", "0").err
    assert "no meaning" in detect("serve", tmp_path, "--port", "0", "--device", "cpu").err
