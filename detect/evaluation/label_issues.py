"""Label issues: labels that a detector contradicts with confidence, as missing, of the wrong class or badly drawn.

The idea is that of confident learning (Northcutt et al. 2021), for boxes that of ObjectLab (Tkachenko et al. 2023); the
kinds and scores are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ..structures import Array, area, intersection, iou, xywh_to_xyxy
from .coco_eval import IOU_50
from .records import CocoEvaluation, GroundTruthImage, rows_by_image

Floats = NDArray[np.float64]


def match_probabilities(evaluated: CocoEvaluation, thresholds: int = 1) -> Floats:
    """The rate at which detections of each one's class and score match a label: float64[thresholds, D].

    Rows are for IoUs of 0.50, 0.55, ... It is 0 for detections that are not evaluated: those beyond the best 100 per
    image and category, and those on crowd regions.
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
    """The share of true cases as a non-decreasing function of a value: float64[N], above 0 and below 1.

    Isotonic regression, as in the calibration of Zadrozny & Elkan (2002). A pool of n cases with k true ones gives
    (k + 1) / (n + 2), after Laplace, so that a few cases do not give certainty.

    Args:
        values: float64[N], finite.
        true: bool[N].
    """
    if not len(values):
        return np.zeros(0)
    place = np.unique(values, return_inverse=True)[1].ravel()
    cases, hits = np.bincount(place), np.bincount(place, weights=true)
    fit = isotonic_regression(hits / cases, weights=cases)
    hits_per_block = np.add.reduceat(hits, fit.blocks[:-1])
    share = np.maximum.accumulate((hits_per_block + 1) / (fit.weights + 2))
    return np.asarray(np.repeat(share, np.diff(fit.blocks))[place])


IssueReason = Literal["missing", "wrong class", "badly drawn", "not found"]

LABEL_IOUS = (0.5, 0.55, 0.6)  # of the match probabilities
MIN_OVERLAP_IOU = 0.3  # from which two boxes count as overlapping
_GOOD_IOU, _SAME_OBJECT_IOU, _MAX_UNRELATED_IOU = 0.6, 0.5, 0.1  # IoUs
_HALF = 0.5  # share of a box inside another


class Disagreement(NamedTuple):
    """Reason and probability of a contradiction; ``label`` is the column of the label, None where there is none."""

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
        """Which labels any detection overlaps, even loosely: bool[L]."""
        found = (self.overlaps >= MIN_OVERLAP_IOU) | (self.own & (self.covered >= _HALF))
        return np.asarray(found.any(axis=0))

    def contradiction(self, detection: int) -> Disagreement | None:
        """The contradiction between one detection and the labels, if there is one."""
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
        """Match probability of the best detection of the label's class with at least this IoU."""
        agreeing = self.own[:, label] & (self.overlaps[:, label] >= min_iou)
        return float(self.confidence[LABEL_IOUS.index(min_iou), agreeing].max(initial=0))


def _best(overlaps: Array) -> tuple[int, float]:
    place = int(overlaps.argmax()) if len(overlaps) else -1
    return place, float(overlaps[place]) if len(overlaps) else 0.0


ISSUE_REASONS: tuple[IssueReason, ...] = get_args(IssueReason)

Corners = tuple[float, float, float, float]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """One label that is probably wrong, or one that is probably missing.

    Attributes:
        reason: "missing": a detection where no label is; "wrong class": a detection of another class on a label;
            "badly drawn": a detection of its class that overlaps it with an IoU of 0.3 to 0.6; "not found": no
            detection reaches an IoU of 0.3 with it, and none of its class covers half of it, whatever the score.
        score: 0 to 1, the probability of an error; see ``find_label_issues``.
        image: of the label.
        category, box_xyxy: class and box of the detection, in pixels; of the label itself if it was not found.
        detection_score: of the detection that contradicts; None if the label was not found.
        label: row of the truth's annotations; None if the label is missing.
        label_category, label_xyxy: of that label.
        iou: of the box and the label; None if there is only one of them.
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
    """All issues, the most probable first; at most one per label and one per place without a label.

    A score of 0.9 of one class may be correct as often as 0.6 of another. The score of an issue is therefore the rate
    at which labels and detector agree in similar cases on the same data:

    - missing: the rate at which detections of this class and score match a label at an IoU of 0.5. There is no such
      issue if any IoU is 0.1 or more, if half of the detection is inside labels of its class, or if it covers half of
      any label.
    - wrong class: the same, times one minus that share for the best detection of the label's own class on it.
    - badly drawn: the rate at which such detections match a label with a higher IoU than here (at least 0.5), times
      one minus the share for the best detection that agrees with the label at an IoU of 0.6.
    - not found: the rate at which labels of this class and area are matched by a detection with a match probability of
      0.5 or more. Detections of low score near the label do not count: there is one nearly everywhere.

    A detector rarely contradicts labels that it was trained on: use detections on other images, as cross-validation
    gives them.

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
            issue = pairs.contradiction(int(d))
            if issue is not None:
                label = -1 if issue.label is None else int(labels[issue.label])
                cases.append(_Candidate(issue.reason, float(issue.score), int(detections[d]), label))
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
    """The first case of each label and of each place without a label, whatever the class."""
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
