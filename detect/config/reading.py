"""A configuration from a YAML file, with dotted overrides over it, and back into YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from ..yaml_text import load_yaml, read_yaml
from .tree import Config, ModelConfig
from .words import in_words, leaves


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
        _apply(tree, override)
    if model is not None:
        above = tree.get("model")
        whole = {"backbone"} if isinstance(above, dict) and "backbone" in above else None  # its size stands for widths
        tree = _merged({"model": model.model_dump(mode="json", exclude=whole)}, tree)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], *, where: str = "configuration") -> Config:
    """A nested dict -> Config, with errors in words."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise in_words(error, where) from None


def read_plain(path: Path, what: str) -> Any:
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
        raise ConfigError(f"not valid YAML ({reason})", where=path, fix="mend the line it names") from None


def to_yaml(config: Config) -> str:
    """The resolved tree, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differing_keys(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ, in the order of the tree; those that only one of the two has are among them."""
    ours, theirs = (dict(leaves(each.model_dump(mode="json"))) for each in (a, b))
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
    return _merged(_read_tree(path.parent / base, (*builders, path.resolve())), tree)


def _read_mapping(path: Path) -> dict[str, Any]:
    tree = read_plain(path, "configuration")
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping of sections", where=path, fix="write 'train:' with keys under it")
    return tree


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def _apply(tree: dict[str, Any], override: str) -> None:
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
