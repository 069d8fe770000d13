"""What COCO's AP50 depends on, and what is changed in it to mend each kind of error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .ap import IOU_50
from .records import Evaluated

_RECALLS = np.linspace(0, 1, 101)

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """All that AP50 depends on: M detections by falling score, ties as pycocotools ranks them, and G labels.

    Attributes:
        rows: int64[M], rows of ``Found``.
        category: int64[M].
        label: int64[M], the row of ``Truth`` that each finds, -1 for none.
        counts: bool[M], False for what is neither hit nor false alarm.
        label_category: int64[G].
        to_find: bool[G], labels that count.
    """

    rows: Rows
    category: Rows
    label: Rows
    counts: NDArray[np.bool_]
    label_category: Rows
    to_find: NDArray[np.bool_]


def take_away(standing: Standing, detections: Rows, labels: Rows) -> Standing:
    """Without these detections."""
    return replace(standing, counts=standing.counts & ~np.isin(standing.rows, detections))


def find(standing: Standing, detections: Rows, labels: Rows) -> Standing:
    """With each of these detections finding its label; of several on one label the best score stays."""
    meant = np.full(int(standing.rows.max(initial=-1)) + 1, -1, dtype=np.int64)
    meant[detections] = labels
    at = np.flatnonzero(meant[standing.rows] >= 0)
    label, category = standing.label.copy(), standing.category.copy()
    label[at] = meant[standing.rows[at]]
    category[at] = standing.label_category[label[at]]
    hits = np.flatnonzero(standing.counts & (label >= 0))
    best = np.unique(label[hits], return_index=True)[1]
    counts = standing.counts.copy()
    counts[np.delete(hits, best)] = False
    return replace(standing, category=category, label=label, counts=counts)


def forget(standing: Standing, detections: Rows, labels: Rows) -> Standing:
    """With these labels no longer to find."""
    to_find = standing.to_find.copy()
    to_find[labels] = False
    return replace(standing, to_find=to_find)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A kind of error: its name, what it is, and what is changed to mend its cases."""

    name: str
    description: str
    mend: Callable[[Standing, Rows, Rows], Standing]


KINDS = (
    ErrorKind("classification", "well placed on a label, but named another class", find),
    ErrorKind("localisation", "of the right class, but badly placed: IoU 0.1 to 0.5", find),
    ErrorKind("both", "badly placed on a label of another class", take_away),
    ErrorKind("duplicate", "one more detection on a label that a better one found", take_away),
    ErrorKind("background", "where no label is", take_away),
    ErrorKind("missed", "a label that no detection found, not even with a wrong class or box", forget),
)
TOTALS = (
    ErrorKind("false_positives", "all detections that found no label", take_away),
    ErrorKind("false_negatives", "all labels that no detection found", forget),
)


def standing_of(evaluated: Evaluated) -> Standing:
    """As pycocotools matched at an IoU of 0.5."""
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    rows = matches.order
    ranked = np.lexsort((rows, found.image[rows], -found.scores[rows]))
    rows, ignored = rows[ranked], matches.ignored[IOU_50, ranked]
    label = np.where(ignored, -1, matches.truth_of[IOU_50, ranked])
    return Standing(rows, found.category[rows], label, ~ignored, truth.category, ~truth.crowd)


def ap50(standing: Standing, categories: int) -> NDArray[np.float64]:
    """AP50 of each category as pycocotools interpolates it at 101 recalls: float64[K]; NaN where nothing is to find."""
    to_find = np.bincount(standing.label_category[standing.to_find], minlength=categories)
    used = np.flatnonzero(standing.counts)
    used = used[np.argsort(standing.category[used], kind="stable")]
    starts = np.searchsorted(standing.category[used], np.arange(categories + 1))
    result = np.full(categories, np.nan)
    for k in np.flatnonzero(to_find):
        at = np.flatnonzero(standing.label[used[starts[k] : starts[k + 1]]] >= 0)
        true = np.arange(1, len(at) + 1)
        precision = np.maximum.accumulate((true / (at + 1))[::-1])[::-1]
        reached = np.searchsorted(_RECALLS, true / to_find[k], side="right")
        result[k] = (precision * np.diff(reached, prepend=0)).sum() / len(_RECALLS)
    return result
