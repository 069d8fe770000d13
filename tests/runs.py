"""Small trainings: interrupted at a step, their logs read, two of them compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detect.engine import steps

TIMING = ("images_per_s", "seconds")


def interrupt_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C falls into step ``number``, counted from 1."""
    step, calls = steps.Stepper.step, []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(steps.Stepper, "step", interrupted)


def read_log(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit, tensors included."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path) -> None:
    assert read_log(a) == read_log(b)
    for name in ("last.pt", "best.pt"):
        assert_same(content(a / name), content(b / name), name)
