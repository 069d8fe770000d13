"""Labels that a detector contradicts with confidence: missing, of the wrong class, badly drawn, or found by nothing.

To ask a well calibrated model for errors in its labels is the idea of confident learning (Northcutt et al. 2021), for
boxes that of ObjectLab (Tkachenko et al. 2023); the kinds and scores here are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..boxes import Array, area, intersection, iou, xywh_to_xyxy
from .agreement import confidences, rising_share
from .ap import IOU_50
from .contradictions import IOUS, LOOSELY, Pairs, Reason
from .records import Evaluated, JudgedImage, rows_by_image

REASONS: tuple[Reason, ...] = ("missing", "wrong class", "badly drawn", "not found")

Corners = tuple[float, float, float, float]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubtful label, or one that seems to be missing.

    Attributes:
        reason: "missing": a detection where no label is; "wrong class": a detection of another class on a label;
            "badly drawn": a detection of its class that overlaps it with an IoU of 0.3 to 0.6; "not found": no
            detection reaches an IoU of 0.3 with it, and none of its class covers half of it, whatever the score.
        score: 0 to 1, how sure; see ``find_doubts``.
        image: where it is.
        category, box_xyxy: what the detector proposes, in pixels; the label itself if it was not found.
        detection_score: of the detection that contradicts; None if the label was not found.
        label: row of the truth's annotations; None if the label is missing.
        label_category, label_xyxy: of that label.
        iou: of the proposed box and the label's; None if there is but one.
    """

    reason: Reason
    score: float
    image: JudgedImage
    category: str
    box_xyxy: Corners
    detection_score: float | None = None
    label: int | None = None
    label_category: str | None = None
    label_xyxy: Corners | None = None
    iou: float | None = None


class _Case(NamedTuple):
    """A doubt as rows of ``Found`` and ``Truth``, -1 for none."""

    reason: Reason
    score: float
    detection: int
    label: int


def find_doubts(evaluated: Evaluated, *, least: float = 0.5) -> tuple[Doubt, ...]:
    """All doubts, the surest first; each label is in one of them at most, as is each place that lacks one.

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
        least: score from which on a doubt is told, 0 to 1.
    """
    truth, found = evaluated.truth, evaluated.found
    true_xyxy, found_xyxy = xywh_to_xyxy(truth.boxes_xywh), xywh_to_xyxy(found.boxes_xywh)
    confidence = confidences(evaluated, len(IOUS))
    reached = np.zeros(len(truth.image), dtype=bool)
    cases: list[_Case] = []
    columns = (evaluated.found.image, evaluated.truth.image)
    for detections, labels in zip(*(rows_by_image(each, len(evaluated.truth.images)) for each in columns)):
        shared = intersection(found_xyxy[detections], true_xyxy[labels])
        pairs = Pairs(
            iou(found_xyxy[detections], true_xyxy[labels]),
            _shares(shared, area(true_xyxy[labels])),
            _shares(shared.T, area(found_xyxy[detections])).T,
            found.category[detections][:, None] == truth.category[labels][None, :],
            confidence[:, detections],
            truth.crowd[labels],
        )
        reached[labels] = pairs.reached()
        for d in np.flatnonzero(confidence[0, detections] >= least):
            told = pairs.contradiction(int(d))
            if told is not None:
                label = -1 if told.label is None else int(labels[told.label])
                cases.append(_Case(told.reason, float(told.score), int(detections[d]), label))
    cases += _not_found(evaluated, confidence[0], reached)
    cases = sorted((case for case in cases if case.score >= least), key=lambda case: -case.score)
    return tuple(_doubt(case, evaluated, true_xyxy, found_xyxy) for case in _distinct(cases, found.image, found_xyxy))


def _shares(shared: Array, areas: Array) -> Array:
    return np.asarray(np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0))


def _not_found(evaluated: Evaluated, confidence: Array, reached: NDArray[np.bool_]) -> Iterator[_Case]:
    truth, matched = evaluated.truth, evaluated.matches.detection_of[IOU_50]
    found = (matched >= 0) & (np.append(confidence, 0)[matched] >= 0.5)
    for k in range(len(truth.categories)):
        labels = np.flatnonzero((truth.category == k) & ~truth.crowd)
        usual = rising_share(truth.area[labels], found[labels])
        for label in np.flatnonzero(~reached[labels]):
            yield _Case("not found", float(usual[label]), -1, int(labels[label]))


def _distinct(cases: Iterable[_Case], image: Rows, found_xyxy: Array) -> Iterator[_Case]:
    """The first case of each label, and of each place without one, whatever the class."""
    doubted: set[int] = set()
    places: dict[int, list[int]] = {}
    for case in cases:
        if case.label >= 0:
            if case.label not in doubted:
                doubted.add(case.label)
                yield case
            continue
        others = places.setdefault(int(image[case.detection]), [])
        if not (iou(found_xyxy[[case.detection]], found_xyxy[others]) >= LOOSELY).any():
            others.append(case.detection)
            yield case


def _doubt(case: _Case, evaluated: Evaluated, true_xyxy: Array, found_xyxy: Array) -> Doubt:
    truth, found = evaluated.truth, evaluated.found
    of_label: dict[str, Any] = {}
    if case.label >= 0:
        name = truth.categories[truth.category[case.label]]
        of_label = {"label": case.label, "label_category": name, "label_xyxy": _corners(true_xyxy[case.label])}
    if case.detection < 0:
        image = truth.images[truth.image[case.label]]
        return Doubt(case.reason, case.score, image, name, of_label["label_xyxy"], **of_label)
    box = found_xyxy[case.detection]
    if case.label >= 0:
        of_label["iou"] = float(iou(box[None], true_xyxy[case.label][None])[0, 0])
    image, category = truth.images[found.image[case.detection]], truth.categories[found.category[case.detection]]
    return Doubt(
        case.reason, case.score, image, category, _corners(box), float(found.scores[case.detection]), **of_label
    )


def _corners(box_xyxy: Array) -> Corners:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
