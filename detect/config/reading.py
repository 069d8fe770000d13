"""A configuration from a YAML file, with dotted overrides over it, and back into YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from .tree import Config
from .words import in_words, leaves


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``key=value`` overrides with dotted keys, values in YAML.

    Raises:
        ConfigError: no such file, no YAML mapping, an unknown key (the nearest known one is named) or a bad value.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"can't read the configuration ({error.strerror})", where=path, fix="check the path"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"not valid YAML ({reason})", where=path, fix="mend the line it names") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping of sections", where=path, fix="write 'train:' with keys under it")
    for override in overrides:
        _apply(tree, override)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], *, where: str = "configuration") -> Config:
    """A nested dict -> Config, with errors in words."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise in_words(error, where) from None


def to_yaml(config: Config) -> str:
    """The resolved tree, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def differing_keys(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ, in the order of the tree."""
    theirs = dict(leaves(b.model_dump(mode="json")))
    return [key for key, value in leaves(a.model_dump(mode="json")) if theirs.get(key) != value]


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"'{override}' is no override", fix="write key=value, such as train.epochs=20")
    try:
        value = yaml.safe_load(text)
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
