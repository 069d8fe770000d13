"""YAML to plain values, where a key that stands twice is an error and not the last one's word."""

from __future__ import annotations

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"  # several "<<" have a meaning


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def load_yaml(text: str | bytes) -> Any:
    """Plain values of one YAML document; None of an empty one.

    Raises:
        yaml.YAMLError: no YAML, a tag beyond plain values, or a key twice in one mapping.
    """
    return yaml.load(text, _Loader)  # it is a SafeLoader
