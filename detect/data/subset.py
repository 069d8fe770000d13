"""Some of a data set's images, even over the classes."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence


def evenly(labels: Sequence[Collection[str]], count: int, *, seed: int) -> list[int]:
    """Some of the images, at random, as even over the classes as can be; fewer of them are among more of them.

    Args:
        labels: the classes in each image; an image without any counts as a class of its own.
        count: how many images.
        seed: same seed and input, same images.

    Returns:
        Ascending positions in ``labels``.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"{count} of {len(labels)} images")
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    waiting: dict[str, list[int]] = defaultdict(list)
    for i in reversed(order):  # taken from the end
        for label in labels[i] or ("",):
            waiting[label].append(i)
    chosen: dict[int, None] = {}
    seen: Counter[str] = Counter()
    while len(chosen) < count:
        rarest = min((label for label, ids in waiting.items() if ids), key=lambda label: (seen[label], label))
        i = waiting[rarest].pop()
        if i not in chosen:
            chosen[i] = None
            seen.update(labels[i] or ("",))
    return sorted(chosen)
