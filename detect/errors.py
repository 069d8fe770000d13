"""Errors that a user can act on: what was found, where, and what to do about it."""

from __future__ import annotations

from os import PathLike


class DetectError(Exception):
    """A mistake in the input, told in one sentence; the command line prints it and exits with code 2.

    Args:
        found: what is wrong, in words and with the offending value.
        where: file, key or index at fault, if there is one.
        fix: what the user can do about it.
    """

    def __init__(self, found: str, *, where: str | PathLike[str] | None = None, fix: str | None = None) -> None:
        self.found, self.where, self.fix = found, where, fix
        super().__init__(f"{where}: {found}" if where is not None else found)

    def __str__(self) -> str:
        sentence = str(self.args[0])
        return f"{sentence}; {self.fix}" if self.fix else sentence


class DataError(DetectError):
    """Images, labels or detections that can't be used as they are."""


class ConfigError(DetectError):
    """A configuration with an unknown key, a wrong value, or parts that don't fit together."""


class CheckpointError(DetectError):
    """A run folder or checkpoint that is missing, damaged or of another kind."""


class DivergenceError(DetectError):
    """Training that produced a loss or a gradient which is no finite number, or an absurdly large loss."""


class MemoryShortageError(DetectError):
    """Memory that ran out; names the settings that need less of it."""
