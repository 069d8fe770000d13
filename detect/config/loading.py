"""Load a configuration from YAML with dotted overrides, write it as YAML, and explain validation errors."""

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
    """Turn the first of pydantic's validation errors into a ConfigError of one sentence."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
    key, section, kinds = _error_location(first["loc"])
    if kind == "extra_forbidden" and section is not None:  # a key of a section that has several kinds
        names = list(section.model_fields)
        parent, _, leaf = key.rpartition(".")
        near = difflib.get_close_matches(leaf, names, n=1, cutoff=0.6)
        fix = f"did you mean '{parent}.{near[0]}'?" if near else f"it takes {', '.join(names)}"
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
    # a key with several types has one error per type
    expected = [
        _TYPE_NAMES.get(each["type"], each["msg"].removeprefix("Input should be "))
        for each in error.errors()
        if _error_location(each["loc"])[0] == key
    ]
    return ConfigError(f"'{key}' is {shown}", where=where, fix=f"it should be {' or '.join(expected)}")


def flatten_keys(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all leaves of a nested dict."""
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from flatten_keys(value, f"{prefix}.{key}" if prefix else str(key))


def _unknown_kind(key: str, name: str, kinds: Sequence[str], where: str) -> ConfigError:
    near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.5)
    fix = f"did you mean '{near[0]}'?" if near else f"it should be {', '.join(map(repr, kinds[:-1]))} or {kinds[-1]!r}"
    return ConfigError(f"'{key}.name' is {name!r}", where=where, fix=fix)


def _closest_key_hint(key: str, known: Sequence[str]) -> str:
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = difflib.get_close_matches(key, same_leaf or known, n=1, cutoff=0 if same_leaf else 0.5)
    return f"did you mean '{near[0]}'?" if near else _ALL_KEYS


def _error_location(loc: Sequence[int | str]) -> tuple[str, type[Section] | None, list[type[Section]]]:
    """Key and sections of a validation error.

    Besides keys, pydantic's location contains the kind of a section, and the type that it tried for a value.

    Returns:
        The dotted key, the class of its section if that has several kinds (else None), and the sections that are
        possible as value of the key.
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
    """Section classes in a type annotation; none if it is the type of a value."""
    inner = get_args(annotation)
    if not inner and isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for each in inner:
        yield from _sections(each)


def _keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values and sections below a section."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in _sections(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _kind(section: type[Section]) -> str:
    return str(section.model_fields["name"].default)


def load_config(path: Path, overrides: Sequence[str] = (), *, model: ModelConfig | None = None) -> Config:
    """Read a YAML file and apply ``key=value`` overrides with dotted keys and YAML values.

    With ``base: neu.yaml``, a path relative to the file, a file contains only the differences from another file.

    Args:
        path: the file.
        overrides: as on the command line.
        model: defaults of the model section, below the file and the overrides; None: those of the schema.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key (with the nearest known one) or an invalid value.
    """
    tree = _read_tree(Path(path))
    for override in overrides:
        _apply_override(tree, override)
    if model is not None:
        section = tree.get("model")
        defaults = model.model_dump(mode="json")
        # a given backbone replaces the default one entirely, as its ``size`` sets further keys
        for keys in (["backbone"], ["memory", "light"]):
            _drop_if_given(defaults, section, keys)
        tree = _deep_merge({"model": defaults}, tree)
    return parse_config(tree, where=str(path))


def _drop_if_given(defaults: Any, given: Any, path: Sequence[str]) -> None:
    """Remove a key from nested defaults if the other tree holds it."""
    *sections, key = path
    for section in sections:
        defaults, given = (tree.get(section) if isinstance(tree, dict) else None for tree in (defaults, given))
    if isinstance(defaults, dict) and isinstance(given, dict) and key in given:
        defaults.pop(key, None)


def parse_config(tree: dict[str, Any], *, where: str = "configuration") -> Config:
    """Validate a nested dict as a Config.

    Raises:
        ConfigError: the first validation error in one sentence.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise explain_validation_error(error, where) from None


def read_yaml_file(path: Path, what: str) -> Any:
    """Read a YAML file of a user as plain values; None if it is empty.

    Args:
        path: the file.
        what: description of the file for messages, such as "costs".

    Raises:
        ConfigError: the file can't be read, or is not valid YAML.
    """
    try:
        return read_yaml(path)
    except OSError as error:
        raise ConfigError(f"can't read the {what} ({error.strerror})", where=path, fix="check the path") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"not valid YAML ({reason})", where=path, fix="fix the line it names") from None


def to_yaml(config: Config) -> str:
    """The full configuration as YAML, including all defaults."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differing_keys(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ or that only one configuration has, in the order of the schema."""
    values_a, values_b = (dict(flatten_keys(config.model_dump(mode="json"))) for config in (a, b))
    shared = values_a.keys() & values_b.keys()
    return [key for key in {**values_a, **values_b} if key not in shared or values_a[key] != values_b[key]]


def _read_tree(path: Path, dependents: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file, merged over those of its base; ``dependents`` are the files that have it as a base."""
    if path.resolve() in dependents:
        raise ConfigError("files build on each other in a circle", where=path, fix="remove 'base:' from one of them")
    tree = _read_mapping(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"'base' is {base!r}", where=path, fix="name one YAML file, relative to this one")
    return _deep_merge(_read_tree(path.parent / base, (*dependents, path.resolve())), tree)


def _read_mapping(path: Path) -> dict[str, Any]:
    tree = read_yaml_file(path, "configuration")
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping of sections", where=path, fix="write 'train:' with keys under it")
    return tree


def _deep_merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **changes}
    for key in base.keys() & changes.keys():
        if isinstance(base[key], dict) and isinstance(changes[key], dict):
            merged[key] = _deep_merge(base[key], changes[key])
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
