"""Recall by the size of defects: in parts of equal count for each category, and by COCO's fixed sizes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Evaluated
from .bounds import share, share_design_effect
from .tally import found_scores

COCO_SIZES_PX = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, None)}


def recall_by_size(
    evaluated: Evaluated, thresholds: NDArray[np.float64], *, bins: int = 4, confidence: float = 0.95
) -> dict[str, Any]:
    """How many defects are found, at an IoU of 0.5, by the square root of their labelled area in pixels.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], the lowest score that counts, of each category.
        bins: parts of a category's defects, as equal in number as sizes that are equal allow.
        confidence: of each bound.

    Returns:
        {"overall", "per_class"}; each with ``quantiles``, a list by rising size, and ``coco``, by "small", "medium"
        and "large": {"from_px", "to_px", "count", "of", "rate", "low", "high"}, ``to_px`` not included but in the last
        quantile (None: no end), the last three None where there is no such defect.
    """
    truth = evaluated.truth
    to_find = ~truth.crowd
    found = found_scores(evaluated) >= thresholds[truth.category]
    sizes_px = np.sqrt(np.maximum(truth.area, 0))

    def of(rows: NDArray[np.int64]) -> dict[str, Any]:
        def counted(inside: NDArray[np.bool_], low: float, high: float | None) -> dict[str, Any]:
            hit, image = found[rows[inside]], truth.image[rows[inside]]
            of_image, hit_of_image = (np.bincount(each, minlength=len(truth.images)) for each in (image, image[hit]))
            effect = share_design_effect(hit_of_image, of_image)
            return {"from_px": low, "to_px": high, **share(int(hit.sum()), len(hit), confidence, effect)}

        size = sizes_px[rows]
        edges = np.unique(np.quantile(size, np.linspace(0, 1, bins + 1))).tolist() if len(size) else []
        edges = edges * 2 if len(edges) == 1 else edges  # all of one size
        quantiles = [
            counted((size >= low) & (size <= high if high == edges[-1] else size < high), low, high)
            for low, high in pairwise(edges)
        ]
        coco = {
            name: counted((size >= low) & (size < (high or np.inf)), low, high)
            for name, (low, high) in COCO_SIZES_PX.items()
        }
        return {"quantiles": quantiles, "coco": coco}

    return {
        "overall": of(np.flatnonzero(to_find)),
        "per_class": {
            name: of(np.flatnonzero(to_find & (truth.category == k))) for k, name in enumerate(truth.categories)
        },
    }
