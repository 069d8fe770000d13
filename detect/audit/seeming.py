"""Findings about what no single file tells: labels that look missing, parts that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..records import Finding, Image
from .missing import Missing
from .naming import rarely_empty, without_named_class
from .shifts import Shift

MISSING, DIFFER = "label looks missing", "parts differ"


def check_missing(missing: Sequence[Missing], images: Sequence[Image], label_files: Sequence[Path]) -> list[Finding]:
    """A warning for each label that another picture of the same place has."""
    findings = []
    for each in missing:
        image, other = images[each.image], images[each.other]
        if each.source == "copy":
            why = f"{other.path.name} shows the same and has one"
        else:
            why = (
                f"{each.labelled} of the {each.seen} frames that show the place have one, {other.path.name} for example"
            )
        x1, y1, x2, y2 = each.box.xyxy
        place = f"x {x1:.0f} to {x2:.0f}, y {y1:.0f} to {y2:.0f}"
        message = f"{image.path.name} has no box at {place}, but {why} ({each.box.label}); look at both"
        boxes = (each.box.xyxy,)
        label_file = label_files[each.image]
        findings.append(Finding(MISSING, "warning", label_file, message, (other.path,), image.path, boxes))
    return findings


def check_habits(images: Sequence[Image], label_files: Sequence[Path], categories: Sequence[str]) -> list[Finding]:
    """A warning for each image that breaks a habit of the data: to have the class it is named after, to have any."""
    findings = []
    empty = rarely_empty(images)
    for i in empty:
        path = images[i].path
        told = "this one" if len(empty) == 1 else f"{len(empty)}"
        message = (
            f"{path.name} has no object, as only {told} of {len(images):,} images; look whether labels are missing"
        )
        findings.append(Finding(MISSING, "warning", label_files[i], message, image=path))
    for i, name in without_named_class(images, categories):
        if i not in empty:
            path = images[i].path
            message = f"{path.name} has no box of {name}, the class it is named after, as nearly all others have; look"
            findings.append(Finding(MISSING, "warning", label_files[i], message, image=path))
    return findings


def check_shifts(shifts: Sequence[Shift], places: Mapping[str, Path]) -> list[Finding]:
    """A warning for each difference between parts that chance does not explain.

    Args:
        shifts: all comparisons.
        places: the label file or folder of each part.
    """
    findings = []
    for shift in shifts:
        if shift.significant:
            one, other = (places.get(part) for part in shift.parts)
            assert one is not None, "the first of a comparison is always a part"
            message = f"{shift.sentence()}; a score in one does not carry over to the other"
            findings.append(Finding(DIFFER, "warning", one, message, () if other is None else (other,)))
    return findings
