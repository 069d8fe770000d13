"""The same picture twice: equal pixels, or the same scene after compression, relighting, noise or scaling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pixels import Fingerprint

# Measured on 1,440 photographs of steel: copies that were compressed (JPEG quality 50), relit, blurred, equalised
# or scaled keep 0.87 to 1.00, the only second photograph of one defect has 0.80, the most alike strangers 0.58.
ALIKE = 0.7
_COARSE = 0.65  # at half the side, where copies keep more and strangers share more; only picks candidates
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Twins:
    """Images that show the same.

    Attributes:
        members: positions of the images, ascending.
        exact: all have equal pixels.
        likeness: the weakest link between them, 0 to 1; 1 if exact.
    """

    members: tuple[int, ...]
    exact: bool
    likeness: float


def find_twins(prints: Sequence[Fingerprint]) -> list[Twins]:
    """Groups of two or more images that show the same; what is linked over a third image is one group.

    Images are compared by the direction and, softly, the strength of their brightness edges on a small gray
    version (the idea of a difference hash, with a correlation in place of the count of equal bits), so that
    neither exposure nor one bright scratch decides alone. An image without any edge only equals its exact copies.
    """
    first_of: dict[bytes, int] = {}
    links: list[tuple[int, int, float]] = []
    for i, item in enumerate(prints):
        j = first_of.setdefault(item.digest, i)
        if j != i:
            links.append((j, i, 1.0))
    distinct = np.array(sorted(first_of.values()), dtype=np.int64)
    exact = {(i, j) for i, j, _ in links}
    if len(distinct) > 1:
        small = np.stack([prints[i].small for i in distinct])
        links += [(int(distinct[a]), int(distinct[b]), like) for a, b, like in _near(small)]
    return _groups(links, len(prints), exact)


def group_ids(count: int, twins: Sequence[Twins]) -> list[int]:
    """For each of ``count`` images the number of its group; twins share one, all others have their own."""
    ids = list(range(count))
    for group in twins:
        for member in group.members:
            ids[member] = group.members[0]
    return ids


def _near(small: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """Pairs of rows of float32[N, side, side] that are alike, with how much."""
    halved = small.reshape(len(small), small.shape[1] // 2, 2, small.shape[2] // 2, 2).mean(axis=(2, 4))
    coarse = _edges(halved)
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(coarse), _BLOCK):
        rows, columns = np.nonzero(coarse[start : start + _BLOCK] @ coarse[start:].T > _COARSE)
        ahead = columns > rows
        a, b = rows[ahead] + start, columns[ahead] + start
        for piece in range(0, len(a), _BLOCK):
            both = np.stack([a[piece : piece + _BLOCK], b[piece : piece + _BLOCK]])
            candidates, where = np.unique(both, return_inverse=True)
            left, right = _edges(small[candidates])[where.reshape(both.shape)]
            likeness = np.einsum("nd,nd->n", left, right)
            pairs += [(int(i), int(j), float(like)) for i, j, like in zip(*both, likeness) if like > ALIKE]
    return pairs


def _edges(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[N, side, side] -> float32[N, 2 (side - 1)^2], unit length, so that a dot product is a correlation."""
    across = np.diff(small, axis=2)[:, :-1].reshape(len(small), -1)
    down = np.diff(small, axis=1)[:, :, :-1].reshape(len(small), -1)
    steps = np.concatenate([across, down], axis=1)
    usual = np.median(np.abs(steps), axis=1, keepdims=True)
    # Steps far above the usual one count hardly more than it: otherwise any two vertical scratches are twins.
    soft = np.tanh(steps / np.maximum(2 * usual, 1e-3))
    length = np.sqrt((soft * soft).sum(axis=1, keepdims=True))
    return np.asarray(soft / np.maximum(length, 1e-6), dtype=np.float32)


def _groups(links: Sequence[tuple[int, int, float]], count: int, exact: set[tuple[int, int]]) -> list[Twins]:
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, _ in links:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    members: dict[int, set[int]] = defaultdict(set)
    inside: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for i, j, like in links:
        members[root(i)] |= {i, j}
        inside[root(i)].append((i, j, like))
    return [
        Twins(
            tuple(sorted(members[key])),
            all((i, j) in exact for i, j, _ in inside[key]),
            min(like for _, _, like in inside[key]),
        )
        for key in sorted(members)
    ]
