"""Everything that the sources hold, checked once, with what has errors set aside."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from .. import audit
from ..audit import Fingerprint, LeftOut, Link, Twins
from ..errors import DataError
from ..formats import FORMATS, Entry, Reading, ReadOptions, recognise
from ..formats.reading import DEFAULTS, IN_NO_PART, clip_to_image, upright
from ..images import SUFFIXES
from ..records import Finding, Image
from .strips import apart, scenes

Difficult = Literal["keep", "ignore", "drop"]
NO_BOXES = "no boxes"  # the kind of an error that concerns the whole data set
_STRANGERS = 12  # pairs just below the line that are told


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries without what is wrong in them, and everything that was found.

    Attributes:
        source: name of the format.
        divided: whether the parts of the entries are the source's own division.
        data_sets: number of the data set of each entry.
    """

    source: str
    divided: bool
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
    options: ReadOptions = DEFAULTS,
    *,
    clip: bool = False,
    others: Sequence[Path] = (),
) -> Checked:
    """Read everything, look at every pixel and box once, and set aside what has errors.

    Args:
        sources: read together as one data set.
        source: its format; None looks at the sources.
        categories: the classes in the order of their ids; None takes all, in alphabetical order.
        difficult: what becomes of objects flagged so.
        options: of reading.
        clip: cut boxes that stick out of their image by any distance, not only by up to 1 pixel or 1 %.
        others: further data sets, each read by itself, in whatever format.
    """
    known = _known(categories)
    options = dataclasses.replace(options, categories=known)
    looks = [_look(sources, source, known, difficult, options, clip)]
    looks += [_look([other], None, known, difficult, options, clip) for other in others]
    entries, findings, left_out, prints = (list(chain(*each)) for each in zip(*(look[2:6] for look in looks)))
    used = {box.label for entry in entries for box in entry.image.boxes}
    names = known or tuple(sorted({*chain(*(look.categories for look in looks)), *used}))
    if entries:
        findings += audit.check_names(names, entries[0].label_file)
        findings += audit.check_drafts([(entry.image, entry.label_file) for entry in entries])
    images = [entry.image for entry in entries]
    twins, strangers = audit.compare_all(prints, strangers=_STRANGERS)
    twins, strangers = scenes(twins, images), [link for link in strangers if apart(link, images)]
    data_sets = [number for number, look in enumerate(looks) for _ in look.entries]
    first = looks[0]
    return Checked(first.source, first.divided, entries, names, findings, left_out, prints, data_sets, twins, strangers)


class _Look(NamedTuple):
    """One data set."""

    source: str
    divided: bool
    entries: list[Entry]
    findings: list[Finding]
    left_out: list[LeftOut]
    prints: list[Fingerprint]
    categories: tuple[str, ...]


def _look(
    sources: Sequence[Path],
    source: str | None,
    known: tuple[str, ...] | None,
    difficult: Difficult,
    options: ReadOptions,
    clip: bool,
) -> _Look:
    name = source if source is not None else recognise(sources)
    if name not in FORMATS:
        raise DataError(f"there is no format {name!r} to read", fix=f"choose one of {', '.join(FORMATS)}")
    reading = FORMATS[name].scan(sources, options)
    findings, left_out = list(reading.findings), _left_out_by(reading.findings)
    broken = Counter(f.image for f in reading.findings if f.severity == "error" and f.image is not None)

    entries: list[Entry] = []
    prints: list[audit.Fingerprint] = []
    cut: list[Path] = []
    for entry, seen in zip(reading.entries, audit.fingerprints([e.image.path for e in reading.entries])):
        if isinstance(seen, DataError):
            findings.append(audit.unreadable(entry.image.path, seen))
            left_out.append(LeftOut("image", entry.image.path, seen.found))
            continue
        image = upright(entry.image) if options.ignores_orientation else entry.image
        image, number = clip_to_image(image, any_distance=clip)
        cut += [image.path] * number
        about_boxes = audit.check_boxes(image, entry.label_file, known)
        findings += [finding for _, finding in about_boxes]
        wrong = {i: finding.message for i, finding in about_boxes if finding.severity == "error"}
        left_out += [LeftOut("box", entry.label_file, message) for message in wrong.values()]
        faults = len(wrong) + broken[image.path]
        if faults:
            # Kept without these objects, the image would teach that there is no defect where one is.
            are = "1 of its objects has an error" if faults == 1 else f"{faults} of its objects have errors"
            left_out.append(LeftOut("image", image.path, are))
            continue
        findings += audit.check_no_objects(image, entry.label_file)
        boxes = list(image.boxes)
        if difficult == "drop":
            hard = sum(box.difficult for box in boxes)
            left_out += [LeftOut("box", entry.label_file, f"flagged as difficult in {image.path.name}")] * hard
            boxes = [box for box in boxes if not box.difficult]
        elif difficult == "ignore":
            boxes = [dataclasses.replace(box, crowd=box.crowd or box.difficult) for box in boxes]
        kept = dataclasses.replace(image, boxes=tuple(boxes))
        entries.append(dataclasses.replace(entry, image=kept))
        prints.append(seen)
    findings += [*_about_clipped(cut), *audit.check_depth([entry.image for entry in entries], prints)]
    findings += audit.check_orientation([entry.image for entry in entries], prints)
    if not options.allow_empty:
        findings += _no_box(sources, reading)
    return _Look(name, reading.divided, entries, findings, left_out, prints, reading.categories)


def _about_clipped(paths: Sequence[Path]) -> list[Finding]:
    if not paths:
        return []
    images = list(dict.fromkeys(paths))
    boxes = "1 box" if len(paths) == 1 else f"{len(paths):,} boxes"
    of = images[0].name if len(images) == 1 else f"{len(images):,} images"
    message = f"{boxes} of {of} reached out of the image by a little and were clipped at its border"
    return [Finding("boxes clipped", "note", images[0], message, images[1:])]


def _no_box(sources: Sequence[Path], reading: Reading) -> list[Finding]:
    """An error if there are images and none has a box, with the likely cause."""
    if not reading.entries or any(entry.image.boxes for entry in reading.entries):
        return []
    if any(finding.kind == "broken object" for finding in reading.findings):
        return []  # there are boxes, and it has been said what is wrong with them
    bare = sum(entry.label_file == entry.image.path for entry in reading.entries)
    if bare == len(reading.entries):
        cause = "no label file was found for any of them; name the folder of the labels, too"
    elif bare:
        cause = f"{bare:,} have no label file, and the label files of the others are empty; check that these are all"
    else:
        cause = "their labels are empty; check that these are the files that were labelled"
    message = f"none of the {len(reading.entries):,} images has a box: {cause}, or go on with --allow-empty"
    return [Finding(NO_BOXES, "error", sources[0], message)]


def _known(categories: Sequence[str] | None) -> tuple[str, ...] | None:
    if categories is None:
        return None
    if not categories or not all(name.strip() for name in categories):
        raise DataError("the list of categories has an empty name", fix="give each class a name")
    if len(set(categories)) < len(categories):
        raise DataError(f"the list of categories, {', '.join(categories)}, names one twice", fix="name each once")
    return tuple(categories)


def _left_out_by(findings: Sequence[Finding]) -> list[LeftOut]:
    """Reading's errors: a broken object costs a box, all others the files they concern; and images in no part."""
    left_out: list[LeftOut] = []
    for finding in findings:
        if finding.severity != "error" and finding.kind != IN_NO_PART:
            continue
        if finding.kind == "broken object":
            left_out.append(LeftOut("box", finding.path, finding.message))
            continue
        for path in (finding.path, *finding.others):
            is_image = path.suffix.lower() in SUFFIXES
            left_out.append(LeftOut("image" if is_image else "label file", path, finding.message))
    return left_out
