"""What is wrong in a data set: boxes, pixels, class names, duplicates, missing labels, parts that differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..images import likely_white
from ..records import Finding, Image
from .borders import check_borders
from .boxes import check_boxes
from .duplicates import Link, Twins, compare_all, find_twins, group_ids
from .missing import Missing, missing_in_copies, missing_in_strips
from .pixels import Fingerprint, fingerprints
from .report import AuditReport, LeftOut, Part
from .seeming import check_habits, check_missing, check_shifts
from .shifts import Shift, find_shifts
from .table import audit_table

__all__ = [
    "AuditReport",
    "Fingerprint",
    "LeftOut",
    "Link",
    "Missing",
    "Part",
    "Shift",
    "Twins",
    "audit_table",
    "check_borders",
    "check_boxes",
    "check_depth",
    "check_drafts",
    "check_habits",
    "check_missing",
    "check_names",
    "check_no_objects",
    "check_orientation",
    "check_shifts",
    "check_twins",
    "compare_all",
    "find_shifts",
    "find_twins",
    "fingerprints",
    "group_ids",
    "missing_in_copies",
    "missing_in_strips",
    "unreadable",
]


def check_names(names: Collection[str], label_file: Path) -> list[Finding]:
    """Class names that differ only in capitals, spaces, hyphens or underscores: most likely one class."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        alike["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    return [
        Finding(
            "class names alike",
            "warning",
            label_file,
            f"the classes {' and '.join(map(repr, group))} count as different; if they are one, spell them alike",
        )
        for group in alike.values()
        if len(group) > 1
    ]


def check_drafts(images: Sequence[tuple[Image, Path]]) -> list[Finding]:
    """A note if boxes carry a score: a detector has drafted them.

    Args:
        images: each with its label file.
    """
    number = sum(box.score is not None for image, _ in images for box in image.boxes)
    files = list(dict.fromkeys(file for image, file in images if any(box.score is not None for box in image.boxes)))
    if not files:
        return []
    message = f"{number:,} boxes carry a score, as drafts of a detector do; correct them before anything learns them"
    return [Finding("draft boxes", "note", files[0], message, files[1:])]


def check_no_objects(image: Image, label_file: Path) -> list[Finding]:
    """A note for an image without objects, which is kept: it shows what is no defect."""
    if image.boxes:
        return []
    message = f"{image.path.name} has no object; it is kept as an image without defects"
    return [Finding("image without objects", "note", label_file, message)]


def check_twins(twins: Sequence[Twins], paths: Sequence[Path], part_of: Mapping[int, str]) -> list[Finding]:
    """A finding for each group of duplicates.

    A group whose members stand in different parts lets a detector be judged on what it was trained on: a warning,
    as are exact copies. Near-duplicates within one part are only worth a note.

    Args:
        twins: groups, by position in ``paths``.
        paths: the image files.
        part_of: position -> name of the part; positions in no part are left out.
    """
    findings: list[Finding] = []
    for group in twins:
        first, *rest = group.members
        turned = ", mirrored or turned," if group.turned else ""
        told = "equal pixels" if group.exact else f"the same scene{turned} (likeness {group.likeness:.2f})"
        parts = sorted({part_of[i] for i in group.members if i in part_of})
        others = tuple(paths[i] for i in rest)
        listed = ", ".join(path.name for path in others[:5]) + (", ..." if len(others) > 5 else "")
        severity: Literal["warning", "note"] = "warning" if group.exact or len(parts) > 1 else "note"
        if len(parts) > 1:
            kind, advice = "duplicate across parts", f"they stand in {' and '.join(parts)}; put them into one part"
        else:
            kind = "duplicate image" if group.exact else "near-duplicate image"
            advice = "compare the labels and keep one" if group.exact else "look at them; splits keep them together"
        findings.append(Finding(kind, severity, paths[first], f"{told} as {listed}; {advice}", others))
    return findings


def check_depth(images: Sequence[Image], prints: Sequence[Fingerprint]) -> list[Finding]:
    """A note if the brightest of the 16-bit images tells of a camera of fewer bits, which training has to be told."""
    deep = [(each.brightest, image.path) for each, image in zip(prints, images) if each.brightest is not None]
    brightest, path = max(deep, default=(0, Path()))
    white = likely_white(brightest)
    if not deep or white == 2**16 - 1:
        return []
    message = (
        f"the {len(deep):,} 16-bit images go up to {brightest:,}, as those of a camera of {white.bit_length()} bits "
        f"do; train with data.max_value={white}, or 65,535 is taken for white"
    )
    return [Finding("depth not used", "note", path, message)]


def check_orientation(images: Sequence[Image], prints: Sequence[Fingerprint]) -> list[Finding]:
    """One warning for all images with an orientation tag: boxes drawn on the stored pixels are in another place.

    Args:
        images: as read.
        prints: of these images.
    """
    tags = {image.path: each.orientation for each, image in zip(prints, images) if each.orientation != 1}
    if not tags:
        return []
    first, *rest = tags
    counts = ", ".join(f"{tag} in {number:,}" for tag, number in sorted(Counter(tags.values()).items()))
    listed = ", ".join(path.name for path in list(tags)[:5]) + (", ..." if len(tags) > 5 else "")
    message = (
        f"{len(tags):,} images have an orientation tag ({counts}) and are read upright, as most annotation tools show "
        f"them: {listed}; check that their boxes were drawn on the upright image, not on the stored pixels"
    )
    return [Finding("rotated by its orientation tag", "warning", first, message, tuple(rest))]


def unreadable(path: Path, error: DataError) -> Finding:
    """The finding for an image that can't be decoded."""
    message = f"{error.found}; {error.fix}" if error.fix else error.found
    return Finding("unreadable image", "error", path, message)
