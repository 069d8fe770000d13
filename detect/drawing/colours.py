"""A colour for every class: told apart by colour-blind eyes too, and bright enough for gray steel."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import numpy as np

Rgb = tuple[int, int, int]  # 0 to 255

# Twenty colours picked greedily for the largest least CIELAB distance, over normal sight and simulated protan, deutan
# and tritan sight (Machado et al. 2009), none darker than L* 47 so that they stand out from gray steel.
_PALETTE = bytes.fromhex(
    "E69F00 56B4E9 00FFBB 7766FF FF2255 EE0099 CCFF88 FFEE00 33DDDD CC5500 "
    "2288DD 44AA77 DDAA55 BB33BB 66DD88 448844 FF88BB FFDD55 BB77BB 55FFEE"
)
_COLOURS = len(_PALETTE) // 3
# The first six, which differ most, go to the defects that steel is best known for.
_KNOWN = ("inclusion", "crazing", "patches", "pitted_surface", "rolled-in_scale", "scratches")


def class_colours(categories: Iterable[str]) -> dict[str, Rgb]:
    """A colour for every name: always the same for a name, unless two names of one set would share theirs.

    Up to twenty names get twenty colours; after that, colours come again.
    """
    chosen: dict[str, Rgb] = {}
    free: list[int] = []
    for name in sorted(set(categories), key=lambda n: (n not in _KNOWN, n)):
        free = free or list(range(_COLOURS))
        wanted = _KNOWN.index(name) if name in _KNOWN else crc32(name.encode()) % _COLOURS
        index = min(free, key=lambda i: (i - wanted) % _COLOURS)
        free.remove(index)
        chosen[name] = (_PALETTE[3 * index], _PALETTE[3 * index + 1], _PALETTE[3 * index + 2])
    return chosen


def ink(paper: Rgb) -> Rgb:
    """Black or white, whichever contrasts more (WCAG 2 relative luminance, with a plain gamma of 2.2)."""
    light = float(np.dot((np.array(paper) / 255) ** 2.2, (0.2126, 0.7152, 0.0722)))
    return (0, 0, 0) if light > 0.179 else (255, 255, 255)
