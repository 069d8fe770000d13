"""What is wrong with a configuration, in words: the key, the nearest known one, the values that it takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .tree import Config


def in_words(error: ValidationError, where: str) -> ConfigError:
    """The first of pydantic's complaints as one sentence."""
    known = [name for name, _ in leaves(Config().model_dump(mode="json"))]
    sections = sorted({".".join(name.split(".")[:n]) for name in known for n in (1, 2)} - set(known))
    first = error.errors()[0]
    kind, key, value = first["type"], _key(first["loc"], known), first["input"]
    if kind == "extra_forbidden":
        return ConfigError(f"unknown key '{key}'", where=where, fix=_nearest(key, known + sections))
    if kind in ("model_type", "model_attributes_type"):
        return ConfigError(f"'{key}' is a section, got {value!r}", where=where, fix=f"set a key under it ({key}.…=)")
    if kind == "value_error":
        return ConfigError(f"'{key}': {first['msg'].removeprefix('Value error, ')}", where=where)
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
    if kind in ("missing", "too_long"):
        return ConfigError(f"'{key}' is {shown}", where=where, fix="give as many values as detect/config/tree.py shows")
    # a value that fits none of several types has an error for each
    wanted = [e["msg"].removeprefix("Input should be ") for e in error.errors() if _key(e["loc"], known) == key]
    wanted = [{"path_type": "a path", "tuple_type": "a list"}.get(kind, text) for text in wanted]
    return ConfigError(f"'{key}' is {shown}", where=where, fix=f"it should be {' or '.join(wanted)}")


def _key(loc: tuple[int | str, ...], known: Sequence[str]) -> str:
    """The dotted key of an error; where a key takes several types, pydantic adds the name of the type it tried."""
    for i, part in enumerate(loc):
        if ".".join(map(str, loc[:i])) in known and not isinstance(part, int):
            loc = loc[:i]
            break
    return ".".join(map(str, loc))


def _nearest(key: str, known: Sequence[str]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = difflib.get_close_matches(key, same_leaf or known, n=1, cutoff=0 if same_leaf else 0.5)
    return f"did you mean '{near[0]}'?" if near else "detect/config/tree.py lists all keys"


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is no section."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
