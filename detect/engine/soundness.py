"""Whether data is fit to train on: errors refuse it, all else is told in a line or two."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..audit import check_boxes
from ..audit.borders import SHORT
from ..conversion import audit_sources
from ..errors import DataError
from ..records import Dataset

_MOST_AUDITED = 20_000  # images; looking for copies among more takes minutes, and so each start would


def refuse_errors(dataset: Dataset, path: Path) -> None:
    """Refuse labels that nothing right can be learned from: boxes outside their image, empty or inverted ones.

    Raises:
        DataError: the first of them, and how many there are.
    """
    wrong = [
        finding
        for image in dataset.images
        if image.boxes
        for _, finding in check_boxes(image, path, None)
        if finding.severity == "error"
    ]
    if wrong:
        found = f"{len(wrong):,} error{'s' if len(wrong) > 1 else ''} in the labels, the first is: {wrong[0].message}"
        raise DataError(found, where=path, fix=f"'{_audit_of(path)}' lists all of them")


def warnings_about(train: Path, val: Path | None, images: int, *, offset_told: bool = False) -> list[str]:
    """What an audit warns of, counted by kind, in at most two lines; none where it has nothing to say.

    Args:
        train, val: COCO JSON files, held against each other.
        images: of both.
        offset_told: the training knows that labels lie beside what they mark, so that needs no word.
    """
    others: list[str | Path] = [] if val is None else ["--against", val]
    again = _audit_of(train, *others)
    if images > _MOST_AUDITED:
        return [f"{images:,} images are too many to compare at every start: '{again}' looks for copies and more"]
    report = audit_sources([train], source="coco", against=[] if val is None else [val])
    kinds = Counter(finding.kind for finding in report.findings if finding.severity == "warning")
    if offset_told:
        del kinds[SHORT]
    if not kinds:
        return []
    lines = [f"check this: {kinds.total():,} warnings in the data ({_listed(kinds.most_common())}); see '{again}'"]
    leaks = kinds["duplicate across parts"]
    if leaks:
        told = "1 scene stands" if leaks == 1 else f"{leaks:,} scenes stand"
        lines.append(f"check this: {told} in training and validation: scores will look better than they are")
    return lines


def _audit_of(*arguments: str | Path) -> str:
    return shlex.join(["detect", "audit", *map(str, arguments)])


def _listed(kinds: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{kind}: {number:,}" for kind, number in kinds)
