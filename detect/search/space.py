"""What a search varies: keys of the configuration, each over a range or a list of values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, load_config, read_plain
from ..errors import ConfigError

_TOP = ("base", "metric", "seeds", "keys")
_METRICS = ("AP", "AP50", "AP75")
_RANGE = ("low", "high", "log", "step")
_OWN = ("run.dir", "train.seed")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers between two ends, both included.

    Attributes:
        low, high: the ends; whole numbers if both are.
        log: whether equal factors count alike, not equal steps.
        step: distance of the values that are tried, from ``low`` on; None: any.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """A search: what it varies, and how a trial is scored.

    Attributes:
        base: the configuration that it starts from.
        overrides: key=value over it, for all trials.
        keys: dotted key -> a range, or the values to choose from, as YAML text.
        metric: "AP", "AP50" or "AP75" after the last epoch, on data.val.
        seeds: trainings a trial, whose mean counts.
    """

    base: Path
    overrides: tuple[str, ...]
    keys: Mapping[str, Range | tuple[str, ...]]
    metric: str
    seeds: int

    def config(self, chosen: Mapping[str, float | int | str], folder: Path, seed: int) -> Config:
        """The configuration of one training.

        Raises:
            ConfigError: values that don't go together.
        """
        own = [f"run.dir={json.dumps(str(folder))}", f"train.seed={seed}"]
        return load_config(self.base, [*self.overrides, *(f"{key}={text}" for key, text in chosen.items()), *own])

    def described(self) -> dict[str, Any]:
        """Plain JSON values that tell it from another search."""
        keys = {
            key: [each.low, each.high, each.log, each.step] if isinstance(each, Range) else list(each)
            for key, each in self.keys.items()
        }
        base = load_config(self.base, self.overrides).model_dump(mode="json", exclude={"run": {"dir"}})
        return {"base": base, "keys": keys, "metric": self.metric, "seeds": self.seeds}


def read_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a search from YAML; docs/search.md shows its form.

    Args:
        path: the file; its ``base`` is relative to it.
        overrides: key=value over the base, for all trials.

    Raises:
        ConfigError: unreadable, an unknown key, a value out of its range, or a base that can't be searched.
    """
    tree = _read(path)
    try:
        space = Space(
            path.parent / _text(tree, "base"),
            tuple(overrides),
            _keys(tree.get("keys")),
            _one_of(tree.get("metric", "AP"), "metric", _METRICS),
            _whole(tree.get("seeds", 1), "seeds"),
        )
    except ConfigError as error:
        raise ConfigError(error.found, where=path, fix=error.fix) from None
    _check_base(space)
    return space


def _read(path: Path) -> dict[str, Any]:
    tree = read_plain(path, "search")
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping", where=path, fix=f"write {', '.join(_TOP)}")
    unknown = next((key for key in tree if key not in _TOP), None)
    if unknown is not None:
        raise ConfigError(f"unknown key {unknown!r}", where=path, fix=f"there are {', '.join(_TOP)}")
    return tree


def _check_base(space: Space) -> None:
    """Each key has to be one of the configuration, and the base has to give every trial a score."""
    first = {key: str(each.low) if isinstance(each, Range) else each[0] for key, each in space.keys.items()}
    config = space.config(first, Path("search"), 0)
    if config.data.val is None:
        raise ConfigError("data.val is unset, so no trial has a score", where=space.base, fix="set data.val")
    if config.train.early_stop:
        found = f"train.early_stop={config.train.early_stop} would let the score decide how long a trial trains"
        raise ConfigError(found, where=space.base, fix="set train.early_stop=0")
    if config.train.processes > 1:
        found = f"train.processes={config.train.processes}, but a trial trains in one process"
        raise ConfigError(found, where=space.base, fix="set train.processes=1, and let several workers search")


def _keys(given: Any) -> dict[str, Range | tuple[str, ...]]:
    if not isinstance(given, dict) or not given:
        raise ConfigError(
            f"'keys' is {given!r}", fix="name the keys to vary, such as train.lr: {low: 1e-4, high: 1e-2}"
        )
    own = next((key for key in given if key in _OWN), None)
    if own is not None:
        raise ConfigError(f"'{own}' can't be searched: it is set for each trial", fix="take it out of keys")
    return {str(key): _values(str(key), value) for key, value in given.items()}


def _values(key: str, given: Any) -> Range | tuple[str, ...]:
    if isinstance(given, list):
        if len(given) < 2:
            raise ConfigError(f"'{key}' has {len(given)} value to choose from", fix="give two or more, or a range")
        return tuple(json.dumps(each) for each in given)
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() or not given.keys() <= set(_RANGE):
        raise ConfigError(
            f"'{key}' is {given!r}", fix="give a list of values, or {low: ..., high: ...} with log or step"
        )
    low, high, step = (_number(given.get(name), f"{key}.{name}") for name in ("low", "high", "step"))
    log = given.get("log", False)
    if low is None or high is None or not low < high:
        raise ConfigError(f"'{key}' goes from {low} to {high}", fix="give two numbers, the lower one first")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise ConfigError(f"'{key}' can't be searched in factors", fix="log takes true, ends above 0 and no step")
    if step is not None and step <= 0:
        raise ConfigError(f"'{key}.step' is {step}", fix="give a number above 0")
    return Range(low, high, log, step)


def _number(value: Any, key: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ConfigError(f"'{key}' is {value!r}", fix="give a number (YAML wants 1.0e-4, not 1e-4)")
    return value


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"'{key}' is {value!r}", fix="name the YAML file that the search starts from")
    return value


def _one_of(value: Any, key: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ConfigError(f"'{key}' is {value!r}", fix=f"it should be {', '.join(known[:-1])} or {known[-1]}")
    return str(value)


def _whole(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"'{key}' is {value!r}", fix="give a whole number, 1 or more")
    return value
