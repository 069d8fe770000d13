"""Arithmetic that gives the same sums again, wherever torch has a way to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FILLING: Any = torch.utils.deterministic  # a module whose setting has no type


@contextmanager
def exact_arithmetic(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Torch's deterministic algorithms while a training lasts; afterwards all is as before.

    On a CPU they are always taken, as they cost nothing there; an operation that has none warns. Where they are
    ``wanted`` it is an error, as torch words it.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = _FILLING.fill_uninitialized_memory
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses to multiply on a GPU
    _FILLING.fill_uninitialized_memory = wanted and filling  # finds mistakes of torch's users, at a price
    torch.use_deterministic_algorithms(wanted or device.type == "cpu", warn_only=not wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _FILLING.fill_uninitialized_memory = filling
