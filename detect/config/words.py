"""What is wrong with a configuration, in words: the key, the nearest known one, the values that it takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from ..errors import ConfigError
from .section import Section
from .tree import Config

_IN_SHORT = {"path_type": "a path", "tuple_type": "a list"}
_ALL_KEYS = "detect/config/tree.py lists all keys"


def in_words(error: ValidationError, where: str) -> ConfigError:
    """The first of pydantic's complaints as one sentence."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
    key, section = _located(first["loc"])
    if kind == "extra_forbidden" and section is not None:  # a key of one kind of several, which has few
        there = list(section.model_fields)
        parent, _, leaf = key.rpartition(".")
        near = difflib.get_close_matches(leaf, there, n=1, cutoff=0.6)
        fix = f"did you mean '{parent}.{near[0]}'?" if near else f"it takes {', '.join(there)}"
        return ConfigError(f"unknown key '{key}' of {_kind(section)}", where=where, fix=fix)
    if kind == "extra_forbidden":
        return ConfigError(f"unknown key '{key}'", where=where, fix=_nearest(key, list(_keys(Config))))
    if kind == "union_tag_invalid":
        return _unknown_kind(key, first["ctx"]["tag"], [_kind(each) for each in _sections_at(first["loc"])], where)
    if kind in ("model_type", "model_attributes_type"):
        return ConfigError(f"'{key}' is a section, got {shown}", where=where, fix=f"set a key under it ({key}.…=)")
    if kind == "value_error":
        return ConfigError(f"'{key}': {first['msg'].removeprefix('Value error, ')}", where=where)
    if kind in ("missing", "too_long"):
        return ConfigError(f"'{key}' is {shown}", where=where, fix="give as many values as detect/config/tree.py shows")
    # a value that fits none of several types has an error for each
    wanted = [
        _IN_SHORT.get(each["type"], each["msg"].removeprefix("Input should be "))
        for each in error.errors()
        if _located(each["loc"])[0] == key
    ]
    return ConfigError(f"'{key}' is {shown}", where=where, fix=f"it should be {' or '.join(wanted)}")


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is no section."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _unknown_kind(key: str, name: str, there: Sequence[str], where: str) -> ConfigError:
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    fix = f"did you mean '{near[0]}'?" if near else f"it should be {', '.join(map(repr, there[:-1]))} or {there[-1]!r}"
    return ConfigError(f"'{key}.name' is {name!r}", where=where, fix=fix)


def _nearest(key: str, known: Sequence[str]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = difflib.get_close_matches(key, same_leaf or known, n=1, cutoff=0 if same_leaf else 0.5)
    return f"did you mean '{near[0]}'?" if near else _ALL_KEYS


def _located(loc: Sequence[int | str]) -> tuple[str, type[Section] | None]:
    """The dotted key of an error and, where it lies in a section of several kinds, the kind.

    pydantic's path names more than keys: the kind it took, and the type it tried where a value may have several.
    """
    key: list[int | str] = []
    chosen: type[Section] | None = None
    sections: list[type[Section]] = [Config]
    for part in loc:
        if len(sections) > 1:
            sections = [each for each in sections if _kind(each) == part]
            chosen = sections[0]
        elif sections:
            key.append(part)
            sections = _sections_below(sections[0], part)
        elif isinstance(part, int):
            key.append(part)
        else:
            break
    return ".".join(map(str, key)), chosen


def _sections_at(loc: Sequence[int | str]) -> list[type[Section]]:
    """The sections that may stand at a path without kinds."""
    sections: list[type[Section]] = [Config]
    for part in loc:
        sections = _sections_below(sections[0], part)
    return sections


def _sections_below(section: type[Section], name: int | str) -> list[type[Section]]:
    field = section.model_fields.get(str(name))
    return list(_sections(field.annotation)) if field else []


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a key may hold; none if it holds a value."""
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for each in inner:
        yield from _sections(each)


def _keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted keys below a section, those of sections too."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in _sections(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _kind(section: type[Section]) -> str:
    return str(section.model_fields["name"].default)
