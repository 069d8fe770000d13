"""Equal terms: the systems of a table share data, schedule and augmentation, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config, differing_keys
from ..config.words import leaves
from ..errors import ConfigError

_SHARED = ("data", "train", "augment")


def check_equal_terms(configs: Mapping[str, Config], vary: Sequence[str] = ()) -> None:
    """Refuse systems that differ in more than their model.

    Args:
        configs: by name; the first is what the others are held against.
        vary: dotted keys, or sections, that may differ.

    Raises:
        ConfigError: keys that differ, an unknown key in ``vary``, no validation data, early stopping, which would let
            the score decide how long each trains, or several processes a training.
    """
    known = [key for key, _ in leaves(Config().model_dump(mode="json"))]
    for key in vary:
        if not any(_within(each, key) for each in known):
            raise ConfigError(f"there is no key '{key}' that could vary", fix="detect/config/tree.py lists all keys")
    (first, reference), *others = configs.items()
    for name, config in others:
        keys = [key for key in differing_keys(config, reference) if any(_within(key, part) for part in _SHARED)]
        unequal = [key for key in keys if not any(_within(key, allowed) for allowed in vary)]
        if "data.val" in keys:
            found = f"{name} and {first} differ in data.val, so they can't be judged image by image"
            raise ConfigError(found, fix="judge both by the same")
        if unequal:
            found = f"{name} and {first} would not meet on equal terms: they differ in {', '.join(unequal)}"
            raise ConfigError(found, fix=f"give both the same, or allow it with --vary {unequal[0]}")
    for name, config in configs.items():
        if config.data.val is None:
            raise ConfigError("data.val is unset, so there is nothing to judge by", where=name, fix="set data.val")
        if config.train.early_stop:
            found = f"train.early_stop={config.train.early_stop} would let the score decide how long a system trains"
            raise ConfigError(found, where=name, fix="set train.early_stop=0")
        if config.train.processes > 1:
            found = f"train.processes={config.train.processes}, but a bench trains each run in its own process alone"
            raise ConfigError(found, where=name, fix="set train.processes=1")


def shared_terms(configs: Sequence[Config]) -> dict[str, Any]:
    """Dotted keys of data, schedule and augmentation with the values that all systems share, but for the seed."""
    told = [dict(leaves(config.model_dump(mode="json"))) for config in configs]
    return {
        key: value
        for key, value in told[0].items()
        if key != "train.seed"
        and any(_within(key, part) for part in _SHARED)
        and all(key in each and each[key] == value for each in told)
    }


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")
