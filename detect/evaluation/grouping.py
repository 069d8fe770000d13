"""Which images tell no more than one of them does, frames of a coil, say, and so are drawn together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from .records import Truth


def groups_of(
    truth_images: Sequence[dict[str, Any]], *, key: str | None = None, pattern: str | None = None
) -> list[int]:
    """A number for each image, the same for those of one coil, plate or strip.

    Args:
        truth_images: the ``images`` of a COCO data set.
        key: of these images, whose value names the group: "video_id", "coil".
        pattern: or a regular expression, looked for in the file name; its first group, or all that it matches where it
            has none, names the group of images.

    Returns:
        Numbers from 0, in the judge's order of images, that of their ids.

    Raises:
        ConfigError: both or neither of key and pattern, or a pattern that is no regular expression.
        DataError: images that have no such key, or whose names the pattern doesn't match.
    """
    if (key is None) == (pattern is None):
        raise ConfigError("images are grouped by a key or by a pattern", fix="give one of them")
    names = [_value(image, key) for image in truth_images] if key is not None else _matched(truth_images, pattern or "")
    lacking = [str(image.get("file_name", image["id"])) for image, name in zip(truth_images, names) if name is None]
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else "")
        why = f"have no {key!r}" if key is not None else f"don't match the pattern '{pattern}'"
        fix = f"write {key!r} into each image of the labels" if key is not None else "change the pattern to match all"
        found = f"{len(lacking):,} of the {len(names):,} images {why}: {shown}"
        raise DataError(found, where="images", fix=fix)
    by_id = [name for _, name in sorted(zip((image["id"] for image in truth_images), names))]
    number = {name: i for i, name in enumerate(dict.fromkeys(by_id))}
    return [number[name] for name in by_id]


def groups_with_boxes(
    truth: Truth, groups: Sequence[int] | None = None, to_find: NDArray[np.bool_] | None = None
) -> dict[str | None, int]:
    """In how many groups there is a box to find, of each category and, under None, of any.

    Args:
        truth: the labels.
        groups: a number an image; None: each is its own.
        to_find: bool[G], which labels count; None: all but crowd regions.
    """
    group = np.arange(len(truth.images)) if groups is None else np.asarray(groups)
    to_find = ~truth.crowd if to_find is None else to_find
    of_box, category = group[truth.image[to_find]], truth.category[to_find]
    counted: dict[str | None, int] = {None: len(np.unique(of_box))}
    return counted | {name: len(np.unique(of_box[category == k])) for k, name in enumerate(truth.categories)}


def _value(image: dict[str, Any], key: str) -> str | None:
    value = image.get(key)
    return None if value is None or isinstance(value, (dict, list)) else str(value)


def _matched(images: Sequence[dict[str, Any]], pattern: str) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the pattern '{pattern}' is no regular expression ({error})", fix="correct it") from None
    found = (compiled.search(str(image.get("file_name", ""))) for image in images)
    return [None if match is None else match[min(1, compiled.groups)] or None for match in found]  # "" names nothing
