"""Which weights a verb takes where none are named, and what it says about them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..released import WORD


def newest_weights(*, by: str = "--weights") -> Path:
    """The newest best.pt of the runs in the current folder, named on stderr; the released model where there is none.

    Args:
        by: what names other weights on the command line.
    """
    candidates = sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not candidates:
        return Path(WORD)
    print(f"detect: weights {candidates[-1]}, the newest in runs; {by} names others", file=sys.stderr)
    return candidates[-1]


def say_released(categories: Iterable[str], *, by: str = "--weights") -> None:
    """A line on stderr: what the released model finds, and what on the command line names another one."""
    known = ", ".join(categories)
    print(f"detect: the released model, trained on NEU-DET to find {known}; {by} names others", file=sys.stderr)
