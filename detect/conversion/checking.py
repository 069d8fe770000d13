"""Everything that the sources hold, checked once, with what has errors set aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import audit
from ..audit import LeftOut, Twins
from ..errors import DataError
from ..formats import FORMATS, Entry, recognise
from ..images import SUFFIXES
from ..records import Finding
from .strips import scenes

Difficult = Literal["keep", "ignore", "drop"]


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries without what is wrong in them, and everything that was found."""

    source: str
    entries: list[Entry]
    categories: tuple[str, ...]
    findings: list[Finding]
    left_out: list[LeftOut]
    twins: list[Twins]


def check(
    sources: Sequence[Path], source: str | None, categories: Sequence[str] | None, difficult: Difficult
) -> Checked:
    """Read everything, look at every pixel and box once, and set aside what has errors."""
    name = source if source is not None else recognise(sources)
    if name not in FORMATS:
        raise DataError(f"there is no format {name!r} to read", fix=f"choose one of {', '.join(FORMATS)}")
    known = _known(categories)
    reading = FORMATS[name].scan(sources)
    findings, left_out = list(reading.findings), _left_out_by(reading.findings)
    broken = {finding.path for finding in reading.findings if finding.kind == "broken object"}

    entries: list[Entry] = []
    prints: list[audit.Fingerprint] = []
    for entry, seen in zip(reading.entries, audit.fingerprints([e.image.path for e in reading.entries])):
        image = entry.image
        if isinstance(seen, DataError):
            findings.append(audit.unreadable(image.path, seen))
            left_out.append(LeftOut("image", image.path, seen.found))
            continue
        about_boxes = audit.check_boxes(image, entry.label_file, known)
        findings += [finding for _, finding in about_boxes]
        if entry.label_file not in broken:
            findings += audit.check_no_objects(image, entry.label_file)
        wrong = {i: finding.message for i, finding in about_boxes if finding.severity == "error"}
        left_out += [LeftOut("box", entry.label_file, message) for message in wrong.values()]
        boxes = [box for i, box in enumerate(image.boxes) if i not in wrong]
        if not boxes and (wrong or entry.label_file in broken):
            # Kept without its boxes, it would teach that there is no defect in it.
            left_out.append(LeftOut("image", image.path, "none of its boxes is usable"))
            continue
        if difficult == "drop":
            hard = sum(box.difficult for box in boxes)
            left_out += [LeftOut("box", entry.label_file, f"flagged as difficult in {image.path.name}")] * hard
            boxes = [box for box in boxes if not box.difficult]
        elif difficult == "ignore":
            boxes = [dataclasses.replace(box, crowd=box.crowd or box.difficult) for box in boxes]
        kept = dataclasses.replace(image, boxes=tuple(boxes))
        entries.append(dataclasses.replace(entry, image=kept))
        prints.append(seen)

    used = {box.label for entry in entries for box in entry.image.boxes}
    names = known or tuple(sorted({*reading.categories, *used}))
    if entries:
        findings += audit.check_names(names, entries[0].label_file)
        findings += audit.check_drafts([(entry.image, entry.label_file) for entry in entries])
    twins = scenes(audit.find_twins(prints), [entry.image for entry in entries])
    return Checked(name, entries, names, findings, left_out, twins)


def _known(categories: Sequence[str] | None) -> tuple[str, ...] | None:
    if categories is None:
        return None
    if not categories or not all(name.strip() for name in categories):
        raise DataError("the list of categories has an empty name", fix="give each class a name")
    if len(set(categories)) < len(categories):
        raise DataError(f"the list of categories, {', '.join(categories)}, names one twice", fix="name each once")
    return tuple(categories)


def _left_out_by(findings: Sequence[Finding]) -> list[LeftOut]:
    """Reading's errors: a broken object costs a box, all others the files they concern."""
    left_out: list[LeftOut] = []
    for finding in findings:
        if finding.severity != "error":
            continue
        if finding.kind == "broken object":
            left_out.append(LeftOut("box", finding.path, finding.message))
            continue
        for path in (finding.path, *finding.others):
            is_image = path.suffix.lower() in SUFFIXES
            left_out.append(LeftOut("image" if is_image else "label file", path, finding.message))
    return left_out
