"""The runtimes' packages, which only those who export need."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import ConfigError


def needed(name: str) -> ModuleType:
    """A package of the extra ``export``.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        found = f"exporting needs the package {name.partition('.')[0]}, which isn't installed"
        raise ConfigError(found, fix="install it with: pip install 'surface-detect[export]'") from None
