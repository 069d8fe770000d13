"""What is wrong in a data set: boxes, class names, duplicates, borders, missing labels; findings and tables."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..images import likely_white
from ..structures import Array, Box, Finding, Image, Xyxy, area, intersection, iou, shift_and_clip
from .duplicates import DuplicateGroup, Fingerprint, SimilarPair
from .part_shift import Shift, fisher_exact_p, sign_test_p
from .reading import TOLERANCE

if TYPE_CHECKING:
    from rich.console import Group


def check_boxes(image: Image, label_file: Path, known: Collection[str] | None) -> list[tuple[int, Finding]]:
    """Judge each box against its image and against the boxes before it.

    Args:
        image: with its size from the header.
        label_file: the file that findings name.
        known: category names that are allowed; None allows all.

    Returns:
        Pairs of the box's position in ``image.boxes`` and what is wrong with it.
    """
    found: list[tuple[int, Finding]] = []

    def add(kind: str, severity: Literal["error", "warning"], says: str) -> None:
        message = f"box {i + 1} ({box.label}) of {image.path.name}{says}"
        found.append((i, Finding(kind, severity, label_file, message, image=image.path, boxes_xyxy=(box.xyxy,))))

    earlier: dict[Xyxy, tuple[int, str]] = {}
    for i, box in enumerate(image.boxes):
        if known is not None and box.label not in known:
            add("unknown class", "error", f": {_unknown(box.label, known)}")
        wrong = _geometry(box, image)
        if wrong:
            kind, message = wrong
            add(kind, "error", f" {message}; correct or remove it")
        if box.xyxy in earlier:
            first, label = earlier[box.xyxy]
            if label == box.label:
                kind, message = "duplicate box", f"repeats box {first + 1} exactly; remove one"
            else:
                kind, message = "two classes on one box", f"covers exactly box {first + 1}, a {label}; decide for one"
            add(kind, "warning", f" {message}")
        else:
            earlier[box.xyxy] = i, box.label
    return found


def _geometry(box: Box, image: Image) -> tuple[str, str] | None:
    x1, y1, x2, y2 = box.xyxy
    if x2 > x1 and y2 > y1 and x1 >= 0 and y1 >= 0 and x2 <= image.width and y2 <= image.height:
        return None
    span = f"spans x {x1:g} to {x2:g} and y {y1:g} to {y2:g}"
    if x2 < x1 or y2 < y1:
        return "inverted box", f"{span}, so it ends before it begins"
    if x2 == x1 or y2 == y1:
        return "empty box", f"{span}, so it has no area"
    low, right, bottom = -TOLERANCE, image.width + TOLERANCE, image.height + TOLERANCE
    if x1 < low or y1 < low or x2 > right or y2 > bottom:
        return "box outside image", f"{span} (counted from 0), outside its {image.width} x {image.height} pixels"
    return None


def _unknown(label: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(label, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"class {label!r} is none of {', '.join(known)}{hint or '; correct it or add it to the list'}"


SHORT = "boxes stop short of a border"
_TOUCHING, _NEAR, _FAR = 0.5, 3.5, 6.5  # pixels from the border: ends of ranges of three whole pixels each
_MIN_GROUPS_AT_BORDER, _MIN_SHARE_DIFFERENCE, _MAX_P_VALUE = 20, 0.2, 1e-4
_ACROSS = (("left", "right"), ("upper", "lower"))


@dataclass(frozen=True, slots=True)
class BorderCounts:
    """Images, or groups of them, by where their boxes end before one border.

    Attributes:
        near: those with a box that ends within 3.5 pixels of it.
        touching: those of them with a box that ends within half a pixel.
        short: those with a box that ends 0.5 to 3.5 pixels before it, and none 3.5 to 6.5.
        beyond: the other way round; as many by chance, however many boxes an image has.
    """

    near: int
    touching: int
    short: int
    beyond: int

    @property
    def share(self) -> float:
        """Of those near the ones that touch."""
        return self.touching / max(self.near, 1)


def stops_short(side: BorderCounts, other: BorderCounts) -> bool:
    """Whether boxes end just before a border, while they touch the opposite one.

    They touch it less often, by 20 % of the images or more, and more of them end just before it than a little farther
    away, both with p below 1e-4; each border needs 20 images or more with a box near it.
    """
    if min(side.near, other.near) < _MIN_GROUPS_AT_BORDER or other.share - side.share < _MIN_SHARE_DIFFERENCE:
        return False
    uneven = fisher_exact_p((side.touching, other.touching), (side.near, other.near)) < _MAX_P_VALUE
    return uneven and sign_test_p(side.short, side.short + side.beyond) < _MAX_P_VALUE


def border_counts(images: Sequence[Image], groups: Sequence[int]) -> dict[str, BorderCounts]:
    """By "left", "right", "upper" and "lower", how boxes end there; pre-annotations and crowd regions don't count.

    Args:
        images: with their boxes.
        groups: a number per image; those that share one (frames of a strip, copies) count once.
    """
    gaps: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for pair in _ACROSS for name in pair}
    for image, group in zip(images, groups):
        for box in image.boxes:
            if box.crowd or box.score is not None:
                continue
            x1, y1, x2, y2 = box.xyxy
            for name, gap in zip(gaps, (x1, image.width - x2, y1, image.height - y2)):
                gaps[name][group].append(gap)
    return {name: _counted(list(of_groups.values())) for name, of_groups in gaps.items()}


def check_borders(images: Sequence[Image], place: Path, groups: Sequence[int]) -> list[Finding]:
    """A warning if the boxes of a data set touch one border of the images and stop short of the one across.

    Causes: a tool that counts pixels from 0 where another counts from 1 shifts all boxes by one, a tool leaves out the
    last pixel of each box, or never reaches the last pixel of the image. Only boxes at borders show this.

    Args:
        images: of one data set.
        place: the file or folder that holds their labels.
        groups: as for ``border_counts``.
    """
    found = border_counts(images, groups)
    uneven = [
        f"the {low} border in {100 * found[low].share:.0f} % and the {high} one in {100 * found[high].share:.0f} %"
        for low, high in _ACROSS
        if stops_short(found[low], found[high]) or stops_short(found[high], found[low])
    ]
    if not uneven:
        return []
    message = (
        f"of the images with a box within 3.5 px of a border, it touches {', '.join(uneven)}: boxes may be "
        "offset by a pixel, lack their last pixel, or avoid the image's; a detector trained on them shows which "
        "(docs/data.md)"
    )
    return [Finding(SHORT, "warning", place, message)]


def _counted(gaps: Sequence[Sequence[float]]) -> BorderCounts:
    nearest = [min(each) for each in gaps]
    short = [any(_TOUCHING <= gap < _NEAR for gap in each) for each in gaps]
    beyond = [any(_NEAR <= gap < _FAR for gap in each) for each in gaps]
    return BorderCounts(
        near=sum(gap < _NEAR for gap in nearest),
        touching=sum(gap < _TOUCHING for gap in nearest),
        short=sum(one and not other for one, other in zip(short, beyond)),
        beyond=sum(other and not one for one, other in zip(short, beyond)),
    )


MissingLabelSource = Literal["copy", "strip"]
_MAX_UNRELATED_IOU = 0.1  # IoU below which two boxes have nothing to do with each other
_MIN_COVERED_SHARE = 0.3  # share of a box, covered by labels of any class, from which on it counts as labelled
_MIN_INSIDE_SHARE = 0.5  # share of a label, within a box, from which on that box counts as labelled in part
_MAX_FRAME_GAP = 8  # frames compared before and after one; farther, the same place is rarely in view
# Of a side that must be in view: annotators don't agree on what to do with cut boxes.
_MIN_VISIBLE_PX, _MIN_VISIBLE_SHARE = 24, 0.8


@dataclass(frozen=True, slots=True)
class MissingLabel:
    """A place without a label that is labelled where it is seen again.

    Attributes:
        source: "copy": the image is a near-duplicate of another; "strip": other frames of its strip show the place.
        image: position of the image that lacks the label.
        box: what the label would be.
        other: position of an image that has it.
        other_box: the label there.
        seen, labelled: images that show the place, and those of them that label it.
    """

    source: MissingLabelSource
    image: int
    box: Box
    other: int
    other_box: Box
    seen: int = 1
    labelled: int = 1


def missing_in_duplicates(images: Sequence[Image], duplicate_groups: Sequence[DuplicateGroup]) -> list[MissingLabel]:
    """Labels that one of two near-duplicates has and the other lacks; each place once.

    Boxes are transformed as the link says. A label is missing if no box of any class reaches an IoU of 0.1 with it, no
    more than 0.3 of it is covered, and no box is within it.
    """
    found: dict[int, list[MissingLabel]] = defaultdict(list)
    for link in (link for group in duplicate_groups for link in group.links):
        for image, other, box, place in _both_ways(link, images):
            if _unlabelled(place, images[image].boxes) and _unlabelled(place, [each.box for each in found[image]]):
                label = Box(box.label, place)
                found[image].append(MissingLabel("copy", image, label, other, box))
    return [each for of_image in found.values() for each in of_image]


def inverse_transform_box(xyxy: Xyxy, transform: int, size_wh: tuple[int, int], target_wh: tuple[int, int]) -> Xyxy:
    """A box of a link's second image, where the first shows the same.

    Args:
        xyxy: in pixels of the second.
        transform: as ``SimilarPair.transform``.
        size_wh: of the second image.
        target_wh: of the first.
    """
    (x1, x2), (y1, y2) = ((xyxy[k] / size_wh[k], xyxy[k + 2] / size_wh[k]) for k in (0, 1))
    if transform & 1:
        x1, x2 = 1 - x2, 1 - x1
    if transform & 2:
        y1, y2 = 1 - y2, 1 - y1
    if transform & 4:
        x1, x2, y1, y2 = y1, y2, x1, x2
    width, height = target_wh
    return x1 * width, y1 * height, x2 * width, y2 * height


def transform_box(xyxy: Xyxy, transform: int, size_wh: tuple[int, int], target_wh: tuple[int, int]) -> Xyxy:
    """A box of a link's first image, where the second shows the same; arguments as ``inverse_transform_box``."""
    if transform & 4:  # undone first, and it swaps what the two mirrorings mean
        transform = 4 | (transform & 1) << 1 | (transform & 2) >> 1
    return inverse_transform_box(xyxy, transform, size_wh, target_wh)


def missing_in_strips(images: Sequence[Image]) -> list[MissingLabel]:
    """Places of a strip that most frames which show them label, and one doesn't.

    Only clean frames with a known place (``origin_xy``) count: a defect that nobody can see in a blurred frame needs no
    label. A frame lacks a label if it shows 80 % of the box along each side and two or more other frames have it.
    """
    strips: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, image in enumerate(images):
        if image.frame and image.frame.origin_xy is not None and image.frame.condition == "clean":
            strips[image.frame.strip].append((image.frame.number, i))
    found: list[MissingLabel] = []
    for frames in strips.values():
        positions = [i for _, i in sorted(frames)]
        for k, i in enumerate(positions):
            others = positions[max(0, k - _MAX_FRAME_GAP) : k] + positions[k + 1 : k + 1 + _MAX_FRAME_GAP]
            found += _missing_in_frame(images, i, others)
    return found


def _missing_in_frame(images: Sequence[Image], i: int, others: Sequence[int]) -> list[MissingLabel]:
    found: list[MissingLabel] = []
    seen = [
        (j, box, _shifted_box(images[j], box.xyxy, images[i]))
        for j in others
        for box in images[j].boxes
        if not box.crowd
    ]
    seen = [each for each in seen if _shows(each[1].xyxy, each[2]) and _unlabelled(each[2], images[i].boxes)]
    for j, box, place in sorted(seen, key=lambda each: -float(area(np.array(each[2])))):  # the most of it first
        if not _unlabelled(place, [each.box for each in found]):
            continue
        views = {o: there for o in others if _shows(place, there := _shifted_box(images[i], place, images[o]))}
        labelled = sum(not _unlabelled(there, images[o].boxes) for o, there in views.items())
        if labelled >= 2 and 2 * labelled > len(views) + 1:  # the frame itself is one that doesn't label it
            found.append(MissingLabel("strip", i, Box(box.label, place), j, box, len(views) + 1, labelled))
    return found


def _shifted_box(source: Image, xyxy: Xyxy, target: Image) -> Xyxy:
    motion_xy = target.frame.motion_since(source.frame) if source.frame and target.frame else None
    assert motion_xy is not None, "both frames are of one strip and have known places"
    moved, _ = shift_and_clip(np.array([xyxy]), motion_xy, target.width, target.height)
    x1, y1, x2, y2 = moved[0].tolist()
    return x1, y1, x2, y2


def _shows(whole: Xyxy, left: Xyxy) -> bool:
    """Whether a frame shows enough of a place for annotators to label it although it is cut."""
    pairs = ((left[k + 2] - left[k], whole[k + 2] - whole[k]) for k in (0, 1))
    return all(shown >= min(_MIN_VISIBLE_PX, side) and shown >= _MIN_VISIBLE_SHARE * side for shown, side in pairs)


def _both_ways(link: SimilarPair, images: Sequence[Image]) -> Iterator[tuple[int, int, Box, Xyxy]]:
    """(image, other, label of the other, its place in the image) of all labels of both."""
    first, second = images[link.first], images[link.second]
    sizes = (first.width, first.height), (second.width, second.height)
    for box in second.boxes:
        if not box.crowd:
            yield link.first, link.second, box, inverse_transform_box(box.xyxy, link.transform, sizes[1], sizes[0])
    for box in first.boxes:
        if not box.crowd:
            yield link.second, link.first, box, transform_box(box.xyxy, link.transform, sizes[0], sizes[1])


def _unlabelled(place: Xyxy, boxes: Sequence[Box]) -> bool:
    if not boxes:
        return True
    here: Array = np.array([place], float)
    there: NDArray[np.float64] = np.array([box.xyxy for box in boxes], float)
    shared = intersection(here, there)[0]
    covered = float(shared.sum()) / max(float(area(here)[0]), 1e-9)
    inside = float((shared / np.maximum(area(there), 1e-9)).max())
    return bool(
        iou(here, there).max() < _MAX_UNRELATED_IOU and covered <= _MIN_COVERED_SHARE and inside < _MIN_INSIDE_SHARE
    )


_MIN_NAMED_SHARE = 0.95  # of the images that are named after a class, those that have a box of it
_MIN_IMAGES = 20  # fewer show no rule
_MAX_EMPTY_SHARE = 0.02  # share of images without objects, up to which each is reported
_TAIL = re.compile(r"[\W_]*\d+$")


def named_class(image: Image, categories: Sequence[str]) -> str | None:
    """The class that a file's name starts with, before its number, or that its folder is called by; None if neither."""
    spelt = {_plain(name): name for name in categories}
    stem = _TAIL.sub("", image.path.stem)
    return spelt.get(_plain(stem)) or spelt.get(_plain(image.path.parent.name))


def without_named_class(images: Sequence[Image], categories: Sequence[str]) -> list[tuple[int, str]]:
    """Images that lack a box of the class they are named after, where nearly all others have one, and the class."""
    named = [(i, name) for i, image in enumerate(images) if (name := named_class(image, categories))]
    odd = [(i, name) for i, name in named if all(box.label != name for box in images[i].boxes)]
    return odd if len(named) >= _MIN_IMAGES and len(odd) <= (1 - _MIN_NAMED_SHARE) * len(named) else []


def rarely_empty(images: Sequence[Image]) -> list[int]:
    """Images without objects, where there are hardly any."""
    empty = [i for i, image in enumerate(images) if not image.boxes]
    return empty if len(images) >= _MIN_IMAGES and len(empty) <= _MAX_EMPTY_SHARE * len(images) else []


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


MISSING, DIFFER = "label looks missing", "parts differ"


def check_missing_labels(
    missing: Sequence[MissingLabel], images: Sequence[Image], label_files: Sequence[Path]
) -> list[Finding]:
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
        message = f"{image.path.name} has no box at {place}, but {why} ({each.box.label}); compare both"
        boxes = (each.box.xyxy,)
        label_file = label_files[each.image]
        findings.append(Finding(MISSING, "warning", label_file, message, (other.path,), image.path, boxes))
    return findings


def check_unusual_images(
    images: Sequence[Image], label_files: Sequence[Path], categories: Sequence[str]
) -> list[Finding]:
    """A warning for each image without the class it is named after, or without any, where nearly all others have it."""
    findings = []
    empty = rarely_empty(images)
    for i in empty:
        path = images[i].path
        number = "this one" if len(empty) == 1 else f"{len(empty)}"
        message = (
            f"{path.name} has no object, as only {number} of {len(images):,} images; check whether labels are missing"
        )
        findings.append(Finding(MISSING, "warning", label_files[i], message, image=path))
    for i, name in without_named_class(images, categories):
        if i not in empty:
            path = images[i].path
            message = f"{path.name} has no box of {name}, the class it is named after, as most others have; check it"
            findings.append(Finding(MISSING, "warning", label_files[i], message, image=path))
    return findings


def check_shifts(shifts: Sequence[Shift], places: Mapping[str, Path]) -> list[Finding]:
    """A warning for each statistically significant difference between parts.

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


SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of the source that is in no part.

    Attributes:
        what: an image with all its boxes, one box, or a label file.
        path: the image or label file.
        reason: why, in words.
    """

    what: Literal["image", "box", "label file"]
    path: Path
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"what": self.what, "path": str(self.path), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class PartCounts:
    """Counts of one part; ``per_class`` counts boxes and the images that have any of the class."""

    images: int
    images_without_objects: int
    boxes: int
    difficult: int
    crowd: int
    per_class: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, images: Sequence[Image], categories: Sequence[str]) -> PartCounts:
        """Count ``images``; every category is listed, also where it counts 0."""
        boxes = Counter(box.label for image in images for box in image.boxes)
        having = Counter(label for image in images for label in {box.label for box in image.boxes})
        return cls(
            images=len(images),
            images_without_objects=sum(not image.boxes for image in images),
            boxes=boxes.total(),
            difficult=sum(box.difficult for image in images for box in image.boxes),
            crowd=sum(box.crowd for image in images for box in image.boxes),
            per_class={name: {"images": having[name], "boxes": boxes[name]} for name in categories},
        )


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        parts: counts by name of part.
        findings: errors first, then warnings, then notes.
        left_out: what of the source is in no part, and why.
        images: all that could be read; what follows counts their positions.
        members: positions of the images by part, each where it is judged.
        duplicate_groups: images that show the same.
        similar_pairs: the most similar pairs that count as different scenes.
        missing: labels that copies and other frames of a strip have.
        shifts: every comparison of two parts, the smallest p-value first.
    """

    parts: Mapping[str, PartCounts]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    images: tuple[Image, ...] = ()
    members: Mapping[str, Sequence[int]] = field(default_factory=dict)
    duplicate_groups: tuple[DuplicateGroup, ...] = ()
    similar_pairs: tuple[SimilarPair, ...] = ()
    missing: tuple[MissingLabel, ...] = ()
    shifts: tuple[Shift, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a conversion."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``schema``, ``parts``, ``counts`` of findings by kind, and lists of all the others."""
        return {
            "schema": SCHEMA,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "counts": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [finding.as_dict() for finding in self.findings],
            "left_out": [item.as_dict() for item in self.left_out],
            "shifts": [shift.as_dict() for shift in self.shifts],
            "duplicates": [self._pair(link) for group in self.duplicate_groups for link in group.links],
            "similar_pairs": [self._pair(link) for link in self.similar_pairs],
        }

    def _pair(self, link: SimilarPair) -> dict[str, Any]:
        paths = [str(self.images[i].path) for i in (link.first, link.second)]
        return {
            "images": paths,
            "similarity": round(link.similarity, 4),
            "exact": link.exact,
            "transformed": link.transform > 0,
        }


_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}


def audit_table(report: AuditReport, *, each: int = 3, every_error: int = 50) -> Group:
    """Two tables for rich's ``Console.print``: boxes by class and part, and findings by kind.

    Args:
        report: what to show.
        each: examples shown of a kind of warning or note; the rest is counted.
        every_error: examples shown of a kind of error.
    """
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    blocks: list[RenderableType] = []
    if report.parts:
        counts = Table(title="Boxes", title_justify="left")
        counts.add_column("class")
        for part in report.parts:
            counts.add_column(part, justify="right")
        labels = dict.fromkeys(label for part in report.parts.values() for label in part.per_class)
        for label in labels:
            row = [part.per_class.get(label, {}).get("boxes", 0) for part in report.parts.values()]
            counts.add_row(Text(_printable(label)), *map(_grouped, row))
        counts.add_section()
        counts.add_row("all boxes", *(_grouped(part.boxes) for part in report.parts.values()), style="bold")
        counts.add_row("images", *(_grouped(part.images) for part in report.parts.values()), style="bold")
        empty = [part.images_without_objects for part in report.parts.values()]
        if any(empty):
            counts.add_row("images without objects", *map(_grouped, empty))
        blocks.append(counts)

    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        kinds[finding.severity, finding.kind].append(finding)
    if kinds:
        table = Table(title="Findings", title_justify="left", show_lines=True)
        for column in ("", "kind", "count"):
            table.add_column(column, justify="right" if column == "count" else "left")
        table.add_column("where and what", overflow="fold")
        for (severity, kind), group in kinds.items():
            shown = every_error if severity == "error" else each
            lines = [f"{finding.path}: {finding.message}" for finding in group[:shown]]
            if len(group) > shown:
                lines.append(f"and {_grouped(len(group) - shown)} more")
            style = _STYLE[severity]
            table.add_row(Text(severity, style), Text(kind), _grouped(len(group)), Text(_printable("\n".join(lines))))
        blocks.append(table)
    else:
        blocks.append(Text("No findings."))
    if report.left_out:
        amounts = Counter(item.what for item in report.left_out)
        listed = ", ".join(f"{what}: {_grouped(amount)}" for what, amount in sorted(amounts.items()))
        blocks.append(Text(f"Left out, each with its reason in audit.json: {listed}"))
    return Group(*blocks)


def _printable(text: str) -> str:
    """Without what a terminal can't show, such as file names in another encoding."""
    return text.encode(errors="backslashreplace").decode()


def _grouped(number: int) -> str:
    return f"{number:,}"


def check_names(names: Collection[str], label_file: Path) -> list[Finding]:
    """Class names that differ only in capitals, spaces, hyphens or underscores: most likely one class."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        spellings[_plain(name) or name].append(name)
    return [
        Finding(
            "similar class names",
            "warning",
            label_file,
            f"the classes {' and '.join(map(repr, group))} count as different; if they are one, use one spelling",
        )
        for group in spellings.values()
        if len(group) > 1
    ]


def check_pre_annotations(images: Sequence[tuple[Image, Path]]) -> list[Finding]:
    """A note if boxes carry a score: a detector has pre-annotated them.

    Args:
        images: each with its label file.
    """
    number = sum(box.score is not None for image, _ in images for box in image.boxes)
    files = list(dict.fromkeys(file for image, file in images if any(box.score is not None for box in image.boxes)))
    if not files:
        return []
    message = f"{number:,} boxes carry a score, as pre-annotations of a detector do; correct them before training"
    return [Finding("pre-annotated boxes", "note", files[0], message, files[1:])]


def check_no_objects(image: Image, label_file: Path) -> list[Finding]:
    """A note for an image without objects, which is kept: it shows what is no defect."""
    if image.boxes:
        return []
    message = f"{image.path.name} has no object; it is kept as an image without defects"
    return [Finding("image without objects", "note", label_file, message)]


def check_duplicates(
    duplicate_groups: Sequence[DuplicateGroup], paths: Sequence[Path], part_of: Mapping[int, str]
) -> list[Finding]:
    """A finding for each group of duplicates.

    A warning if its members are in different parts, as a detector is then evaluated on what it was trained on, and for
    exact copies; a note for near-duplicates within one part.

    Args:
        duplicate_groups: groups, by position in ``paths``.
        paths: the image files.
        part_of: position -> name of the part; positions in no part are left out.
    """
    findings: list[Finding] = []
    for group in duplicate_groups:
        first, *rest = group.members
        turned = ", mirrored or turned," if group.transformed else ""
        what = "equal pixels" if group.exact else f"the same scene{turned} (similarity {group.similarity:.2f})"
        parts = sorted({part_of[i] for i in group.members if i in part_of})
        others = tuple(paths[i] for i in rest)
        listed = ", ".join(path.name for path in others[:5]) + (", ..." if len(others) > 5 else "")
        severity: Literal["warning", "note"] = "warning" if group.exact or len(parts) > 1 else "note"
        if len(parts) > 1:
            kind, advice = "duplicate across parts", f"they are in {' and '.join(parts)}; put them into one part"
        else:
            kind = "duplicate image" if group.exact else "near-duplicate image"
            advice = "compare the labels and keep one" if group.exact else "check them; splits keep them together"
        findings.append(Finding(kind, severity, paths[first], f"{what} as {listed}; {advice}", others))
    return findings


def check_depth(images: Sequence[Image], prints: Sequence[Fingerprint]) -> list[Finding]:
    """A note if the brightest of the 16-bit images shows a camera of fewer bits, which training has to know."""
    deep = [(each.brightest, image.path) for each, image in zip(prints, images) if each.brightest is not None]
    brightest, path = max(deep, default=(0, Path()))
    white = likely_white(brightest)
    if not deep or white == 2**16 - 1:
        return []
    message = (
        f"the {len(deep):,} 16-bit images go up to {brightest:,}, as those of a camera of {white.bit_length()} bits "
        f"do; train with data.max_value={white}, else 65,535 counts as white"
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
