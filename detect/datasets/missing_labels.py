"""Labels that look missing, found without a detector: by copies, other frames of a strip, and the file names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..structures import Array, Box, Finding, Image, Xyxy, area, intersection, iou, shift_and_clip
from .duplicates import DuplicateGroup, SimilarPair
from .part_shift import Shift

MissingLabelSource = Literal["copy", "strip"]
_MAX_UNRELATED_IOU = 0.1  # IoU below which two boxes have nothing to do with each other
_MIN_COVERED_SHARE = 0.3  # share of a box, covered by labels of any class, from which on it counts as labelled
_MIN_INSIDE_SHARE = 0.5  # share of a label, within a box, from which on that box counts as labelled in part
_MAX_FRAME_GAP = 8  # frames looked at before and after one; farther, the same place is hardly in view
_MIN_VISIBLE_PX, _MIN_VISIBLE_SHARE = (
    24,
    0.8,
)  # of a side that must be in view: people don't agree on what to do with cut boxes


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

    Boxes follow the mirroring and turning that makes the images alike. A label counts as lacking if no box of any
    class reaches an IoU of 0.1 with it, no more than 0.3 of it is covered, and no box lies within it.
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

    Frames must tell where they lie on the strip (``origin_xy``), and be clean: a label that nobody could see in a
    blurred frame is not missed. A frame is asked for what other frames label if it shows four fifths of it each way,
    and two of them must.
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
    assert motion_xy is not None, "both frames are of one strip and tell their places"
    moved, _ = shift_and_clip(np.array([xyxy]), motion_xy, target.width, target.height)
    x1, y1, x2, y2 = moved[0].tolist()
    return x1, y1, x2, y2


def _shows(whole: Xyxy, left: Xyxy) -> bool:
    """Whether a frame shows so much of a place that nobody would leave it without a label for being cut."""
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


_FOLLOWED = 0.95  # share of the images, named after a class, that have a box of it
_MIN_IMAGES = 20  # images, before a habit counts as one
_RARE = 0.02  # share of images without objects, up to which each is worth a look
_TAIL = re.compile(r"[\W_]*\d+$")


def named_class(image: Image, categories: Sequence[str]) -> str | None:
    """The class that a file's name starts with, before its number, or that its folder is called by; None if neither."""
    spelt = {_plain(name): name for name in categories}
    stem = _TAIL.sub("", image.path.stem)
    return spelt.get(_plain(stem)) or spelt.get(_plain(image.path.parent.name))


def without_named_class(images: Sequence[Image], categories: Sequence[str]) -> list[tuple[int, str]]:
    """Images that lack a box of the class they are named after, where nearly all others have one, and the class."""
    told = [(i, name) for i, image in enumerate(images) if (name := named_class(image, categories))]
    odd = [(i, name) for i, name in told if all(box.label != name for box in images[i].boxes)]
    return odd if len(told) >= _MIN_IMAGES and len(odd) <= (1 - _FOLLOWED) * len(told) else []


def rarely_empty(images: Sequence[Image]) -> list[int]:
    """Images without objects, where there are hardly any."""
    empty = [i for i, image in enumerate(images) if not image.boxes]
    return empty if len(images) >= _MIN_IMAGES and len(empty) <= _RARE * len(images) else []


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
        message = f"{image.path.name} has no box at {place}, but {why} ({each.box.label}); look at both"
        boxes = (each.box.xyxy,)
        label_file = label_files[each.image]
        findings.append(Finding(MISSING, "warning", label_file, message, (other.path,), image.path, boxes))
    return findings


def check_unusual_images(
    images: Sequence[Image], label_files: Sequence[Path], categories: Sequence[str]
) -> list[Finding]:
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
