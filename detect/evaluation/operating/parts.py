"""Images divided by chance into a part to choose on and a part to confirm on, or into folds; classes even."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..records import Truth


def units_of(images: int, groups: Sequence[int] | None) -> NDArray[np.int64]:
    """int64[images]: what each image is drawn and counted with, numbered from 0: its group, or itself alone.

    Raises:
        DataError: not a group for each image.
    """
    if groups is None:
        return np.arange(images)
    if len(groups) != images:
        raise DataError(f"{len(groups)} groups for {images} images", fix="give one number an image")
    return np.unique(np.asarray(groups), return_inverse=True)[1].ravel().astype(np.int64)


def choosing_part(truth: Truth, units: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.bool_]:
    """bool[images]: the share of the units to choose on; the others are left to confirm on.

    Args:
        truth: labels; the rarest category in a unit decides where it stands, so that both parts get each in proportion.
        units: int64[images], as ``units_of`` gives; a unit is never torn.
        share: of the units, 0 to 1.
        seed: same seed, same part.
    """
    order, start = _shuffled(truth, units, seed)
    steps = np.floor(np.arange(len(order) + 1) * share + start)
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order] = np.diff(steps) > 0
    return chosen[units]


def folds_of(truth: Truth, units: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """int64[images]: the fold of each image, 0 to ``folds`` - 1; arguments as above."""
    order, _ = _shuffled(truth, units, seed)
    fold = np.zeros(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold[units]


def _shuffled(truth: Truth, units: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], float]:
    """Units by their rarest category, at random within; and a random number from 0 to 1 to start counting from."""
    categories, count = len(truth.categories), int(units.max(initial=-1)) + 1
    boxes = np.bincount(truth.category, minlength=categories)
    rank = np.argsort(np.argsort(boxes, kind="stable"), kind="stable")
    rarest = np.full(count, categories, dtype=np.int64)  # units without a label come last
    np.minimum.at(rarest, units[truth.image], rank[truth.category])
    rng = np.random.default_rng(seed)
    return np.lexsort((rng.random(count), rarest)), float(rng.random())
