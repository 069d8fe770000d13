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
        deviation; ``edge_bias_clear``, whether an edge is off by half a pixel or more and by more than two standard
        errors; ``edge_bias_words``, the clear ones said plainly, largest first. None where no pair was matched.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    pairs = (matches.truth_of[IOU_50] >= 0) & ~matches.ignored[IOU_50]
    pairs &= found.category[matches.order] == category
    count = int(pairs.sum())
    if not count:
        none = dict.fromkeys(EDGES)
        edges = {"edge_bias_px": none, "edge_sd_px": none, "edge_bias_clear": dict.fromkeys(EDGES, False)}
        return {"matched": 0, "mean_iou": None, **edges, "edge_bias_words": "no box was matched"}
    found_xyxy = xywh_to_xyxy(found.boxes_xywh[matches.order[pairs]])
    true_xyxy = xywh_to_xyxy(truth.boxes_xywh[matches.truth_of[IOU_50, pairs]])
    offsets = found_xyxy - true_xyxy
    bias, spread = offsets.mean(axis=0), offsets.std(axis=0)
    clear = (abs(bias) >= _WORTH_SAYING_PX) & (abs(bias) > 2 * spread / math.sqrt(count))
    bias_px = dict(zip(EDGES, bias.tolist()))
    return {
        "matched": count,
        "mean_iou": float(iou_of_pairs(found_xyxy, true_xyxy).mean()),
        "edge_bias_px": bias_px,
        "edge_sd_px": dict(zip(EDGES, spread.tolist())),
        "edge_bias_clear": dict(zip(EDGES, clear.tolist())),
        "edge_bias_words": _in_words({edge: bias_px[edge] for edge, sure in zip(EDGES, clear) if sure}),
    }


def _in_words(clear_px: dict[str, float]) -> str:
    if not clear_px:
        return f"no edge is clearly off by {_WORTH_SAYING_PX} px or more"
    falling = sorted(clear_px, key=lambda edge: -abs(clear_px[edge]))
    return ", ".join(_WORDS[edge][clear_px[edge] > 0].format(f"{abs(clear_px[edge]):.1f}") for edge in falling)


def iou_of_pairs(a_xyxy: Array, b_xyxy: Array) -> Array:
    """IoU of each row with the same row: [N, 4], [N, 4] -> [N]; 0 where both are empty."""
    low, high = np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    union = area(a_xyxy) + area(b_xyxy) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
