"""How much memory is free for this process, as far as the system tells, and what of it a file's values may take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # Windows has none
    import resource

_MEMINFO, _GROUP, _OWN = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/statm")
_LEAST, _SHARE = 700_000_000, 0.5  # a file may take the larger: bytes, or a share of what is free


def free_bytes() -> int | None:
    """Memory to be had without swapping, within the limits of container and process; None where nothing tells."""
    known = [value for value in (_available(), _left_in_group(), _left_of_limit()) if value is not None]
    return min(known) if known else _physical()


def room_for_values() -> int:
    """Bytes that the values of one file may take: half of what is free, and 0.7 GB where that is less."""
    free = free_bytes()
    return _LEAST if free is None else max(_LEAST, int(_SHARE * free))


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _left_in_group() -> int | None:
    """What a container has left (cgroup v2)."""
    try:
        most, used = ((_GROUP / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        return None if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None


def _left_of_limit() -> int | None:
    """What is left of the address space that the process was given (ulimit -v)."""
    try:
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY:
            return None
        return max(0, most - int(_OWN.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, NameError, OSError, ValueError):
        return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
