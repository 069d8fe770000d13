"""Labels that a detector contradicts with confidence: missing, of the wrong class, badly drawn.

To ask a well calibrated model for errors in its labels is the idea of confident learning (Northcutt et al. 2021), for
boxes that of ObjectLab (Tkachenko et al. 2023); the kinds and scores here are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..structures import Array, area, intersection, iou, xywh_to_xyxy
from .coco_eval import IOU_50
from .records import CocoEvaluation, GroundTruthImage, rows_by_image

Floats = NDArray[np.float64]


def match_probabilities(evaluated: CocoEvaluation, thresholds: int = 1) -> Floats:
    """How often detections of a class with a score like each one's match a label: float64[thresholds, D].

    Rows are for IoUs of 0.50, 0.55, ... It is 0 for what isn't judged: detections beyond the best 100 an image and
    category, and those on crowd regions.
    """
    found, matches = evaluated.found, evaluated.matches
    result = np.zeros((thresholds, len(found.scores)))
    category = found.category[matches.order]
    for k in np.unique(category):
        for t in range(thresholds):
            columns = np.flatnonzero((category == k) & ~matches.ignored[t])
            rows = matches.order[columns]
            result[t, rows] = isotonic_fit(found.scores[rows], matches.matched_label[t, columns] >= 0)
    return result


def isotonic_fit(values: Floats, true: NDArray[np.bool_]) -> Floats:
    """The share of what is true at each value, taken to rise with it: float64[N], above 0 and below 1.

    Isotonic regression, as Zadrozny & Elkan (2002) calibrate scores by. Where k of n cases are pooled, it gives
    (k + 1) / (n + 2), after Laplace, so that a few lucky cases aren't taken for certainty.

    Args:
        values: float64[N], finite.
        true: bool[N].
    """
    if not len(values):
        return np.zeros(0)
    place = np.unique(values, return_inverse=True)[1].ravel()
    cases, hits = np.bincount(place), np.bincount(place, weights=true)
    # Neighbours of equal share are never parted; to pool them first leaves some two steps for each hit.
    run = np.concatenate([[0], np.cumsum(np.diff(hits / cases) != 0)])
    pooled: list[tuple[float, float, int]] = []  # cases, hits, runs
    for n, k in zip(np.bincount(run, weights=cases), np.bincount(run, weights=hits)):
        runs = 1
        while pooled and pooled[-1][1] * n >= k * pooled[-1][0]:
            before = pooled.pop()
            n, k, runs = n + before[0], k + before[1], runs + before[2]
        pooled.append((float(n), float(k), runs))
    n_each, k_each, runs_each = (np.array(column) for column in zip(*pooled))
    share = np.maximum.accumulate((k_each + 1) / (n_each + 2))
    return np.asarray(np.repeat(share, runs_each.astype(int))[run][place])


IssueReason = Literal["missing", "wrong class", "badly drawn", "not found"]

LABEL_IOUS = (0.5, 0.55, 0.6)  # at which the confidence in a detection is asked for
MIN_OVERLAP_IOU = 0.3  # IoU from which on two boxes have to do with each other
_GOOD_IOU, _SAME_OBJECT_IOU, _MAX_UNRELATED_IOU = 0.6, 0.5, 0.1  # IoUs
_HALF = 0.5  # of a box, that lies within another


class Disagreement(NamedTuple):
    """Why and how surely a detection contradicts; ``label`` is the column it contradicts, None where none is there."""

    reason: IssueReason
    score: float
    label: int | None


class ImagePairs(NamedTuple):
    """The detections (D) and labels (L) of one image.

    Attributes:
        overlaps: float64[D, L], IoU.
        covered: float64[D, L], share of each label within each detection.
        within: float64[D, L], share of each detection within each label.
        own: bool[D, L], whether both are of one class.
        confidence: float64[3, D], at ``LABEL_IOUS``.
        crowd: bool[L].
    """

    overlaps: Array
    covered: Array
    within: Array
    own: NDArray[np.bool_]
    confidence: Array
    crowd: NDArray[np.bool_]

    def reached(self) -> NDArray[np.bool_]:
        """Which labels some detection finds at least loosely: bool[L]."""
        found = (self.overlaps >= MIN_OVERLAP_IOU) | (self.own & (self.covered >= _HALF))
        return np.asarray(found.any(axis=0))

    def contradiction(self, detection: int) -> Disagreement | None:
        """What one detection has against the labels."""
        overlaps, own = np.where(self.crowd, 0, self.overlaps[detection]), self.own[detection]
        confidence = self.confidence[:, detection]
        nearest, best = _best(np.where(own, overlaps, 0))
        if best >= _GOOD_IOU:
            return None
        if best >= MIN_OVERLAP_IOU:
            better = int(np.searchsorted(LABEL_IOUS, best, side="right"))  # the first IoU above
            return Disagreement("badly drawn", confidence[better] * (1 - self._agrees(nearest, _GOOD_IOU)), nearest)
        nearest, best_other = _best(np.where(own, 0, overlaps))
        if best_other >= _SAME_OBJECT_IOU:
            return Disagreement("wrong class", confidence[0] * (1 - self._agrees(nearest, _SAME_OBJECT_IOU)), nearest)
        in_part = self.within[detection, own | self.crowd].sum() >= _HALF
        over_other = (self.covered[detection, ~self.crowd] >= _HALF).any()
        if max(best, best_other) < _MAX_UNRELATED_IOU and not in_part and not over_other:
            return Disagreement("missing", confidence[0], None)
        return None

    def _agrees(self, label: int, min_iou: float) -> float:
        """Confidence of the best detection that finds a label as it is."""
        there = self.own[:, label] & (self.overlaps[:, label] >= min_iou)
        return float(self.confidence[LABEL_IOUS.index(min_iou), there].max(initial=0))


def _best(overlaps: Array) -> tuple[int, float]:
    place = int(overlaps.argmax()) if len(overlaps) else -1
    return place, float(overlaps[place]) if len(overlaps) else 0.0


ISSUE_REASONS: tuple[IssueReason, ...] = ("missing", "wrong class", "badly drawn", "not found")

Corners = tuple[float, float, float, float]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """One doubtful label, or one that seems to be missing.

    Attributes:
        reason: "missing": a detection where no label is; "wrong class": a detection of another class on a label;
            "badly drawn": a detection of its class that overlaps it with an IoU of 0.3 to 0.6; "not found": no
            detection reaches an IoU of 0.3 with it, and none of its class covers half of it, whatever the score.
        score: 0 to 1, how sure; see ``find_label_issues``.
        image: where it is.
        category, box_xyxy: what the detector proposes, in pixels; the label itself if it was not found.
        detection_score: of the detection that contradicts; None if the label was not found.
        label: row of the truth's annotations; None if the label is missing.
        label_category, label_xyxy: of that label.
        iou: of the proposed box and the label's; None if there is but one.
    """

    reason: IssueReason
    score: float
    image: GroundTruthImage
    category: str
    box_xyxy: Corners
    detection_score: float | None = None
    label: int | None = None
    label_category: str | None = None
    label_xyxy: Corners | None = None
    iou: float | None = None


class _Candidate(NamedTuple):
    """An issue as rows of ``DetectionArrays`` and ``GroundTruth``, -1 for none."""

    reason: IssueReason
    score: float
    detection: int
    label: int


def find_label_issues(evaluated: CocoEvaluation, *, min_score: float = 0.5) -> tuple[LabelIssue, ...]:
    """All issues, the surest first; each label is in one of them at most, as is each place that lacks one.

    A score of 0.9 of one class may be confirmed as often as 0.6 of another. So what counts is how often labels and
    detector agree in cases like this one, on the same data:

    - missing: how often a detection of this class with such a score matches a label at an IoU of 0.5. It is none if an
      IoU reaches 0.1, if half of it lies in labels of its class, or if it covers half of any label.
    - wrong class: the same, times one minus that share for the best detection of the label's own class on it.
    - badly drawn: how often such a detection matches a label with a higher IoU than here (0.5 if that is less), times
      one minus the share for the best detection that agrees with the label at an IoU of 0.6.
    - not found: how often labels of this class are matched by a detection that is confirmed as often as not, as it
      rises with their area. That some detection of low score lies near tells nothing: there is one nearly everywhere.

    Labels that a detector was trained on are hardly ever contradicted: give it detections on images that it has not
    seen, as cross-validation makes them.

    Args:
        evaluated: one run of COCOeval.
        min_score: lowest score of an issue that is reported, 0 to 1.
    """
    truth, found = evaluated.truth, evaluated.found
    gt_xyxy, pred_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    confidence = match_probabilities(evaluated, len(LABEL_IOUS))
    reached = np.zeros(len(truth.image), dtype=bool)
    cases: list[_Candidate] = []
    columns = (evaluated.found.image, evaluated.truth.image)
    for detections, labels in zip(*(rows_by_image(each, len(evaluated.truth.images)) for each in columns)):
        shared = intersection(pred_xyxy[detections], gt_xyxy[labels])
        pairs = ImagePairs(
            iou(pred_xyxy[detections], gt_xyxy[labels]),
            _shares(shared, area(gt_xyxy[labels])),
            _shares(shared.T, area(pred_xyxy[detections])).T,
            found.category[detections][:, None] == truth.category[labels][None, :],
            confidence[:, detections],
            truth.crowd[labels],
        )
        reached[labels] = pairs.reached()
        for d in np.flatnonzero(confidence[0, detections] >= min_score):
            told = pairs.contradiction(int(d))
            if told is not None:
                label = -1 if told.label is None else int(labels[told.label])
                cases.append(_Candidate(told.reason, float(told.score), int(detections[d]), label))
    cases += _not_found(evaluated, confidence[0], reached)
    cases = sorted((case for case in cases if case.score >= min_score), key=lambda case: -case.score)
    return tuple(
        _label_issue(case, evaluated, gt_xyxy, pred_xyxy) for case in _deduplicate(cases, found.image, pred_xyxy)
    )


def _shares(shared: Array, areas: Array) -> Array:
    return np.asarray(np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0))


def _not_found(evaluated: CocoEvaluation, confidence: Array, reached: NDArray[np.bool_]) -> Iterator[_Candidate]:
    truth, matched = evaluated.truth, evaluated.matches.matched_detection[IOU_50]
    found = (matched >= 0) & (np.append(confidence, 0)[matched] >= 0.5)
    for k in range(len(truth.categories)):
        labels = np.flatnonzero((truth.category == k) & ~truth.crowd)
        usual = isotonic_fit(truth.area[labels], found[labels])
        for label in np.flatnonzero(~reached[labels]):
            yield _Candidate("not found", float(usual[label]), -1, int(labels[label]))


def _deduplicate(cases: Iterable[_Candidate], image: Rows, pred_xyxy: Array) -> Iterator[_Candidate]:
    """The first case of each label, and of each place without one, whatever the class."""
    with_issue: set[int] = set()
    places: dict[int, list[int]] = {}
    for case in cases:
        if case.label >= 0:
            if case.label not in with_issue:
                with_issue.add(case.label)
                yield case
            continue
        others = places.setdefault(int(image[case.detection]), [])
        if not (iou(pred_xyxy[[case.detection]], pred_xyxy[others]) >= MIN_OVERLAP_IOU).any():
            others.append(case.detection)
            yield case


def _label_issue(case: _Candidate, evaluated: CocoEvaluation, gt_xyxy: Array, pred_xyxy: Array) -> LabelIssue:
    truth, found = evaluated.truth, evaluated.found
    of_label: dict[str, Any] = {}
    if case.label >= 0:
        name = truth.categories[truth.category[case.label]]
        of_label = {"label": case.label, "label_category": name, "label_xyxy": _corners(gt_xyxy[case.label])}
    if case.detection < 0:
        image = truth.images[truth.image[case.label]]
        return LabelIssue(case.reason, case.score, image, name, of_label["label_xyxy"], **of_label)
    box = pred_xyxy[case.detection]
    if case.label >= 0:
        of_label["iou"] = float(iou(box[None], gt_xyxy[case.label][None])[0, 0])
    image, category = truth.images[found.image[case.detection]], truth.categories[found.category[case.detection]]
    return LabelIssue(
        case.reason, case.score, image, category, _corners(box), float(found.scores[case.detection]), **of_label
    )


def _corners(box_xyxy: Array) -> Corners:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
