"""Surface defect detection: convert labels, train a detector, evaluate it and run it.

The names below are the main functions and classes; each is imported on first use, so ``import detect`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.loading import load_config
    from .datasets.convert import convert
    from .engine.trainer import train
    from .errors import DetectError
    from .evaluation.summary import judge
    from .inference.predictor import Predictor
    from .report.page import write_report
    from .synthetic.scenes import write_sample

__version__ = "0.1.0"

_HOME = {
    "DetectError": "errors",
    "Predictor": "inference.predictor",
    "convert": "datasets.convert",
    "judge": "evaluation.summary",
    "load_config": "config.loading",
    "train": "engine.trainer",
    "write_report": "report.page",
    "write_sample": "synthetic.scenes",
}

__all__ = [
    "DetectError",
    "Predictor",
    "__version__",
    "convert",
    "judge",
    "load_config",
    "train",
    "write_report",
    "write_sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'detect' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
