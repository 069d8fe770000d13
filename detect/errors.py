"""Errors that a user can act on: what was found, where, and what to do about it."""

from __future__ import annotations

from os import PathLike

_LONGEST = 2000  # characters of a sentence


class DetectError(Exception):
    """A mistake in the input, in one sentence; the command line prints it and exits with code 2.

    Args:
        found: what is wrong, in words and with the offending value.
        where: file, key or index at fault, if there is one.
        fix: what the user can do about it.
    """

    def __init__(self, found: str, *, where: str | PathLike[str] | None = None, fix: str | None = None) -> None:
        self.found, self.where, self.fix = found, where, fix
        super().__init__(in_one_line(f"{where}: {found}" if where is not None else found))

    def __str__(self) -> str:
        sentence = str(self.args[0])
        return f"{sentence}; {self.fix}" if self.fix else sentence


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory; torch has no exception of its own for that on a CPU."""
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(each in str(error).lower() for each in words)


def in_one_line(text: str) -> str:
    """Names and values come from files: none of them breaks the line, floods it or speaks to the terminal."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)


class DataError(DetectError):
    """Images, labels or detections that can't be used as they are."""


class ConfigError(DetectError):
    """A configuration with an unknown key, a wrong value, or parts that don't fit together."""


class CheckpointError(DetectError):
    """A run folder or checkpoint that is missing, damaged or of another kind."""


class DivergenceError(DetectError):
    """Training that produced a loss or a gradient which is no finite number, or an absurdly large loss."""


class DistributedError(DetectError):
    """Processes of one training that can't find each other, or of which one was lost."""


class OutOfMemoryError(DetectError):
    """Memory that ran out; names the settings that need less of it."""
