"""Error analysis (TIDE): six kinds of error, their cases, and the gain in AP50 if each kind were fixed.

The idea is that of TIDE (Bolya, Foley, Hays & Hoffman, ECCV 2020). An error is a detection that pycocotools matches
to no label at an IoU of 0.5, or a label that it matches to no detection. Such a detection is classified by the
label in its image with the highest IoU, of any category (of equal IoU, one of its own category, then an unmatched one):

| IoU with that label | label of its own category | label of another category |
| --- | --- | --- |
| 0.5 and more | duplicate | classification |
| 0.1 to below 0.5 | localisation | both |
| below 0.1, or no label | background | background |

An unmatched label is missed, unless a classification or localisation error refers to it, as that detection would match
it if fixed. Crowd regions are not labels here and detections matched to them are not errors; neither are detections
beyond the best 100 per image and category, which COCO does not evaluate.

Fixing a classification or localisation error gives the detection the category or box of its label, which it then
matches; of several detections on one label (including one that matched it before) the one with the best score is kept
and the others are removed. Other false detections are removed. A missed label has no score, so it is removed from the
labels. A category without labels then counts as AP50 = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structures import iou, xywh_to_xyxy
from .bootstrap import interpolated_ap
from .coco_eval import IOU_50
from .records import CocoEvaluation, rows_by_image

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MatchTable:
    """All that AP50 depends on: M detections by descending score, ties as pycocotools ranks them, and G labels.

    Attributes:
        rows: int64[M], rows of ``DetectionArrays``.
        category: int64[M].
        label: int64[M], row of ``GroundTruth`` that each one matches, -1 for none.
        counts: bool[M], False for detections that are neither hit nor false alarm.
        label_category: int64[G].
        to_find: bool[G], labels that count.
    """

    rows: Rows
    category: Rows
    label: Rows
    counts: NDArray[np.bool_]
    label_category: Rows
    to_find: NDArray[np.bool_]


def remove_detections(table: MatchTable, detections: Rows, labels: Rows) -> MatchTable:
    """Without these detections."""
    return replace(table, counts=table.counts & ~np.isin(table.rows, detections))


def match_to_labels(table: MatchTable, detections: Rows, labels: Rows) -> MatchTable:
    """With each of these detections matched to its label; of several on one label the best score is kept."""
    label_of = np.full(int(table.rows.max(initial=-1)) + 1, -1, dtype=np.int64)
    label_of[detections] = labels
    at = np.flatnonzero(label_of[table.rows] >= 0)
    label, category = table.label.copy(), table.category.copy()
    label[at] = label_of[table.rows[at]]
    category[at] = table.label_category[label[at]]
    hits = np.flatnonzero(table.counts & (label >= 0))
    best = np.unique(label[hits], return_index=True)[1]
    counts = table.counts.copy()
    counts[np.delete(hits, best)] = False
    return replace(table, category=category, label=label, counts=counts)


def remove_labels(table: MatchTable, detections: Rows, labels: Rows) -> MatchTable:
    """Without these labels."""
    to_find = table.to_find.copy()
    to_find[labels] = False
    return replace(table, to_find=to_find)


@dataclass(frozen=True, slots=True)
class ErrorType:
    """A kind of error: its name, its definition, and the change that fixes its cases."""

    name: str
    description: str
    fix: Callable[[MatchTable, Rows, Rows], MatchTable]


MAIN_ERRORS = (
    ErrorType("classification", "IoU of 0.5 or more with a label, but another class", match_to_labels),
    ErrorType("localisation", "of the right class, but badly placed: IoU 0.1 to 0.5", match_to_labels),
    ErrorType("both", "badly placed and of another class: IoU 0.1 to 0.5", remove_detections),
    ErrorType("duplicate", "another detection on a label that a better one matched", remove_detections),
    ErrorType("background", "no label with an IoU of 0.1 or more", remove_detections),
    ErrorType("missed", "a label without a detection, not even of a wrong class or box", remove_labels),
)
SPECIAL_ERRORS = (
    ErrorType("false_positives", "all detections that match no label", remove_detections),
    ErrorType("false_negatives", "all labels that match no detection", remove_labels),
)


def match_table(evaluated: CocoEvaluation) -> MatchTable:
    """The matches of pycocotools at an IoU of 0.5."""
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    rows = matches.order
    ranked = np.lexsort((rows, found.image[rows], -found.scores[rows]))
    rows, ignored = rows[ranked], matches.ignored[IOU_50, ranked]
    label = np.where(ignored, -1, matches.matched_label[IOU_50, ranked])
    return MatchTable(rows, found.category[rows], label, ~ignored, truth.category, ~truth.crowd)


def ap50_per_category(table: MatchTable, categories: int) -> NDArray[np.float64]:
    """AP50 of each category as pycocotools interpolates it at 101 recalls: float64[K]; NaN without labels."""
    to_find = np.bincount(table.label_category[table.to_find], minlength=categories)
    used = np.flatnonzero(table.counts)
    used = used[np.argsort(table.category[used], kind="stable")]
    starts = np.searchsorted(table.category[used], np.arange(categories + 1))
    result = np.full(categories, np.nan)
    for k in np.flatnonzero(to_find):
        hits = table.label[used[starts[k] : starts[k + 1]]] >= 0
        once = np.ones((1, len(hits)), dtype=np.int32)
        result[k] = interpolated_ap(once, hits[None], np.zeros_like(hits)[None], to_find[k : k + 1])[0, 0]
    return result


FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCases:
    """All errors of one kind, E in total, detections by descending score.

    Attributes:
        kind: which.
        detections: int64[E], rows of ``DetectionArrays``; -1 for missed labels.
        labels: int64[E], rows of ``GroundTruth``, the label that each refers to; -1 where there is none.
        iou: float64[E], of the two; NaN where one is missing.
        gain: float64[K], AP50 of each category with these errors fixed in all categories, minus the original AP50; NaN
            for a category without labels.
    """

    kind: ErrorType
    detections: Rows
    labels: Rows
    iou: NDArray[np.float64]
    gain: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorAnalysis:
    """Errors of an evaluated detector.

    Attributes:
        evaluated: the evaluation.
        ap50: float64[K], pycocotools' AP50 of each category, NaN for one without labels.
        errors: by the name of the kind: the six of ``MAIN_ERRORS``, which share no case, and the two of
            ``SPECIAL_ERRORS``.
    """

    evaluated: CocoEvaluation
    ap50: NDArray[np.float64]
    errors: dict[str, ErrorCases]

    def counts(self, score_threshold: float = 0.0) -> dict[str, Rows]:
        """Errors of each kind and category, int64[K] by kind, of the detections with at least this score.

        A detection counts for its own category, a missed label for the label's. A label also counts as missed where
        only detections below the threshold match it, or would if fixed.
        """
        truth, found = self.evaluated.truth, self.evaluated.found
        taken_by = self.evaluated.matches.matched_detection[IOU_50]
        found_from = np.where(taken_by >= 0, np.append(found.scores, np.nan)[taken_by], -np.inf)
        fixed_from = found_from.copy()
        for name in ("classification", "localisation"):
            np.maximum.at(fixed_from, self.errors[name].labels, found.scores[self.errors[name].detections])
        seen_from = {"missed": fixed_from, "false_negatives": found_from}
        categories = {
            name: truth.category[~truth.crowd & (seen_from[name] < score_threshold)]
            if name in seen_from
            else found.category[errors.detections[found.scores[errors.detections] >= score_threshold]]
            for name, errors in self.errors.items()
        }
        return {name: np.bincount(each, minlength=len(truth.categories)) for name, each in categories.items()}

    def summary(self, score_threshold: float = 0.0) -> dict[str, Any]:
        """Plain JSON values; None where there is nothing to find.

        Args:
            score_threshold: of ``count``, as in ``counts``. Gains are those of AP50 over all scores.

        Returns:
            ``AP50``, ``foreground_iou``, ``background_iou``, ``score_threshold``; ``kinds``: name -> ``description``,
            ``count`` and ``gain``, the mean over the categories with labels; ``per_class``: name -> ``AP50`` and
            ``kinds``: name -> ``count`` and ``gain``. Gains are fractions, for each kind alone; they do not add up.
        """
        counts = self.counts(score_threshold)
        kinds = {name: {"description": errors.kind.description} for name, errors in self.errors.items()}
        return {
            "AP50": _mean(self.ap50),
            "foreground_iou": FOREGROUND_IOU,
            "background_iou": BACKGROUND_IOU,
            "score_threshold": score_threshold,
            "kinds": {name: kinds[name] | costs for name, costs in self._costs(counts, slice(None)).items()},
            "per_class": {
                category: {"AP50": _mean(self.ap50[k : k + 1]), "kinds": self._costs(counts, slice(k, k + 1))}
                for k, category in enumerate(self.evaluated.truth.categories)
            },
        }

    def _costs(self, counts: dict[str, Rows], chosen: slice) -> dict[str, dict[str, Any]]:
        return {
            name: {"count": int(counts[name][chosen].sum()), "gain": _mean(errors.gain[chosen])}
            for name, errors in self.errors.items()
        }


def analyze_errors(evaluated: CocoEvaluation) -> ErrorAnalysis:
    """Classify all errors at an IoU of 0.5, and compute the gain in AP50 of fixing each kind alone."""
    truth = evaluated.truth
    table = match_table(evaluated)
    ap50 = ap50_per_category(table, len(truth.categories))
    false = table.rows[table.counts & (table.label < 0)]
    label, overlap = _nearest(evaluated, false)
    own = evaluated.found.category[false] == np.append(truth.category, -1)[label]
    good, bad = overlap >= FOREGROUND_IOU, overlap < BACKGROUND_IOU
    label, overlap = np.where(bad, -1, label), np.where(bad, np.nan, overlap)
    of_kind = {
        "classification": good & ~own,
        "localisation": ~good & ~bad & own,
        "both": ~good & ~bad & ~own,
        "duplicate": good & own,
        "background": bad,
        "false_positives": np.ones(len(false), dtype=bool),
    }
    cases = {name: (false[chosen], label[chosen], overlap[chosen]) for name, chosen in of_kind.items()}
    unfound = np.flatnonzero(table.to_find & (evaluated.matches.matched_detection[IOU_50] < 0))
    fixable = label[of_kind["classification"] | of_kind["localisation"]]
    for name, labels in (("missed", np.setdiff1d(unfound, fixable)), ("false_negatives", unfound)):
        cases[name] = np.full(len(labels), -1, dtype=np.int64), labels, np.full(len(labels), np.nan)

    errors = {}
    for kind in (*MAIN_ERRORS, *SPECIAL_ERRORS):
        detections, labels, ious = cases[kind.name]
        fixed = ap50_per_category(kind.fix(table, detections, labels), len(truth.categories))
        fixed[np.isnan(fixed) & ~np.isnan(ap50)] = 1
        errors[kind.name] = ErrorCases(kind, detections, labels, ious, fixed - ap50)
    return ErrorAnalysis(evaluated, ap50, errors)


def _nearest(evaluated: CocoEvaluation, detections: Rows) -> tuple[Rows, NDArray[np.float64]]:
    """For each detection the label in its image with the highest IoU, -1 if there is none, and that IoU."""
    truth, found = evaluated.truth, evaluated.found
    gt_xyxy, pred_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    free = evaluated.matches.matched_detection[IOU_50] < 0
    label, overlap = np.full(len(detections), -1, dtype=np.int64), np.zeros(len(detections))
    counted = np.flatnonzero(~truth.crowd)
    labels_of = [counted[places] for places in rows_by_image(truth.image[counted], len(truth.images))]
    places_of = rows_by_image(found.image[detections], len(truth.images))
    for places, labels in zip(places_of, labels_of):
        if not len(places) or not len(labels):
            continue
        rows = detections[places]
        overlaps = iou(pred_xyxy[rows], gt_xyxy[labels])
        best = overlaps.max(axis=1)
        own = found.category[rows][:, None] == truth.category[labels]
        chosen = np.argmax(np.where(overlaps == best[:, None], 1 + 2 * own + free[labels], 0), axis=1)
        label[places], overlap[places] = labels[chosen], best
    return label, overlap


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None
