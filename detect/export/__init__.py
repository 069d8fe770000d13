"""A trained detector as a file for another runtime, with the proof that it finds the same."""

from .making import Exported, export
from .runtimes import RUNTIMES, Runner, load

__all__ = ["RUNTIMES", "Exported", "Runner", "export", "load"]
