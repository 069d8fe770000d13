"""How far all found boxes together lie beside their labels, whatever a few of them do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .localisation import clearly_off, clustered_interval, matched_pairs
from .records import Evaluated

_WORTH_SAYING_PX = 0.3
_FEW = 10  # images or groups of them; from fewer nothing is called clear
_WORDS = {"x": ("{} px left of", "{} px right of"), "y": ("{} px above", "{} px below")}


def displacement(evaluated: Evaluated, *, groups: Sequence[int] | None = None) -> dict[str, Any]:
    """The shift that boxes of all classes share, over the pairs that pycocotools matches at IoU 0.5.

    It is the interquartile mean of detected minus true centre: of the pairs the middle half counts, along x and y each,
    so that the few that read a place otherwise, by tens of pixels, have no say. A detector that learns from mirrored
    images draws its boxes where defects are; labels that all lie on one side of them show so.

    Args:
        evaluated: one run of COCOeval.
        groups: a number an image; images with the same one (frames of a strip) count as one piece of evidence in the
            interval. By default each image stands for itself.

    Returns:
        ``matched``, the number of pairs; by "x" and "y" ``px``, positive to the right and downwards, ``interval_px``,
        its 95 % interval [low, high] by ``clustered_interval``, None for fewer than two groups, and ``clear``, whether
        it is 0.3 pixels or more with an interval, of ten groups or more, that doesn't hold 0; ``words``, the clear ones
        said plainly. None in place of numbers where no pair was matched.
    """
    found_xyxy, true_xyxy, clusters = matched_pairs(evaluated, groups=groups)
    if not len(clusters):
        none = dict.fromkeys("xy")
        unclear = dict.fromkeys("xy", False)
        words = "no box was matched"
        return {"matched": 0, "px": none, "interval_px": dict(none), "clear": unclear, "words": words}
    beside = found_xyxy - true_xyxy
    middle, standing_for = interquartile_mean((beside[:, :2] + beside[:, 2:]) / 2)
    interval = clustered_interval(standing_for, clusters)
    enough = len(np.unique(clusters)) >= _FEW
    clear = clearly_off(middle, interval if enough else None, least=_WORTH_SAYING_PX)
    px = dict(zip("xy", middle.tolist()))
    return {
        "matched": len(clusters),
        "px": px,
        "interval_px": dict(zip("xy", [None] * 2 if interval is None else interval.T.tolist())),
        "clear": dict(zip("xy", clear.tolist())),
        "words": _in_words({axis: px[axis] for axis, sure in zip("xy", clear) if sure}),
    }


def interquartile_mean(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of the middle half of each column, and values of which it is the plain mean.

    Args:
        values: float64[N, C], N of at least 1.

    Returns:
        float64[C], and float64[N, C]: the same plus how far each row alone moves it (its influence; Huber 1981, section
        3.3). An interval of their mean is one of the interquartile mean.
    """
    cut = len(values) // 4
    rising = np.sort(values, axis=0)[cut : len(values) - cut]
    middle = rising.mean(axis=0)
    held = values.clip(rising[0], rising[-1])
    return middle, middle + len(values) / len(rising) * (held - held.mean(axis=0))


def _in_words(clear_px: dict[str, float]) -> str:
    if not clear_px:
        return f"all boxes together are not clearly displaced by {_WORTH_SAYING_PX} px or more"
    parts = [_WORDS[axis][px > 0].format(f"{abs(px):.1f}") for axis, px in clear_px.items()]
    return f"all boxes together lie {' and '.join(parts)} their labels"
