"""Images whose labels are at odds with what the rest of the data shows: the class in a file's name, empty ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..records import Image

_FOLLOWED = 0.95  # share of the images, named after a class, that have a box of it
_FEWEST = 20  # images, before a habit counts as one
_RARE = 0.02  # share of images without objects, up to which each is worth a look
_TAIL = re.compile(r"[\W_]*\d+$")


def named_class(image: Image, categories: Sequence[str]) -> str | None:
    """The class that a file's name starts with, before its number, or that its folder is called by; None if neither."""
    spelt = {_plain(name): name for name in categories}
    stem = _TAIL.sub("", image.path.stem)
    return spelt.get(_plain(stem)) or spelt.get(_plain(image.path.parent.name))


def without_named_class(images: Sequence[Image], categories: Sequence[str]) -> list[tuple[int, str]]:
    """Images that lack a box of the class they are named after, where nearly all others have one, and the class."""
    told = [(i, name) for i, image in enumerate(images) if (name := named_class(image, categories))]
    odd = [(i, name) for i, name in told if all(box.label != name for box in images[i].boxes)]
    return odd if len(told) >= _FEWEST and len(odd) <= (1 - _FOLLOWED) * len(told) else []


def rarely_empty(images: Sequence[Image]) -> list[int]:
    """Images without objects, where there are hardly any."""
    empty = [i for i, image in enumerate(images) if not image.boxes]
    return empty if len(images) >= _FEWEST and len(empty) <= _RARE * len(images) else []


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
