"""From label files in any format to one audited data set a part: read, check, divide, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import audit
from ..audit import AuditReport, LeftOut
from ..errors import DataError
from ..formats import WRITERS, ReadOptions
from ..formats.files import stem, write_json
from ..formats.losses import losses
from ..formats.reading import DEFAULTS, IN_NO_PART
from ..formats.roots import remember
from ..records import Dataset, Finding
from ..split import Fractions, Ranges, by_fraction, by_number, into_folds, parse_split
from .checking import NO_BOXES, Checked, Difficult, check
from .grouping import named_groups, told
from .reporting import parts_by_source, parts_of_source, report_on
from .strips import frames_by_strip, refuse_torn

__all__ = ["Conversion", "Difficult", "LabelError", "ReadOptions", "audit_sources", "convert"]


class LabelError(DataError):
    """Labels or images with errors; ``report`` holds all of them."""

    def __init__(self, report: AuditReport, where: Path) -> None:
        self.report = report
        self.findings = report.findings
        errors = report.errors
        first = f"{errors[0].path}: {errors[0].message}"
        found = f"{len(errors)} error{'s' * (len(errors) > 1)} in the data, the first is {first}"
        skippable = any(finding.kind != NO_BOXES for finding in errors)
        fix = "correct them all, or leave out the images concerned with --skip-bad" if skippable else None
        super().__init__(found, where=where, fix=fix)


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


def convert(
    sources: Sequence[Path],
    out: Path,
    *,
    source: str | None = None,
    target: str = "coco",
    split: str | None = None,
    folds: int | None = None,
    seed: int = 0,
    group_pattern: str | None = None,
    difficult: Difficult = "keep",
    categories: Sequence[str] | None = None,
    skip_bad: bool = False,
    clip: bool = False,
    options: ReadOptions = DEFAULTS,
) -> Conversion:
    """Read labels and images, audit them, divide them and write each part, and ``audit.json``, to ``out``.

    Args:
        sources: folders, or label files where a format has one for all images.
        out: folder to write to. COCO and CSV reference the images where they are; the others get copies of them.
        source: "voc", "coco", "yolo", "labelme" or "cvat"; None looks at the sources.
        target: format to write, one of the first four or "csv".
        split: ``train=1-200,val=201-240`` or ``train=0.8,val=0.2``. Without it and ``folds``, the parts of the
            source are kept if it has two or more (several COCO files, those of data.yaml, lists in ImageSets/Main,
            subsets, folders called train and so on), else there is one, "all". Such folders make no parts of VOC files
            if an image lies in one and its XML in another, as in some copies of NEU-DET.
        folds: number of folds for cross-validation.
        seed: of a split by fraction or into folds.
        group_pattern: of such a split: images whose paths share what this regular expression finds stay together, as
            ``conversion.grouping.named_groups`` says.
        difficult: keep objects flagged as difficult, let the judge ignore them (COCO's iscrowd), or drop them.
        categories: the classes in the order of their ids; None takes all, in alphabetical order.
        skip_bad: leave out every image with an error, in itself or in one of its objects, and go on.
        clip: cut boxes that stick out of their image by any distance, not only by up to 1 pixel or 1 % of the side.
        options: what label files leave open. With ``allow_empty``, images without label files count as without objects,
            label files without images are warnings, and a data set without any box is converted.

    Raises:
        LabelError: there are errors; only ``audit.json`` was written.
        DataError: the sources, the format or the split can't be used, or names that the pattern doesn't match.
        ConfigError: the pattern is no regular expression.
    """
    if target not in WRITERS:
        raise DataError(f"there is no format {target!r} to write", fix=f"choose one of {', '.join(WRITERS)}")
    if split is not None and folds is not None:
        raise DataError("a split and folds exclude each other", fix="ask for one of them")
    wanted = parse_split(split) if split is not None else None
    drawn = folds is not None or isinstance(wanted, Fractions)
    if group_pattern is not None and not drawn:
        found = "a group pattern keeps images together where chance divides them, and here it doesn't"
        raise DataError(found, fix="divide by shares or into folds, or leave the pattern out")

    options = replace(options, own_parts=wanted is None and folds is None)
    checked = check(sources, source, categories, difficult, options, clip=clip)
    errors = [finding for finding in checked.findings if finding.severity == "error"]
    if errors and (not skip_bad or any(finding.kind == NO_BOXES for finding in errors)):
        report = report_on(checked, {"all": range(len(checked.entries))}, checked.findings, [])
        _write_report(report, out)
        raise LabelError(report, out / "audit.json")
    if not checked.entries:
        raise DataError("no image is left to convert", where=", ".join(map(str, sources)), fix="correct the data")

    images = [entry.image for entry in checked.entries]
    named = named_groups(images, group_pattern) if group_pattern is not None else []
    positions, rest = _divide(checked, wanted, folds, seed, named)
    left_out = [*checked.left_out, *(LeftOut("image", path, "its number is in no part") for path in rest)]
    label_files = {file.resolve() for file in {entry.label_file for entry in checked.entries}}
    taken = label_files & {(out / f"{part}.json").resolve() for part in positions}
    if taken and target == "coco":
        raise DataError("it would be replaced by what is made from it", where=min(taken), fix="choose another --out")
    parts = {
        name: Dataset(tuple(images[i] for i in members), checked.categories) for name, members in positions.items()
    }
    findings = [*checked.findings, *_unplaced(rest), *losses(parts, target, out)]
    if group_pattern is not None:
        findings.append(told(images, named, group_pattern))
    report = report_on(checked, positions, findings, left_out, compare=not drawn)
    files = WRITERS[target](parts, out)
    if target == "coco":
        remember((image.path for dataset in parts.values() for image in dataset.images), out)
    _write_report(report, out)
    return Conversion(files, parts, report.findings, report.left_out, report)


def audit_sources(
    sources: Sequence[Path],
    *,
    source: str | None = None,
    categories: Sequence[str] | None = None,
    split: str | None = None,
    against: Sequence[Path] = (),
    clip: bool = False,
    options: ReadOptions = DEFAULTS,
) -> AuditReport:
    """Check labels and images without writing anything, and compare their parts.

    Args:
        sources, source, categories, clip, options: as for ``convert``.
        split: parts to compare, as for ``convert``. Without it they are those of the source (COCO files, folders of
            YOLO and those called train or validation), and where several sources hold images, the sources.
        against: further data sets, each read by itself in whatever format, and compared with the first.

    Raises:
        DataError: a source is missing or in none of the formats, or the split can't be used.
    """
    wanted = parse_split(split) if split is not None else None
    if wanted is not None and against:
        raise DataError("a split is of one data set, and others are given", fix="compare with others without it")
    options = replace(options, own_parts=wanted is None)
    checked = check(sources, source, categories, "keep", options, clip=clip, others=against)
    if wanted is None:
        return report_on(checked, parts_by_source(checked, sources, against), checked.findings, ())
    positions, rest = _divide(checked, wanted, None, 0)
    return report_on(checked, positions, [*checked.findings, *_unplaced(rest)], ())


def _divide(
    checked: Checked,
    wanted: Ranges | Fractions | None,
    folds: int | None,
    seed: int,
    named: Sequence[Sequence[int]] = (),
) -> tuple[Mapping[str, Sequence[int]], list[Path]]:
    """Positions of the entries by part, and the images that are in none."""
    images = [entry.image for entry in checked.entries]
    if isinstance(wanted, Ranges):
        parts, rest = by_number([stem(image.path) for image in images], wanted)
        refuse_torn(images, parts)
        return parts, [images[i].path for i in rest]
    labels = [{box.label for box in image.boxes} for image in images]
    groups = audit.group_ids(len(images), checked.twins, [*frames_by_strip(images).values(), *named])
    if wanted is not None:
        return by_fraction(labels, wanted, groups=groups, seed=seed), []
    if folds is not None:
        return into_folds(labels, folds, groups=groups, seed=seed), []
    return parts_of_source(checked.entries) if checked.divided else {"all": range(len(images))}, []


def _unplaced(paths: Sequence[Path]) -> list[Finding]:
    if not paths:
        return []
    some = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    message = f"{len(paths):,} images have a number that the split gives to no part: {some}; widen a range to use them"
    return [Finding(IN_NO_PART, "warning", paths[0], message, paths[1:])]


def _write_report(report: AuditReport, out: Path) -> None:
    write_json(out / "audit.json", report.as_dict(), indent=1)
