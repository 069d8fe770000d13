"""From label files in any format to one audited data set per part: read, check, divide, write."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import DataError
from ..fileio import write_json
from ..images import SUFFIXES
from ..structures import Dataset, Finding, Image
from . import audit, duplicates, part_shift
from .audit import AuditReport, LeftOut, PartCounts
from .duplicates import DuplicateGroup, Fingerprint, SimilarPair
from .formats import FORMATS, WRITERS, lossy_fields, recognise_all
from .paths import remember, stem
from .reading import (
    DEFAULTS,
    IN_NO_PART,
    Entry,
    Reading,
    ReadOptions,
    clip_to_image,
    counted,
    first_few,
    sentence,
    upright,
)
from .split import (
    Fractions,
    Ranges,
    check_part_names,
    named_groups,
    parse_split,
    split_by_fraction,
    split_by_number,
    split_into_folds,
)


def frames_by_strip(images: Sequence[Image]) -> dict[str, list[int]]:
    """Positions of the frames of each strip; still images are left out."""
    strips: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        if image.frame:
            strips[image.frame.strip].append(i)
    return dict(strips)


def drop_strip_overlaps(duplicate_groups: Sequence[DuplicateGroup], images: Sequence[Image]) -> list[DuplicateGroup]:
    """Duplicates that mean something: not frames of one strip, which overlap, nor dropped ones, which are all black."""
    meant = []
    for group in duplicate_groups:
        seen = [i for i in group.members if not ((frame := images[i].frame) and frame.condition == "dropped")]
        places = {frame.strip if (frame := images[i].frame) else i for i in seen}
        if len(places) > 1:
            links = tuple(link for link in group.links if is_real_duplicate(link, images))
            meant.append(replace(group, members=tuple(seen), links=links))
    return meant


def is_real_duplicate(link: SimilarPair, images: Sequence[Image]) -> bool:
    """Whether a pair means something, as in ``drop_strip_overlaps``."""
    one, other = images[link.first].frame, images[link.second].frame
    dropped = any(frame is not None and frame.condition == "dropped" for frame in (one, other))
    return not dropped and (one is None or other is None or one.strip != other.strip)


def check_strips_whole(images: Sequence[Image], parts: Mapping[str, Sequence[int]]) -> None:
    """Raise DataError if a division puts frames of one strip into several parts."""
    found = split_strip_findings(images, parts)
    if found:
        fix = "split strips by shares or into folds, which keep each whole"
        raise DataError(f"the split tears a strip: {found[0].message.partition(';')[0]}", fix=fix)


def split_strip_findings(images: Sequence[Image], parts: Mapping[str, Sequence[int]]) -> list[Finding]:
    """A warning for each strip that is in several parts: evaluation would be on steel that was trained on."""
    part_of = {i: name for name, positions in parts.items() for i in positions}
    findings = []
    for strip, positions in frames_by_strip(images).items():
        homes = sorted({part_of[i] for i in positions if i in part_of})
        if len(homes) > 1:
            message = f"frames of strip {strip!r} are in {' and '.join(homes)}; put them into one part"
            findings.append(Finding("strip across parts", "warning", images[positions[0]].path, message))
    return findings


Difficult = Literal["keep", "ignore", "drop"]
NO_BOXES = "no boxes"  # the kind of an error that concerns the whole data set
_MAX_SIMILAR_PAIRS = 12  # pairs just below the threshold that are reported


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries without what is wrong in them, and everything that was found.

    Attributes:
        divided: whether the parts of the entries are the source's own division.
        data_sets: number of the data set of each entry.
    """

    divided: bool
    entries: list[Entry]
    categories: tuple[str, ...]
    findings: list[Finding]
    left_out: list[LeftOut]
    prints: list[Fingerprint]
    data_sets: list[int]
    duplicate_groups: list[DuplicateGroup]
    similar_pairs: list[SimilarPair]

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
    """Read everything, check every image and box once, and set aside what has errors.

    Args:
        sources: read together as one data set.
        source: its format; None: recognised from the sources.
        categories: the classes in the order of their ids; None takes all, in alphabetical order.
        difficult: what becomes of objects flagged so.
        options: of reading.
        clip: cut boxes that stick out of their image by any distance, not only by up to 1 pixel or 1 %.
        others: further data sets, each read by itself, in whatever format.
    """
    known = _known(categories)
    options = replace(options, categories=known)
    sets = [_check_one(sources, source, known, difficult, options, clip)]
    sets += [_check_one([other], None, known, difficult, options, clip) for other in others]
    entries = [entry for each in sets for entry in each.entries]
    findings = [finding for each in sets for finding in each.findings]
    prints = [fingerprint for each in sets for fingerprint in each.prints]
    images = [entry.image for entry in entries]
    used = {box.label for image in images for box in image.boxes}
    names = known or tuple(sorted(used.union(*(each.categories for each in sets))))
    if entries:
        findings += audit.check_names(names, entries[0].label_file)
        findings += audit.check_pre_annotations([(entry.image, entry.label_file) for entry in entries])
    groups, pairs = duplicates.find_duplicates_and_similar(prints, max_similar_pairs=_MAX_SIMILAR_PAIRS)
    return Checked(
        divided=sets[0].divided,
        entries=entries,
        categories=names,
        findings=findings,
        left_out=[item for each in sets for item in each.left_out],
        prints=prints,
        data_sets=[number for number, each in enumerate(sets) for _ in each.entries],
        duplicate_groups=drop_strip_overlaps(groups, images),
        similar_pairs=[link for link in pairs if is_real_duplicate(link, images)],
    )


class _DataSet(NamedTuple):
    """What ``Checked`` has, of one data set."""

    divided: bool
    entries: list[Entry]
    findings: list[Finding]
    left_out: list[LeftOut]
    prints: list[Fingerprint]
    categories: tuple[str, ...]


def _check_one(
    sources: Sequence[Path],
    source: str | None,
    known: tuple[str, ...] | None,
    difficult: Difficult,
    options: ReadOptions,
    clip: bool,
) -> _DataSet:
    name, other_labels = (source, []) if source is not None else recognise_all(sources)
    if name not in FORMATS:
        raise DataError(f"there is no format {name!r} to read", fix=f"choose one of {', '.join(FORMATS)}")
    reading = FORMATS[name].scan(sources, options)
    reading, twice = _each_once(reading)
    findings, left_out = [*other_labels, *reading.findings, *twice], _left_out_by([*reading.findings, *twice])
    broken = Counter(f.image for f in reading.findings if f.severity == "error" and f.image is not None)

    entries: list[Entry] = []
    prints: list[Fingerprint] = []
    cut: list[Path] = []
    for entry, seen in zip(reading.entries, duplicates.fingerprints([e.image.path for e in reading.entries])):
        if isinstance(seen, DataError):
            findings.append(Finding("unreadable image", "error", entry.image.path, sentence(seen)))
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
            reason = counted(faults, "of its objects has an error", "of its objects have errors")
            left_out.append(LeftOut("image", image.path, reason))
            continue
        findings += audit.check_no_objects(image, entry.label_file)
        boxes = list(image.boxes)
        if difficult == "drop":
            hard = sum(box.difficult for box in boxes)
            left_out += [LeftOut("box", entry.label_file, f"flagged as difficult in {image.path.name}")] * hard
            boxes = [box for box in boxes if not box.difficult]
        elif difficult == "ignore":
            boxes = [replace(box, crowd=box.crowd or box.difficult) for box in boxes]
        kept = replace(image, boxes=tuple(boxes))
        entries.append(replace(entry, image=kept))
        prints.append(seen)
    findings += [*_about_clipped(cut), *audit.check_depth([entry.image for entry in entries], prints)]
    findings += audit.check_orientation([entry.image for entry in entries], prints)
    if not options.allow_empty:
        findings += _no_box(sources, reading)
    return _DataSet(reading.divided, entries, findings, left_out, prints, reading.categories)


def _each_once(reading: Reading) -> tuple[Reading, list[Finding]]:
    """Leave out what a source says twice of one image, and the image if it says different things; and findings.

    A part may repeat what another one has, as folds do. Frames of strips may share an image, that of a black frame say.
    """
    folders = {path: os.path.realpath(path) for path in {entry.image.path.parent for entry in reading.entries}}
    same: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in reading.entries:
        if entry.image.frame is None:
            same[folders[entry.image.path.parent], entry.image.path.name].append(entry)
    out: set[int] = set()
    findings: list[Finding] = []
    for entries in (each for each in same.values() if len(each) > 1):
        image, files = entries[0].image, list(dict.fromkeys(entry.label_file for entry in entries))
        if len({frozenset(Counter(entry.image.boxes).items()) for entry in entries}) > 1:
            where = files[0] if len(files) == 1 else " and ".join(map(str, files))
            message = f"{len(entries)} sets of labels are about {image.path.name}, in {where}, and differ; unite them"
            findings.append(Finding("image twice", "error", image.path, message))
            out |= {id(entry) for entry in entries}
        elif len(parts := {entry.part for entry in entries}) < len(entries):
            message = f"{image.path.name} is there {len(entries)} times with the same labels, and counts once"
            findings.append(Finding("image twice", "warning", files[0], message, files[1:]))
            kept = {part: next(entry for entry in entries if entry.part == part) for part in parts}
            out |= {id(entry) for entry in entries if kept[entry.part] is not entry}
    if not out:
        return reading, findings
    left = tuple(entry for entry in reading.entries if id(entry) not in out)
    return replace(reading, entries=left), findings


def _about_clipped(paths: Sequence[Path]) -> list[Finding]:
    if not paths:
        return []
    images = list(dict.fromkeys(paths))
    of = images[0].name if len(images) == 1 else f"{len(images):,} images"
    message = f"{counted(len(paths), 'box', 'boxes')} of {of} reached out of the image, clipped at its border"
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
    counts = {name: PartCounts.of([images[i] for i in ids], checked.categories) for name, ids in positions.items()}
    homes = positions
    if sum(map(len, positions.values())) > len(images):  # folds: what counts is where an image is judged
        homes = {name: ids for name, ids in positions.items() if name.endswith("_val")}
    part_of = {i: name for name, ids in homes.items() for i in ids}
    strips = frames_by_strip(images)
    missing = [
        *audit.missing_in_duplicates(images, checked.duplicate_groups),
        *audit.missing_in_strips(images),
    ]
    units = duplicates.group_ids(len(images), (), strips.values())
    compared = homes if compare else {}
    shifts = part_shift.find_shifts(images, checked.prints, checked.categories, compared, units=units)
    places = {name: _place([label_files[i] for i in ids]) for name, ids in homes.items() if ids}
    every = [
        *findings,
        *audit.check_duplicates(checked.duplicate_groups, [image.path for image in images], part_of),
        *split_strip_findings(images, homes),
        *_without_boxes(counts, places),
        *audit.check_missing_labels(missing, images, label_files),
        *_at_borders(checked, duplicates.group_ids(len(images), checked.duplicate_groups, strips.values())),
        *audit.check_unusual_images(images, label_files, checked.categories),
        *audit.check_shifts(shifts, places),
    ]
    return AuditReport(
        parts=counts,
        findings=tuple(sorted(every, key=lambda finding: _RANK[finding.severity])),
        left_out=tuple(left_out),
        images=tuple(images),
        members=homes,
        duplicate_groups=tuple(checked.duplicate_groups),
        similar_pairs=tuple(checked.similar_pairs),
        missing=tuple(missing),
        shifts=tuple(shifts),
    )


def _without_boxes(counts: Mapping[str, PartCounts], places: Mapping[str, Path]) -> list[Finding]:
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
    sources have one, or the source's name where it is not divided; "all" if there is only one.

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
    source_names = [name if short.count(name) == 1 else str(source) for name, source in zip(short, sources)]
    names: dict[str, Sequence[int]] = {}
    for (source, part), positions in whole.items():
        if part and same[part] == 1:
            name = part
        elif part and part != source_names[source]:
            name = f"{source_names[source]}/{part}"
        else:
            name = source_names[source] if same[part] > 1 or len(sources) > 1 else "rest"
        names[name if name not in names else f"{source_names[source]}: {name}"] = positions
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
        source: "voc", "coco", "yolo", "labelme" or "cvat"; None: recognised from the sources.
        target: format to write, one of the first four or "csv".
        split: ``train=1-200,val=201-240`` or ``train=0.8,val=0.2``. Without it and ``folds``, the parts of the
            source are kept if it has two or more (several COCO files, those of data.yaml, lists in ImageSets/Main,
            subsets, folders called train and so on), else there is one, "all". Such folders make no parts of VOC files
            if an image is in one and its XML in another, as in some copies of NEU-DET.
        folds: number of folds for cross-validation.
        seed: of a split by fraction or into folds.
        group_pattern: of such a split: images whose paths share what this regular expression finds stay together, as
            ``datasets.split.named_groups`` says.
        difficult: keep objects flagged as difficult, let the evaluation ignore them (COCO's iscrowd), or drop them.
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
    if wanted is not None:
        check_part_names(wanted.of, target)
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
    check_part_names(positions, target)
    left_out = [*checked.left_out, *(LeftOut("image", path, "its number is in no part") for path in rest)]
    label_files = {file.resolve() for file in {entry.label_file for entry in checked.entries}}
    taken = label_files & {(out / f"{part}.json").resolve() for part in positions}
    if taken and target == "coco":
        raise DataError("it would be replaced by what is made from it", where=min(taken), fix="choose another --out")
    parts = {
        name: Dataset(tuple(images[i] for i in members), checked.categories) for name, members in positions.items()
    }
    findings = [*checked.findings, *_unplaced(rest), *lossy_fields(parts, target, out)]
    if group_pattern is not None:
        largest = max(named, key=len)
        message = (
            f"{len(images):,} images are {len(named):,} groups by the pattern '{group_pattern}', of at most "
            f"{len(largest):,} images; none was divided"
        )
        findings.append(Finding("grouped by name", "note", images[largest[0]].path, message))
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
        parts, rest = split_by_number([stem(image.path) for image in images], wanted)
        check_strips_whole(images, parts)
        return parts, [images[i].path for i in rest]
    labels = [{box.label for box in image.boxes} for image in images]
    groups = duplicates.group_ids(len(images), checked.duplicate_groups, [*frames_by_strip(images).values(), *named])
    if wanted is not None:
        return split_by_fraction(labels, wanted, groups=groups, seed=seed), []
    if folds is not None:
        return split_into_folds(labels, folds, groups=groups, seed=seed), []
    return parts_of_source(checked.entries) if checked.divided else {"all": range(len(images))}, []


def _unplaced(paths: Sequence[Path]) -> list[Finding]:
    if not paths:
        return []
    some = first_few(path.name for path in paths)
    message = f"{len(paths):,} images have a number that the split gives to no part: {some}; widen a range to use them"
    return [Finding(IN_NO_PART, "warning", paths[0], message, paths[1:])]


def _write_report(report: AuditReport, out: Path) -> None:
    write_json(out / "audit.json", report.as_dict(), indent=1)
