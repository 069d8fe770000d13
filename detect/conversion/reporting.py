"""What an audit says of checked data, divided in some way."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import audit
from ..audit import AuditReport, LeftOut, Part
from ..formats import Entry
from ..records import Finding
from .checking import Checked
from .strips import frames_by_strip, torn

_RANK = {"error": 0, "warning": 1, "note": 2}


def report_on(
    checked: Checked,
    positions: Mapping[str, Sequence[int]],
    findings: Sequence[Finding],
    left_out: Sequence[LeftOut],
    *,
    compare: bool = True,
) -> AuditReport:
    """Counts, and all findings: those given, and those that depend on what stands in which part.

    Args:
        checked: images, and all that is known of them.
        positions: the parts.
        findings, left_out: so far.
        compare: test whether the parts differ; of parts drawn by chance it is known that only chance makes them differ.
    """
    images, label_files = checked.images, [entry.label_file for entry in checked.entries]
    counts = {name: Part.of([images[i] for i in ids], checked.categories) for name, ids in positions.items()}
    homes = positions
    if sum(map(len, positions.values())) > len(images):  # folds: what counts is where an image is judged
        homes = {name: ids for name, ids in positions.items() if name.endswith("_val")}
    part_of = {i: name for name, ids in homes.items() for i in ids}
    strips = frames_by_strip(images)
    missing = [*audit.missing_in_copies(images, checked.twins), *audit.missing_in_strips(images)]
    units = audit.group_ids(len(images), (), strips.values())
    compared = homes if compare else {}
    shifts = audit.find_shifts(images, checked.prints, checked.categories, compared, units=units)
    places = {name: _place([label_files[i] for i in ids]) for name, ids in homes.items() if ids}
    every = [
        *findings,
        *audit.check_twins(checked.twins, [image.path for image in images], part_of),
        *torn(images, homes),
        *_without_boxes(counts, places),
        *audit.check_missing(missing, images, label_files),
        *_at_borders(checked, audit.group_ids(len(images), checked.twins, strips.values())),
        *audit.check_habits(images, label_files, checked.categories),
        *audit.check_shifts(shifts, places),
    ]
    return AuditReport(
        parts=counts,
        findings=tuple(sorted(every, key=lambda finding: _RANK[finding.severity])),
        left_out=tuple(left_out),
        images=tuple(images),
        members=homes,
        twins=tuple(checked.twins),
        strangers=tuple(checked.strangers),
        missing=tuple(missing),
        shifts=tuple(shifts),
    )


def _without_boxes(counts: Mapping[str, Part], places: Mapping[str, Path]) -> list[Finding]:
    """A warning for each part of which no image has a box, while those of others have."""
    found = []
    for name, part in counts.items():
        if part.images and not part.boxes and name in places and any(other.boxes for other in counts.values()):
            message = f"none of the {part.images:,} images in {name} has a box; check that its labels were found"
            found.append(Finding("part without boxes", "warning", places[name], message))
    return found


def _at_borders(checked: Checked, groups: Sequence[int]) -> list[Finding]:
    """Of each data set by itself, as each comes from its own tool."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, data_set in enumerate(checked.data_sets):
        members[data_set].append(i)
    findings: list[Finding] = []
    images = checked.images
    for ids in members.values():
        place = _place([checked.entries[i].label_file for i in ids])
        findings += audit.check_borders([images[i] for i in ids], place, [groups[i] for i in ids])
    return findings


def parts_of_source(entries: Sequence[Entry]) -> dict[str, Sequence[int]]:
    """The parts that the source itself is divided into, if there are at least two."""
    names = list(dict.fromkeys(entry.part for entry in entries))
    if len(names) < 2:
        return {"all": range(len(entries))}
    return {name or "rest": [i for i, entry in enumerate(entries) if entry.part == name] for name in names}


def parts_by_source(checked: Checked, first: Sequence[Path], others: Sequence[Path]) -> dict[str, Sequence[int]]:
    """Positions by part and source, so that data sets can be compared: ``train``, or ``mine/train`` where several
    sources have one, or the source's name where it is not divided; "all" where there is nothing to tell apart.

    Args:
        checked: of ``first``, read as one data set, and each of ``others``.
        first, others: as the caller named them.
    """
    sources = [*first, *others]
    real = [os.path.realpath(source) for source in first]
    folders: dict[Path, str] = {}
    whole: dict[tuple[int, str], list[int]] = {}
    for i, (entry, data_set) in enumerate(zip(checked.entries, checked.data_sets)):
        places = []
        for path in (entry.label_file, entry.image.path):
            if path.parent not in folders:
                folders[path.parent] = os.path.realpath(path.parent)
            places.append(f"{folders[path.parent]}{os.sep}{path.name}")
        source = len(first) + data_set - 1 if data_set else _source_of(places, real)
        whole.setdefault((source, entry.part), []).append(i)
    if len(whole) < 2:
        return {"all": range(len(checked.entries))}
    same = Counter(part for _, part in whole)
    short = [source.stem if source.is_file() else source.resolve().name for source in sources]
    told = [name if short.count(name) == 1 else str(source) for name, source in zip(short, sources)]
    names: dict[str, Sequence[int]] = {}
    for (source, part), positions in whole.items():
        if part and same[part] == 1:
            name = part
        elif part and part != told[source]:
            name = f"{told[source]}/{part}"
        else:
            name = told[source] if same[part] > 1 or len(sources) > 1 else "rest"
        names[name if name not in names else f"{told[source]}: {name}"] = positions
    return names


def _source_of(places: Sequence[str], sources: Sequence[str]) -> int:
    """The first source that holds the label file, or else the image."""
    for place in places:
        for number, source in enumerate(sources):
            if place == source or place.startswith(source.rstrip(os.sep) + os.sep):
                return number
    return 0


def _place(label_files: Sequence[Path]) -> Path:
    """One file, or the folder that holds all of them."""
    distinct = {str(path.absolute()): path for path in label_files}
    if len(distinct) == 1 or len({path.anchor for path in map(Path, distinct)}) > 1:  # on several drives
        return next(iter(distinct.values()))
    return Path(os.path.commonpath(list(distinct)))
