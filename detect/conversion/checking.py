"""Everything that the sources hold, checked once, with what has errors set aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from .. import audit
from ..audit import Fingerprint, LeftOut, Link, Twins
from ..errors import DataError
from ..formats import FORMATS, Entry, recognise
from ..images import SUFFIXES
from ..records import Finding, Image
from .strips import apart, scenes

Difficult = Literal["keep", "ignore", "drop"]
_STRANGERS = 12  # pairs just below the line that are told


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries without what is wrong in them, and everything that was found; ``data_sets`` numbers that of each."""

    source: str
    entries: list[Entry]
    categories: tuple[str, ...]
    findings: list[Finding]
    left_out: list[LeftOut]
    prints: list[Fingerprint]
    data_sets: list[int]
    twins: list[Twins]
    strangers: list[Link]

    @property
    def images(self) -> list[Image]:
        """Those of the entries."""
        return [entry.image for entry in self.entries]


def check(
    sources: Sequence[Path],
    source: str | None,
    categories: Sequence[str] | None,
    difficult: Difficult,
    *,
    others: Sequence[Path] = (),
) -> Checked:
    """Read everything, look at every pixel and box once, and set aside what has errors.

    Args:
        sources: read together as one data set.
        source: its format; None looks at the sources.
        categories: the classes in the order of their ids; None takes all, in alphabetical order.
        difficult: what becomes of objects flagged so.
        others: further data sets, each read by itself, in whatever format.
    """
    looks = [_look(sources, source, categories, difficult), *(_look([o], None, categories, difficult) for o in others)]
    entries, findings, left_out, prints = (list(chain(*each)) for each in zip(*(look[1:5] for look in looks)))
    used = {box.label for entry in entries for box in entry.image.boxes}
    names = _known(categories) or tuple(sorted({*chain(*(look.categories for look in looks)), *used}))
    if entries:
        findings += audit.check_names(names, entries[0].label_file)
        findings += audit.check_drafts([(entry.image, entry.label_file) for entry in entries])
    images = [entry.image for entry in entries]
    twins, strangers = audit.compare_all(prints, strangers=_STRANGERS)
    twins, strangers = scenes(twins, images), [link for link in strangers if apart(link, images)]
    data_sets = [number for number, look in enumerate(looks) for _ in look.entries]
    return Checked(looks[0].source, entries, names, findings, left_out, prints, data_sets, twins, strangers)


class _Look(NamedTuple):
    """One data set."""

    source: str
    entries: list[Entry]
    findings: list[Finding]
    left_out: list[LeftOut]
    prints: list[Fingerprint]
    categories: tuple[str, ...]


def _look(sources: Sequence[Path], source: str | None, categories: Sequence[str] | None, difficult: Difficult) -> _Look:
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
    findings += audit.check_depth([entry.image for entry in entries], prints)
    findings += audit.check_orientation([entry.image for entry in entries], prints)
    return _Look(name, entries, findings, left_out, prints, reading.categories)


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
