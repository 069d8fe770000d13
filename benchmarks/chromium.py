"""A headless Chromium that is told what to do: over a pipe, in its own protocol, with nothing to install."""

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

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := which(name))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_PATIENCE_S = 40.0
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Delete": 46, "Tab": 9, "Enter": 13}


class Chromium:
    """One page of a browser; use it in a ``with`` statement.

    Args:
        width, height: of the page in pixels.
        dark: what the page is told of the user's taste.
        phone: a touch screen with two device pixels a pixel.
    """

    def __init__(self, width: int = 1200, height: int = 900, *, dark: bool = False, phone: bool = False) -> None:
        self.size, self.dark, self.phone = (width, height), dark, phone
        self._number, self._rest = 0, b""
        self.said: list[str] = []  # errors on the page's console

    def __enter__(self) -> Chromium:
        assert BROWSER is not None
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        (their_in, self._out), (self._in, their_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (their_in, their_out)]

        def as_3_and_4() -> None:  # where the browser looks for them
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [BROWSER, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, preexec_fn=as_3_and_4, close_fds=False, **quiet)
        for fd in (their_in, their_out, *high):
            os.close(fd)
        self._session = None
        pages = [each for each in self.tell("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.tell("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.tell(f"{domain}.enable")
        scale = 2 if self.phone else 1
        width, height = self.size
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": self.phone}
        self.tell("Emulation.setDeviceMetricsOverride", **metrics)
        taste = [{"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}]
        self.tell("Emulation.setEmulatedMedia", features=taste)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol; returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            came = self._next()
            if came.get("id") == self._number:
                if "error" in came:
                    raise RuntimeError(f"{method}: {came['error']}")
                result: dict[str, Any] = came["result"]
                return result
            if came.get("method") == "Log.entryAdded" and came["params"]["entry"]["level"] == "error":
                self.said.append(came["params"]["entry"]["text"])
            if came.get("method") == "Runtime.exceptionThrown":
                details = came["params"]["exceptionDetails"]
                self.said.append(details.get("exception", {}).get("description", details["text"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        came: dict[str, Any] = json.loads(line)
        return came

    def open(self, address: str) -> None:
        """Load a page."""
        self.tell("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression, as JSON has it."""
        told = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} never came; the console says {self.said}")
            time.sleep(0.1)

    def give_files(self, selector: str, paths: Sequence[Path]) -> None:
        """To an input element, as its dialog would."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def press(self, key: str) -> None:
        """A key and let it go."""
        code = _KEYS.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        self.tell("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def photograph(self, picture: Path, *, whole: bool = False) -> None:
        """A PNG of the page as it is seen, or of the whole of it."""
        told = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        picture.write_bytes(base64.b64decode(told["data"]))
