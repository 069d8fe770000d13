"""How exactly found boxes lie: IoU and the offset of each edge, over the pairs that pycocotools matches at IoU 0.5."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..boxes import Array, area, xywh_to_xyxy
from .ap import IOU_50
from .records import Evaluated

EDGES = ("left", "top", "right", "bottom")
_WORDS = {
    "left": ("starts {} px too far left", "starts {} px too far right"),
    "top": ("starts {} px too high at the top", "starts {} px too low at the top"),
    "right": ("ends {} px too far left", "ends {} px too far right"),
    "bottom": ("ends {} px too high at the bottom", "ends {} px too low at the bottom"),
}
_WORTH_SAYING_PX = 0.5


def localisation(evaluated: Evaluated, category: int) -> dict[str, Any]:
    """Matched pairs of one category, whatever their score.

    Returns:
        ``matched``, the number of pairs; ``mean_iou``; ``edge_bias_px``, mean of detected minus true for each edge,
        in pixels with y downwards, so that a positive left starts too far right; ``edge_sd_px``, its standard
        deviation; ``edge_bias_words``, the same said plainly. None where no pair was matched.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    pairs = (matches.truth_of[IOU_50] >= 0) & ~matches.ignored[IOU_50]
    pairs &= found.category[matches.order] == category
    count = int(pairs.sum())
    if not count:
        none = dict.fromkeys(EDGES)
        words = "no box was matched"
        return {"matched": 0, "mean_iou": None, "edge_bias_px": none, "edge_sd_px": none, "edge_bias_words": words}
    found_xyxy = xywh_to_xyxy(found.boxes_xywh[matches.order[pairs]])
    true_xyxy = xywh_to_xyxy(truth.boxes_xywh[matches.truth_of[IOU_50, pairs]])
    offsets = found_xyxy - true_xyxy
    bias, spread = offsets.mean(axis=0), offsets.std(axis=0)
    return {
        "matched": count,
        "mean_iou": float(iou_of_pairs(found_xyxy, true_xyxy).mean()),
        "edge_bias_px": dict(zip(EDGES, bias.tolist())),
        "edge_sd_px": dict(zip(EDGES, spread.tolist())),
        "edge_bias_words": in_words(dict(zip(EDGES, bias.tolist())), dict(zip(EDGES, spread.tolist())), count),
    }


def in_words(bias_px: dict[str, float], sd_px: dict[str, float], matched: int) -> str:
    """The edges that are off by half a pixel or more, and by more than two standard errors; largest first."""
    said = []
    for edge in sorted(bias_px, key=lambda e: -abs(bias_px[e])):
        offset = bias_px[edge]
        if abs(offset) >= _WORTH_SAYING_PX and abs(offset) > 2 * sd_px[edge] / math.sqrt(matched):
            said.append(_WORDS[edge][offset > 0].format(f"{abs(offset):.1f}"))
    if said:
        return ", ".join(said)
    return f"no edge is clearly off by {_WORTH_SAYING_PX} px or more"


def iou_of_pairs(a_xyxy: Array, b_xyxy: Array) -> Array:
    """IoU of each row with the same row: [N, 4], [N, 4] -> [N]; 0 where both are empty."""
    low, high = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    union = area(a_xyxy) + area(b_xyxy) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
