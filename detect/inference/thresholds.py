"""thresholds.json: score threshold and calibration per category, chosen for the weights in the same folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError
from ..fileio import read_json, sha256_of, write_json
from ..structures import Detections

FILE_NAME = "thresholds.json"
SCHEMA = 1
_REFIT_HINT = "choose them again with detect evaluate --costs"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Score thresholds and calibration per category, as read from a thresholds.json.

    Attributes:
        path: the file.
        per_class: category -> minimum score of a reported detection, after calibration if there is one.
        calibration: category -> (temperature, shift) of its log-odds; empty if scores are not calibrated.
        weights_sha256: of the checkpoint that they were chosen for; None if they were chosen for a detections file.
    """

    path: Path
    per_class: Mapping[str, float]
    calibration: Mapping[str, tuple[float, float]]
    weights_sha256: str | None

    def match_weights(self, weights: Path) -> bool:
        """Return whether they were chosen for this checkpoint."""
        return self.weights_sha256 is not None and self.weights_sha256 == sha256_of(weights)

    def calibrated(self, detections: Detections) -> Detections:
        """Return the detections with calibrated scores, best first; unchanged if there is no calibration.

        Raises:
            DataError: the file lacks a category.
        """
        if not self.calibration:
            return detections
        from ..evaluation.calibration import apply_calibration  # it imports the libraries of the evaluation

        scores = detections.scores.astype(np.float64)
        for label in np.unique(detections.labels):
            of_class = detections.labels == label
            parameters = self._of(self.calibration, detections.categories[label - 1])
            scores[of_class] = apply_calibration(scores[of_class], *parameters)
        order = np.argsort(-scores, kind="stable")
        calibrated = scores[order].astype(np.float32)
        return Detections(detections.boxes_xyxy[order], calibrated, detections.labels[order], detections.categories)

    def apply(self, detections: Detections) -> Detections:
        """Return the detections that reach their threshold; pass calibrated scores if there is a calibration.

        Raises:
            DataError: the file lacks a category.
        """
        min_scores = np.array([self._of(self.per_class, name) for name in detections.categories], dtype=np.float32)
        keep = detections.scores >= min_scores[detections.labels - 1]
        return Detections(
            detections.boxes_xyxy[keep], detections.scores[keep], detections.labels[keep], detections.categories
        )

    def in_words(self) -> str:
        """Return text such as "scratches 0.31, patches 0.2"."""
        return ", ".join(f"{name} {threshold:.2g}" for name, threshold in self.per_class.items())

    def _of(self, values: Mapping[str, _Value], name: str) -> _Value:
        if name not in values:
            raise DataError(f"there is no threshold for '{name}'", where=self.path, fix=_REFIT_HINT)
        return values[name]


def thresholds_for_weights(weights: Path) -> Thresholds | None:
    """Read thresholds.json in the folder of a checkpoint; None if there is no such file.

    Raises:
        DataError: the file was not written by this version.
    """
    path = weights.parent / FILE_NAME
    return read_thresholds(path) if path.is_file() else None


def read_thresholds(path: Path) -> Thresholds:
    """Read a file that ``write_thresholds`` wrote.

    Raises:
        DataError: the file can't be read, has another schema version, or holds an invalid value.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"can't read the thresholds ({error.strerror})", where=path, fix="check the path") from None
    except ValueError as error:
        raise DataError(f"the file is not valid JSON ({error})", where=path, fix=_REFIT_HINT) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise DataError(
            f"the thresholds have schema {schema!r:.40}, this version reads {SCHEMA}", where=path, fix=_REFIT_HINT
        )
    try:
        per_class = {str(name): float(value) for name, value in content["thresholds"].items()}
        fitted = (content["calibration"] or {"per_class": {}})["per_class"]
        calibration = {str(name): (float(e["temperature"]), float(e["shift"])) for name, e in fitted.items()}
        weights = content["made"].get("weights")
        sha256 = None if weights is None else str(weights["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DataError("the file holds no thresholds of this library", where=path, fix=_REFIT_HINT) from None
    for name, value in per_class.items():
        if not 0 <= value <= 1:
            raise DataError(f"the threshold of '{name}' is {value}", where=path, fix="give a score from 0 to 1")
    for name, (temperature, shift) in calibration.items():
        if not (0 < temperature < math.inf and math.isfinite(shift)):
            message = f"the calibration of '{name}' is not a temperature above 0 and a finite shift"
            raise DataError(message, where=path, fix=_REFIT_HINT)
    return Thresholds(path, per_class, calibration, sha256)


def write_thresholds(path: Path, content: Mapping[str, Any]) -> None:
    """Write thresholds and the information about their origin, atomically.

    Args:
        path: the file.
        content: plain JSON values: ``thresholds``, category -> score; ``calibration``, None or ``per_class``:
            category -> ``temperature`` and ``shift``; ``made``: their origin, with ``weights`` and its ``sha256`` if
            they were chosen for a detector; further keys are written unchanged.

    Raises:
        DataError: the folder can't be written to.
    """
    try:
        write_json(path, {"schema": SCHEMA, **content}, indent=1)
    except OSError as error:
        message = f"the thresholds can't be written ({error.strerror})"
        raise DataError(message, where=path, fix="choose a folder that can be written to") from None
