"""The code that README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detect.synthetic.scenes import sample_image

README = Path(__file__).resolve().parent.parent / "README.md"


class FakeCamera:
    """Two colour frames: bare steel, then deep scratches."""

    def __init__(self, _number: int) -> None:
        grays = [np.full((200, 200), 120, np.uint8), sample_image("scratches", 3, seed=1)[0]]
        self.frames = [np.dstack([gray] * 3) for gray in grays]

    def grab(self) -> bool:
        return bool(self.frames)

    def retrieve(self) -> tuple[bool, Any]:
        return True, self.frames.pop(0)


def test_ten_lines_from_camera_to_reject_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text(encoding="utf-8").partition("## On the line")[2]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block
    lines = [line for line in block[1].splitlines() if line.strip()]
    assert len(lines) <= 10
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    signals: list[bool] = []
    exec(block[1].replace("runs/mine", "released"), {"reject": signals.append})
    assert signals == [False, True]
