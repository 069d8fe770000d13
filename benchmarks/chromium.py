"""Remote control of a headless Chromium over a pipe with the DevTools protocol, without extra packages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := which(name))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_TIMEOUT_S = 40.0
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Delete": 46, "Tab": 9, "Enter": 13}


class Chromium:
    """One page of a browser; use it in a ``with`` statement.

    Args:
        width, height: size of the page in pixels.
        dark: report a preference for dark colours to the page.
        phone: mobile emulation with two device pixels per CSS pixel.
    """

    def __init__(self, width: int = 1200, height: int = 900, *, dark: bool = False, phone: bool = False) -> None:
        self.size, self.dark, self.phone = (width, height), dark, phone
        self._number, self._buffer = 0, b""
        self.console_errors: list[str] = []  # messages of the page's console

    def __enter__(self) -> Chromium:
        assert BROWSER is not None
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        (their_in, self._out), (self._in, their_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (their_in, their_out)]

        def as_3_and_4() -> None:  # the browser uses file descriptors 3 and 4
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [BROWSER, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, preexec_fn=as_3_and_4, close_fds=False, **quiet)
        for fd in (their_in, their_out, *high):
            os.close(fd)
        self._session = None
        pages = [each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.send("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")
        scale = 2 if self.phone else 1
        width, height = self.size
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": self.phone}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=features)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol; returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.console_errors.append(answer["params"]["entry"]["text"])
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.console_errors.append(details.get("exception", {}).get("description", details["text"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def open(self, address: str) -> None:
        """Load a page."""
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression, as JSON."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; TimeoutError after 40 seconds."""
        end = time.monotonic() + _TIMEOUT_S
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} didn't become true; console errors: {self.console_errors}")
            time.sleep(0.1)

    def give_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Set the files of an input element, as its dialog does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = _KEYS.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def screenshot(self, file: Path, *, full_page: bool = False) -> None:
        """Write a PNG of the visible part of the page, or of the full page."""
        result = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full_page)
        file.write_bytes(base64.b64decode(result["data"]))
