"""thresholds.json: the score from which on a category counts, chosen for the weights beside it, and its calibration."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError
from ..fileio import read_json, write_json
from ..structures import Detections

FILE_NAME = "thresholds.json"
SCHEMA = 1
_REFIT_HINT = "choose them again with detect evaluate --costs"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a thresholds.json says to those who detect.

    Attributes:
        path: the file.
        per_class: category -> lowest score that counts, after calibration where there is one.
        calibration: category -> (temperature, shift) of its log-odds; empty where scores stay as they are.
        weights_sha256: of the checkpoint that they were chosen for; None where it was anyone's detections.
    """

    path: Path
    per_class: Mapping[str, float]
    calibration: Mapping[str, tuple[float, float]]
    weights_sha256: str | None

    def match_weights(self, weights: Path) -> bool:
        """Whether they were chosen for this checkpoint."""
        return self.weights_sha256 is not None and self.weights_sha256 == sha256_of(weights)

    def calibrated(self, found: Detections) -> Detections:
        """The detections with calibrated scores, best first; unchanged where there is no calibration.

        Raises:
            DataError: a category that the file doesn't know.
        """
        if not self.calibration:
            return found
        from ..evaluation.calibration import apply_calibration  # the judge's libraries are loaded only where needed

        scores = found.scores.astype(np.float64)
        for label in np.unique(found.labels):
            mine = found.labels == label
            scores[mine] = apply_calibration(scores[mine], *self._of(self.calibration, found.categories[label - 1]))
        order = np.argsort(-scores, kind="stable")
        new = scores[order].astype(np.float32)
        return Detections(found.boxes_xyxy[order], new, found.labels[order], found.categories)

    def apply(self, found: Detections) -> Detections:
        """Those of the detections, calibrated before if there is a calibration, that reach their threshold.

        Raises:
            DataError: a category that the file doesn't know.
        """
        lowest = np.array([self._of(self.per_class, name) for name in found.categories], dtype=np.float32)
        keep = found.scores >= lowest[found.labels - 1]
        return Detections(found.boxes_xyxy[keep], found.scores[keep], found.labels[keep], found.categories)

    def in_words(self) -> str:
        """ "scratches 0.31, patches 0.2"."""
        return ", ".join(f"{name} {threshold:.2g}" for name, threshold in self.per_class.items())

    def _of(self, values: Mapping[str, _Value], name: str) -> _Value:
        if name not in values:
            raise DataError(f"there is no threshold for '{name}'", where=self.path, fix=_REFIT_HINT)
        return values[name]


def thresholds_for_weights(weights: Path) -> Thresholds | None:
    """The thresholds in the folder of a checkpoint; None where there are none.

    Raises:
        DataError: a file that this version didn't write.
    """
    path = weights.parent / FILE_NAME
    return read_thresholds(path) if path.is_file() else None


def read_thresholds(path: Path) -> Thresholds:
    """Read a file that ``write_thresholds`` wrote.

    Raises:
        DataError: it can't be read, has another schema, or holds what is no threshold.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"can't read the thresholds ({error.strerror})", where=path, fix="check the path") from None
    except ValueError as error:
        raise DataError(f"the file is not valid JSON ({error})", where=path, fix=_REFIT_HINT) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        there = content.get("schema") if isinstance(content, dict) else None
        raise DataError(
            f"the thresholds have schema {there!r:.40}, this version reads {SCHEMA}", where=path, fix=_REFIT_HINT
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
            found = f"the calibration of '{name}' is no temperature above 0 and shift"
            raise DataError(found, where=path, fix=_REFIT_HINT)
    return Thresholds(path, per_class, calibration, sha256)


def write_thresholds(path: Path, content: Mapping[str, Any]) -> None:
    """Write thresholds with all that is known of them, whole or not at all.

    Args:
        path: the file.
        content: plain JSON values: ``thresholds``, category -> score; ``calibration``, None or ``per_class``:
            category -> ``temperature`` and ``shift``; ``made``: where they come from, ``weights`` with ``sha256``
            where a detector ran; and whatever else there is to tell.

    Raises:
        DataError: the folder can't be written to.
    """
    try:
        write_json(path, {"schema": SCHEMA, **content}, indent=1)
    except OSError as error:
        found = f"the thresholds can't be written ({error.strerror})"
        raise DataError(found, where=path, fix="choose a folder that can be written to") from None


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
