"""From label files in any format to one audited data set a part: read, check, divide, write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import audit
from .audit import AuditReport, LeftOut, Part, Twins
from .errors import DataError
from .formats import FORMATS, Entry, recognise
from .formats.files import stem, write_text
from .formats.losses import losses
from .images import SUFFIXES
from .records import Dataset, Finding
from .split import Ranges, by_fraction, by_number, into_folds, parse_split

Difficult = Literal["keep", "ignore", "drop"]
_RANK = {"error": 0, "warning": 1, "note": 2}


class LabelError(DataError):
    """Labels or images with errors; ``report`` holds all of them."""

    def __init__(self, report: AuditReport, where: Path) -> None:
        self.report = report
        self.findings = report.findings
        errors = report.errors
        first = f"{errors[0].path}: {errors[0].message}"
        found = f"{len(errors)} error{'s' * (len(errors) > 1)} in the data, the first is {first}"
        super().__init__(found, where=where, fix="correct them all, or leave them out with --skip-bad")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        files: what was written, by part.
        parts: the data sets in it.
        findings: errors first, then warnings, then notes.
        left_out: what of the sources is in no part, and why.
        report: counts, findings and what was left out, as ``audit.json`` has them.
    """

    files: dict[str, Path]
    parts: dict[str, Dataset]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    report: AuditReport


@dataclass(frozen=True, slots=True)
class _Checked:
    """Entries without what is wrong in them, and everything that was found."""

    entries: list[Entry]
    categories: tuple[str, ...]
    findings: list[Finding]
    left_out: list[LeftOut]
    twins: list[Twins]


def convert(
    sources: Sequence[Path],
    out: Path,
    *,
    source: str | None = None,
    target: str = "coco",
    split: str | None = None,
    folds: int | None = None,
    seed: int = 0,
    difficult: Difficult = "keep",
    categories: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> Conversion:
    """Read labels and images, audit them, divide them and write each part, and ``audit.json``, to ``out``.

    Args:
        sources: folders, or label files where a format has one for all images.
        out: folder to write to. COCO references the images where they are; VOC and YOLO get copies of them.
        source: "voc", "coco" or "yolo"; None looks at the sources.
        target: format to write.
        split: ``train=1-200,val=201-240`` or ``train=0.8,val=0.2``. Without it and ``folds``, the parts of the
            source are kept if it has two or more (several COCO files, YOLO's folders), else there is one, "all".
        folds: number of folds for cross-validation.
        seed: of a split by fraction or into folds.
        difficult: keep objects flagged as difficult, let the judge ignore them (COCO's iscrowd), or drop them.
        categories: the classes in the order of their ids; None takes all, in alphabetical order.
        skip_bad: leave out what has errors, and go on.

    Raises:
        LabelError: there are errors; only ``audit.json`` was written.
        DataError: the sources, the format or the split can't be used.
    """
    if target not in FORMATS:
        raise DataError(f"there is no format {target!r} to write", fix=f"choose one of {', '.join(FORMATS)}")
    if split is not None and folds is not None:
        raise DataError("a split and folds exclude each other", fix="ask for one of them")
    wanted = parse_split(split) if split is not None else None

    checked = _check(sources, source, categories, difficult)
    if any(finding.severity == "error" for finding in checked.findings) and not skip_bad:
        report = _report(checked, {"all": range(len(checked.entries))}, checked.findings, [])
        _write_report(report, out)
        raise LabelError(report, out / "audit.json")
    if not checked.entries:
        raise DataError("no image is left to convert", where=", ".join(map(str, sources)), fix="correct the data")

    left_out = list(checked.left_out)
    positions: Mapping[str, Sequence[int]]
    if isinstance(wanted, Ranges):
        positions, rest = by_number([stem(entry.image.path) for entry in checked.entries], wanted)
        left_out += [LeftOut("image", checked.entries[i].image.path, "its number is in no part") for i in rest]
    elif wanted is not None or folds is not None:
        labels = [sorted({box.label for box in entry.image.boxes}) for entry in checked.entries]
        groups = audit.group_ids(len(labels), checked.twins)
        if wanted is not None:
            positions = by_fraction(labels, wanted, groups=groups, seed=seed)
        else:
            positions = into_folds(labels, folds or 0, groups=groups, seed=seed)
    else:
        positions = _own_parts(checked.entries)

    parts = {
        name: Dataset(tuple(checked.entries[i].image for i in members), checked.categories)
        for name, members in positions.items()
    }
    findings = checked.findings + losses(parts, target, out)
    report = _report(checked, positions, findings, left_out)
    files = FORMATS[target].write(parts, out)
    _write_report(report, out)
    return Conversion(files, parts, report.findings, report.left_out, report)


def audit_sources(
    sources: Sequence[Path], *, source: str | None = None, categories: Sequence[str] | None = None
) -> AuditReport:
    """Check labels and images without writing anything; arguments as for ``convert``.

    Raises:
        DataError: a source is missing or in none of the formats.
    """
    checked = _check(sources, source, categories, "keep")
    return _report(checked, _own_parts(checked.entries), checked.findings, checked.left_out)


def _check(
    sources: Sequence[Path], source: str | None, categories: Sequence[str] | None, difficult: Difficult
) -> _Checked:
    """Read everything, look at every pixel and box once, and set aside what has errors."""
    name = source if source is not None else recognise(sources)
    if name not in FORMATS:
        raise DataError(f"there is no format {name!r} to read", fix=f"choose one of {', '.join(FORMATS)}")
    known = _known(categories)
    reading = FORMATS[name].scan(sources)
    findings, left_out = list(reading.findings), _left_out_by(reading.findings)

    entries: list[Entry] = []
    prints: list[audit.Fingerprint] = []
    for entry, seen in zip(reading.entries, audit.fingerprints([e.image.path for e in reading.entries])):
        image = entry.image
        if isinstance(seen, DataError):
            findings.append(audit.unreadable(image.path, seen))
            left_out.append(LeftOut("image", image.path, seen.found))
            continue
        about_boxes = audit.check_boxes(image, entry.label_file, known)
        findings += [finding for _, finding in about_boxes] + audit.check_no_objects(image, entry.label_file)
        wrong = {i: finding.message for i, finding in about_boxes if finding.severity == "error"}
        left_out += [LeftOut("box", entry.label_file, message) for message in wrong.values()]
        boxes = [box for i, box in enumerate(image.boxes) if i not in wrong]
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
    return _Checked(entries, names, findings, left_out, audit.find_twins(prints))


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
            left_out.append(
                LeftOut("image" if path.suffix.lower() in SUFFIXES else "label file", path, finding.message)
            )
    return left_out


def _own_parts(entries: Sequence[Entry]) -> dict[str, Sequence[int]]:
    """The parts that the source itself is divided into, if there are at least two."""
    names = list(dict.fromkeys(entry.part for entry in entries))
    if len(names) < 2:
        return {"all": range(len(entries))}
    return {name or "rest": [i for i, entry in enumerate(entries) if entry.part == name] for name in names}


def _report(
    checked: _Checked, positions: Mapping[str, Sequence[int]], findings: Sequence[Finding], left_out: Sequence[LeftOut]
) -> AuditReport:
    images = [entry.image for entry in checked.entries]
    counts = {name: Part.of([images[i] for i in ids], checked.categories) for name, ids in positions.items()}
    # Folds name each image several times; which it is judged in tells whether twins are apart.
    homes = {name: ids for name, ids in positions.items() if name.endswith("_val")} or positions
    part_of = {i: name for name, ids in homes.items() for i in ids}
    about_twins = audit.check_twins(checked.twins, [image.path for image in images], part_of)
    ordered = sorted([*findings, *about_twins], key=lambda finding: _RANK[finding.severity])
    return AuditReport(counts, tuple(ordered), tuple(left_out))


def _write_report(report: AuditReport, out: Path) -> None:
    write_text(out / "audit.json", json.dumps(report.as_dict(), ensure_ascii=False, indent=1) + "\n")
