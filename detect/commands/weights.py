"""Which weights a verb takes where none are named, and what it says about them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..released import WORD


def newest_weights() -> Path:
    """The newest best.pt of the runs in the current folder, named on stderr; the released model where there is none."""
    candidates = sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not candidates:
        return Path(WORD)
    print(f"detect: weights {candidates[-1]}, the newest in runs; --weights names others", file=sys.stderr)
    return candidates[-1]


def say_released(categories: Iterable[str]) -> None:
    """A line on stderr: what the released model finds."""
    known = ", ".join(categories)
    print(f"detect: the released model, trained on NEU-DET to find {known}; --weights names others", file=sys.stderr)
