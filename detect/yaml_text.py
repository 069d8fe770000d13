"""YAML to plain values, where a key twice, a tag or a trap is an error and not somebody else's word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .encoding import decode

_MERGE = "tag:yaml.org,2002:merge"  # several "<<" have a meaning
_TEXT, _BOOL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool"
_MOST_BYTES = 500_000  # PyYAML reads some 100 kB a second; nine thousand class names take a third of this
_MOST_VALUES = 100_000  # with what aliases repeat counted each time
_DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """YAML 1.2's words: only true and false are truth values, and a key is the text that stands there."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
            key.tag = _TEXT  # a class named no, on or 1.0 keeps its name
        return node


# PyYAML follows YAML 1.1, in which yes, no, on and off are truth values, and with them classes of these names.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class _AsWritten(_Loader):
    """All scalars are the text that stands there."""


_AsWritten.yaml_implicit_resolvers = {}


def read_yaml(path: Path, *, as_written: bool = False) -> Any:
    """Plain values of a file with one YAML document; None of an empty one.

    Args:
        path: the file, in UTF-8 or another encoding that ``encoding.decode`` is sure of.
        as_written: numbers, truth values and nulls are the text that stands there.

    Raises:
        OSError: it can't be read.
        yaml.YAMLError: as ``load_yaml``, or it is no text.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for, a device has no end
        raise yaml.YAMLError("it is no file but a pipe or device")
    try:
        with path.open("rb") as file:
            text = decode(file.read(_MOST_BYTES + 1))
    except ValueError as error:  # an unknown encoding, or a name that no file can have
        raise yaml.YAMLError(str(error)) from None
    return load_yaml(text, as_written=as_written)


def load_yaml(text: str, *, as_written: bool = False) -> Any:
    """Plain values of one YAML document; None of an empty one. Keys are text.

    Raises:
        yaml.YAMLError: no YAML, a tag beyond plain values, a key twice in one mapping, a value that is none of its
            kind, or more text, values or depth than a file that somebody wrote has.
    """
    if len(text) > _MOST_BYTES:
        raise yaml.YAMLError(f"it is longer than the {_MOST_BYTES:,} bytes that are read")
    loader = (_AsWritten if as_written else _Loader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError(f"it is nested more than {_DEEPEST} levels deep") from None
    except Exception as error:  # PyYAML lets through what int(), date() and the like say to a wrong value
        raise yaml.YAMLError(f"a value is none of its kind: {error}") from None
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse a tree that contains itself, or that aliases have made larger or deeper than anybody would write."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in open_:
            raise yaml.YAMLError("an alias stands for something that it is part of")
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} levels deep")
        if id(node) not in sizes:
            open_.add(id(node))
            inner = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [each for item in inner for each in (item if isinstance(item, tuple) else (item,))]
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
            open_.discard(id(node))
        if sizes[id(node)] > _MOST_VALUES:
            raise yaml.YAMLError(f"it holds more than {_MOST_VALUES:,} values, those that aliases repeat counted in")
        return sizes[id(node)]

    size(root, 0)
