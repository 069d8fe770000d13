"""costs.yaml: prices of errors and limits on them, for each category."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config.loading import read_yaml_file
from ..errors import ConfigError

_TOP = ("currency", "confidence", "joint", "tuning_share", "seed", "default", "classes")
_ENTRY = ("price", "limit")
_PRICE = ("missed", "false_alarm")
_LIMIT = ("missed", "false_alarms_per_image")
_PERCENT = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class ClassCosts:
    """Prices and limits of one category.

    Attributes:
        missed_price, false_alarm_price: of one missed defect and one false alarm; 1 and 1 where none are given.
        missed_limit: largest share of missed defects, 0 to 1; None for no limit.
        false_alarm_limit: largest number of false alarms per image; None for no limit.
        priced: whether the prices were given.
    """

    missed_price: float = 1.0
    false_alarm_price: float = 1.0
    missed_limit: float | None = None
    false_alarm_limit: float | None = None
    priced: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """The content of costs.yaml.

    Attributes:
        per_class: by category, for each category of the data.
        currency: of the prices, "" if unknown.
        confidence: with which a limit has to hold, 0.5 to 1.
        joint: whether all limits have to hold jointly with it, not each by itself.
        tuning_share: share of the images, or groups, on which thresholds are chosen; the others are the holdout part.
        seed: of that division.
    """

    per_class: dict[str, ClassCosts]
    currency: str = ""
    confidence: float = 0.95
    joint: bool = False
    tuning_share: float = 0.5
    seed: int = 0

    @property
    def limits(self) -> int:
        """Number of limits of all categories."""
        limits = [limit for each in self.per_class.values() for limit in (each.missed_limit, each.false_alarm_limit)]
        return sum(limit is not None for limit in limits)

    @property
    def per_limit_confidence(self) -> float:
        """Confidence of a single limit; with ``joint`` by Bonferroni's correction, valid for dependent limits too."""
        return 1 - (1 - self.confidence) / max(self.limits, 1) if self.joint else self.confidence

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_costs(path: Path, categories: Sequence[str]) -> Costs:
    """Read costs.yaml; docs/operating.md describes it.

    Args:
        path: the file.
        categories: names of the data.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key or category (the nearest known one is named), a
            category without an entry, or a price or limit out of range.
    """
    return parse_costs(read_yaml_file(path, "costs"), categories, where=str(path))


def parse_costs(tree: Any, categories: Sequence[str], *, where: str = "costs") -> Costs:
    """The same from a nested dict; ``where`` names it in errors."""
    try:
        return _costs(_mapping(tree, "the file", _TOP), categories)
    except ConfigError as error:
        raise ConfigError(error.found, where=where, fix=error.fix) from None


def _costs(tree: Mapping[str, Any], categories: Sequence[str]) -> Costs:
    default = _entry(tree.get("default"), "default")
    given = _mapping(tree.get("classes"), "'classes'", categories, kind="class of the data")
    per_class = {}
    for name in categories:
        own = _entry(given.get(name), f"classes.{name}")
        entry = {**default, **own}
        if not entry:
            found = f"there is no price and no limit for '{name}'"
            raise ConfigError(found, fix=f"add classes.{name}, or a default for all classes")
        per_class[name] = _class_costs(name, entry)
    currency = tree.get("currency")
    if currency is not None and not isinstance(currency, str):
        raise ConfigError(f"'currency' is {currency!r}", fix="give a word, such as EUR")
    joint = tree.get("joint", False)
    if not isinstance(joint, bool):
        raise ConfigError(f"'joint' is {joint!r}", fix="give true or false")
    return Costs(
        per_class,
        currency or "",
        _number(tree.get("confidence", 0.95), "confidence", 0.5, 1, "a number from 0.5 to below 1", ends=(True, False)),
        joint,
        _number(tree.get("tuning_share", 0.5), "tuning_share", 0, 1, "a share between 0 and 1", ends=(False, False)),
        _seed(tree.get("seed", 0)),
    )


def _class_costs(name: str, entry: Mapping[tuple[str, str], float | None]) -> ClassCosts:
    missed, false = (entry.get(("price", key)) for key in _PRICE)
    missed_limit, false_alarm_limit = (entry.get(("limit", key)) for key in _LIMIT)
    if missed is None and false is None:
        return ClassCosts(missed_limit=missed_limit, false_alarm_limit=false_alarm_limit)
    if missed is None or false is None:
        lacks = _PRICE[0] if missed is None else _PRICE[1]
        raise ConfigError(f"'{name}' has one price without the other", fix=f"give price.{lacks} as well")
    if missed == false == 0:
        raise ConfigError(f"both prices of '{name}' are 0, so every threshold costs the same", fix="give one above 0")
    return ClassCosts(missed, false, missed_limit, false_alarm_limit, priced=True)


def _entry(tree: Any, key: str) -> dict[tuple[str, str], float | None]:
    """(section, name) -> number, or None for a limit that is removed."""
    entry: dict[tuple[str, str], float | None] = {}
    sections = _mapping(tree, f"'{key}'", _ENTRY)
    for name, value in _mapping(sections.get("price"), f"'{key}.price'", _PRICE).items():
        entry["price", name] = _number(value, f"{key}.price.{name}", 0, math.inf, "0 or more", ends=(True, False))
    for name, value in _mapping(sections.get("limit"), f"'{key}.limit'", _LIMIT).items():
        full = f"{key}.limit.{name}"
        if value is None:
            entry["limit", name] = None
        elif name == "missed":
            expected = "a share between 0 and 1, such as 0.02 or 2 %"
            entry["limit", name] = _number(value, full, 0, 1, expected, ends=(False, False))
        else:
            entry["limit", name] = _number(value, full, 0, math.inf, "a number above 0", ends=(False, False))
    return entry


def _mapping(tree: Any, what: str, keys: Iterable[str], *, kind: str = "key here") -> Mapping[str, Any]:
    """The tree if it is a mapping of these keys; None is an empty one."""
    if tree is None:
        return {}
    known = list(keys)
    if not isinstance(tree, dict):
        raise ConfigError(f"{what} is {tree!r}, not a mapping", fix=f"write keys under it: {', '.join(known)}")
    named = {str(key): value for key, value in tree.items()}  # YAML reads a class called 1 as a number
    for key in named:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            fix = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"'{key}' in {what} is no {kind}", fix=fix)
    return named


def _number(
    value: Any, key: str, low: float, high: float, expected: str, *, ends: tuple[bool, bool] = (True, True)
) -> float:
    """A number, or a text such as "2 %", from ``low`` to ``high``; ``ends``: whether each of these is allowed."""
    number = value
    percent = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if percent is not None:
        try:
            number = float(percent[1]) / 100
        except ValueError:
            number = None
    good = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not good or not (low < number < high or (number == low and ends[0]) or (number == high and ends[1])):
        raise ConfigError(f"'{key}' is {value!r}", fix=f"give {expected}")
    return float(number)


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"'seed' is {value!r}", fix="give a whole number, 0 or more")
    return value
