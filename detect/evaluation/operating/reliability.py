"""How well scores say how often they are right: the reliability diagram and calibration errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import share_bounds

BINS = 15


def reliability(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], *, bins: int = BINS, confidence: float = 0.95
) -> dict[str, Any]:
    """Compare scores with the share of hits among detections of like scores.

    Args:
        scores: float64[N], 0 to 1.
        hits: bool[N].
        bins: parts of equal count; equal scores stay together, so there may be fewer.
        confidence: of each bound of a bin's share of hits, its detections taken as independent.

    Returns:
        ``detections`` and ``hits``, their numbers; ``bins``, by rising score, each {"count", "from", "to",
        "mean_score", "hit_rate", "low", "high"}; and the errors of ``errors``.
    """
    order = np.argsort(scores, kind="stable")
    scores, hits = scores[order], hits[order]
    starts = _starts(scores, bins)
    drawn = []
    for start, stop in zip(starts, [*starts[1:], len(scores)]):
        count, right = int(stop - start), int(hits[start:stop].sum())
        low, high = share_bounds(right, count, confidence)
        part = scores[start:stop]
        ends = {"from": float(part[0]), "to": float(part[-1]), "mean_score": float(part.mean())}
        drawn.append({"count": count, **ends, "hit_rate": right / count, "low": low, "high": high})
    return {"detections": len(scores), "hits": int(hits.sum()), "bins": drawn, **errors(scores, hits, bins=bins)}


def errors(scores: NDArray[np.float64], hits: NDArray[np.bool_], *, bins: int = BINS) -> dict[str, float | None]:
    """Calibration errors over parts of equal count.

    Args:
        scores, hits, bins: as above.

    Returns:
        ``ece``, the expected calibration error: the mean over detections of how far the share of hits of their part
        lies from its mean score (Naeini et al. 2015, with parts of equal count as by Nguyen and O'Connor 2015).
        ``ece_by_chance``: what it would be on average, by the normal approximation, if every score were exactly the
        chance of a hit; an ECE near it tells nothing. ``debiased_error``: the root of the mean squared distance less
        what chance adds to it, 0 where chance adds more (Kumar et al. 2019). ``nll``: the mean negative
        log-likelihood of hits and false alarms, in nats. All None without detections.
    """
    if not len(scores):
        return dict.fromkeys(("ece", "ece_by_chance", "debiased_error", "nll"))
    order = np.argsort(scores, kind="stable")
    scores, hits = scores[order], hits[order]
    starts = _starts(scores, bins)
    counts = np.diff(np.append(starts, len(scores)))
    weights = counts / len(scores)
    mean, rate = np.add.reduceat(scores, starts) / counts, np.add.reduceat(hits.astype(np.float64), starts) / counts
    by_chance = np.sqrt(2 / math.pi * np.add.reduceat(scores * (1 - scores), starts)) / counts
    squared = (rate - mean) ** 2 - rate * (1 - rate) / np.maximum(counts - 1, 1)
    safe = np.clip(np.where(hits, scores, 1 - scores), 1e-12, 1)
    return {
        "ece": float(weights @ abs(rate - mean)),
        "ece_by_chance": float(weights @ by_chance),
        "debiased_error": math.sqrt(max(0.0, float(weights @ squared))),
        "nll": float(-np.log(safe).mean()),
    }


def _starts(scores: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Where each part of rising scores starts."""
    wanted = np.arange(min(bins, len(scores))) * len(scores) // max(min(bins, len(scores)), 1)
    return np.unique(np.searchsorted(scores, scores[wanted], side="left"))
