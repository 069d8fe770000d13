"""Memory that runs out, told with what needs less of it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MemoryShortageError, is_out_of_memory

_WANTED = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
_SHARED_FILE = re.compile(r"</torch_[^>]*>.* \((\d+)\)$", re.MULTILINE)  # the memory that a tensor is handed over in


@contextmanager
def shortage_told(doing: str, fix: str) -> Iterator[None]:
    """Where memory runs out, of a GPU or of the machine, say so in one sentence.

    Args:
        doing: what needed it, as in "a training step".
        fix: what the user can change.

    Raises:
        MemoryShortageError: it ran out, or the system ended a loader process, which mostly has the same reason.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        told = _shortage(error, doing, fix)
        if told is None:
            raise
        raise told from None


def _shortage(error: MemoryError | RuntimeError | OSError, doing: str, fix: str) -> MemoryShortageError | None:
    """The error in words; None if it has another reason."""
    text, cause = str(error), str(error.__cause__)
    if cause.startswith("DataLoader worker"):  # it says which signal ended the process
        text = cause
    shared = _SHARED_FILE.search(text)
    if shared is not None and int(shared[1]) == errno.EMFILE:
        found = "loader processes hand over their batches in more open files than the system allows"
        return MemoryShortageError(found, fix="set data.workers=0, or allow more of them (ulimit -n 65536)")
    if shared is not None or "killed by signal: Bus error" in text:
        found = "shared memory ran out, in which loader processes hand over their batches"
        remedy = "set data.workers=0, or give the container more of it (docker: --shm-size=4g)"
        return MemoryShortageError(found, fix=remedy)
    if text.startswith("DataLoader worker"):
        reason = text.partition(". ")[0].rstrip(".")
        found = f"the system ended a loader process, mostly as memory ran out ({reason})"
        remedy = "lower data.workers, or set data.cache=false; --resume goes on with it"
        return MemoryShortageError(found, where="data.workers", fix=remedy)
    lacking = error.errno == errno.ENOMEM if isinstance(error, OSError) else is_out_of_memory(error)
    if not lacking:
        return None
    wanted = _WANTED.search(text)
    more = f", {wanted[1]} more were wanted" if wanted else ""
    return MemoryShortageError(f"memory ran out in {doing}{more}", fix=fix)
