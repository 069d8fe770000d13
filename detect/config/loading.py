"""A configuration from a YAML file with dotted overrides, and back into YAML; what is wrong with it in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from ..fileio import load_yaml, read_yaml
from .schema import Config, ModelConfig, Section

_TYPE_NAMES = {"path_type": "a path", "tuple_type": "a list"}
_ALL_KEYS = "detect/config/schema.py lists all keys"


def explain_validation_error(error: ValidationError, where: str) -> ConfigError:
    """The first of pydantic's complaints as one sentence."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
    key, section, kinds = _error_location(first["loc"])
    if kind == "extra_forbidden" and section is not None:  # a key of one kind of several, which has few
        there = list(section.model_fields)
        parent, _, leaf = key.rpartition(".")
        near = difflib.get_close_matches(leaf, there, n=1, cutoff=0.6)
        fix = f"did you mean '{parent}.{near[0]}'?" if near else f"it takes {', '.join(there)}"
        return ConfigError(f"unknown key '{key}' of {_kind(section)}", where=where, fix=fix)
    if kind == "extra_forbidden":
        return ConfigError(f"unknown key '{key}'", where=where, fix=_closest_key_hint(key, list(_keys(Config))))
    if kind == "union_tag_invalid":
        return _unknown_kind(key, first["ctx"]["tag"], [_kind(each) for each in kinds], where)
    if kind in ("model_type", "model_attributes_type"):
        return ConfigError(f"'{key}' is a section, got {shown}", where=where, fix=f"set a key under it ({key}.…=)")
    if kind == "value_error":
        return ConfigError(f"'{key}': {first['msg'].removeprefix('Value error, ')}", where=where)
    if kind in ("missing", "too_long"):
        return ConfigError(
            f"'{key}' is {shown}", where=where, fix="give as many values as detect/config/schema.py shows"
        )
    # a value that fits none of several types has an error for each
    wanted = [
        _TYPE_NAMES.get(each["type"], each["msg"].removeprefix("Input should be "))
        for each in error.errors()
        if _error_location(each["loc"])[0] == key
    ]
    return ConfigError(f"'{key}' is {shown}", where=where, fix=f"it should be {' or '.join(wanted)}")


def flatten_keys(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is no section."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from flatten_keys(value, f"{prefix}.{key}" if prefix else str(key))


def _unknown_kind(key: str, name: str, there: Sequence[str], where: str) -> ConfigError:
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    fix = f"did you mean '{near[0]}'?" if near else f"it should be {', '.join(map(repr, there[:-1]))} or {there[-1]!r}"
    return ConfigError(f"'{key}.name' is {name!r}", where=where, fix=fix)


def _closest_key_hint(key: str, known: Sequence[str]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = difflib.get_close_matches(key, same_leaf or known, n=1, cutoff=0 if same_leaf else 0.5)
    return f"did you mean '{near[0]}'?" if near else _ALL_KEYS


def _error_location(loc: Sequence[int | str]) -> tuple[str, type[Section] | None, list[type[Section]]]:
    """The dotted key of an error; the kind of its section, where that has several; the sections the key may hold.

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
    return ".".join(map(str, key)), chosen, sections


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


def load_config(path: Path, overrides: Sequence[str] = (), *, model: ModelConfig | None = None) -> Config:
    """Read a YAML file and apply ``key=value`` overrides with dotted keys, values in YAML.

    A file may name another one that it builds on, relative to itself (``base: neu.yaml``), and say what differs.

    Args:
        path: the file.
        overrides: as on the command line.
        model: what the model section is where neither file nor overrides say otherwise; None: the defaults.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key (the nearest known one is named) or a bad value.
    """
    tree = _read_tree(Path(path))
    for override in overrides:
        _apply_override(tree, override)
    if model is not None:
        above = tree.get("model")
        whole = {"backbone"} if isinstance(above, dict) and "backbone" in above else None  # its size stands for widths
        tree = _deep_merge({"model": model.model_dump(mode="json", exclude=whole)}, tree)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], *, where: str = "configuration") -> Config:
    """A nested dict -> Config, with errors in words."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise explain_validation_error(error, where) from None


def read_yaml_file(path: Path, what: str) -> Any:
    """Plain values of a YAML file that a user wrote; None of an empty one.

    Args:
        path: the file.
        what: it is, for messages, such as "costs".

    Raises:
        ConfigError: it can't be read, or is no valid YAML.
    """
    try:
        return read_yaml(path)
    except OSError as error:
        raise ConfigError(f"can't read the {what} ({error.strerror})", where=path, fix="check the path") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"not valid YAML ({reason})", where=path, fix="fix the line it names") from None


def to_yaml(config: Config) -> str:
    """The resolved tree, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differing_keys(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ, in the order of the tree; those that only one of the two has are among them."""
    ours, theirs = (dict(flatten_keys(each.model_dump(mode="json"))) for each in (a, b))
    return [key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key]]


def _read_tree(path: Path, builders: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file over those of its base; ``builders`` are the files that led here."""
    if path.resolve() in builders:
        raise ConfigError("files build on each other in a circle", where=path, fix="take 'base:' out of one of them")
    tree = _read_mapping(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"'base' is {base!r}", where=path, fix="name one YAML file, relative to this one")
    return _deep_merge(_read_tree(path.parent / base, (*builders, path.resolve())), tree)


def _read_mapping(path: Path) -> dict[str, Any]:
    tree = read_yaml_file(path, "configuration")
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping of sections", where=path, fix="write 'train:' with keys under it")
    return tree


def _deep_merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _deep_merge(below[key], above[key])
    return merged


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"'{override}' is no override", fix="write key=value, such as train.epochs=20")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value in '{override}' is not valid YAML", fix="quote it") from None
    *parents, leaf = key.strip().split(".")
    for i, parent in enumerate(parents):
        branch = tree.setdefault(parent, {})
        if branch is None:
            branch = tree[parent] = {}
        if not isinstance(branch, dict):
            raise ConfigError(f"'{'.'.join(parents[: i + 1])}' is a value, not a section", where=override)
        tree = branch
    tree[leaf] = value
