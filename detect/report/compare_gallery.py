"""The images on which two systems differ most, side by side, with the boxes of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..evaluation import Evaluated, ImageOutcome
from ..evaluation.comparison import ImageDifference, image_differences
from ..evaluation.curves import NO_DETECTIONS_THRESHOLD, best_f1
from ..evaluation.outcomes import outcomes
from ..formats.roots import image_beside
from .pictures import Picture, embed
from .tags import Corners, place_tags

_MOST = {"better": 24, "worse": 24, "mixed": 12}
_MOST_BYTES = 12_000_000


class Seen(NamedTuple):
    """One system's run on one fold, ready to be drawn: its score threshold and what it makes of each image."""

    evaluated: Evaluated
    score_threshold: float
    outcomes: tuple[ImageOutcome, ...]


class Mark(NamedTuple):
    """A box: corners in pixels, styles of the style sheet, the text of its tag (none if empty) and its CSS place."""

    xyxy: Corners
    style: str
    only: bool
    text: str
    tag: str


class Side(NamedTuple):
    """What one system makes of the image."""

    marks: tuple[Mark, ...]
    found: int
    missed: int
    false: int


class Pair(NamedTuple):
    """One image, twice: ``sides`` are of the first system and of the other.

    ``picture`` is a position in ``Pairs.pictures``, None where the file can't be read; ``categories`` are positions of
    those that they differ in.
    """

    file_name: str
    picture: int | None
    width: float
    height: float
    sides: tuple[Side, Side]
    says: str
    categories: tuple[int, ...]


class Section(NamedTuple):
    """Pairs in which the other system is "better", "worse" or both, and of how many images they are a choice."""

    key: str
    pairs: tuple[Pair, ...]
    of: int


class Pairs(NamedTuple):
    """Sections by the other system's name, the pictures they share, and why each unreadable file can't be shown."""

    sections: dict[str, tuple[Section, ...]]
    pictures: tuple[Picture, ...]
    unreadable: tuple[str, ...]


def seen(evaluated: Evaluated) -> Seen:
    """At the score threshold of its best F1 over all categories."""
    best = best_f1(evaluated)["threshold"]
    threshold = NO_DETECTIONS_THRESHOLD if best is None else float(best)
    return Seen(evaluated, threshold, outcomes(evaluated, threshold))


def differences(first: Sequence[Seen], other: Sequence[Seen]) -> list[tuple[int, ImageDifference]]:
    """(fold, difference) of all images on which they differ, those that differ most first."""
    found = [
        (fold, each)
        for fold, (a, b) in enumerate(zip(first, other))
        for each in image_differences(a.evaluated, b.evaluated, score_thresholds=(a.score_threshold, b.score_threshold))
        if each.gained or each.lost or each.false[0] != each.false[1]
    ]
    return sorted(found, key=lambda of: (-abs(of[1].net), -of[1].gained - of[1].lost))


def pairs(
    of_others: Mapping[str, Sequence[tuple[int, ImageDifference]]],
    runs: Mapping[str, Sequence[Seen]],
    images_roots: Sequence[Path],
) -> Pairs:
    """Choose, read and mark; each picture is embedded once, up to 12 MB in all.

    Args:
        of_others: ``differences`` of each system but the first.
        runs: of all systems, the first of them first; one a fold.
        images_roots: for each fold the folder that its file names start from.
    """
    first = next(iter(runs.values()))
    chosen = {(name, key): _of_kind(found, key) for name, found in of_others.items() for key in _MOST}
    pictures: list[Picture] = []
    unreadable: list[str] = []
    known: dict[tuple[int, int], int | None] = {}
    bytes_left = _MOST_BYTES
    shown: dict[tuple[str, str], list[Pair]] = {key: [] for key in chosen}
    # A round takes one image of each section, so that no section is empty when the bytes are used up.
    for rank in range(max(_MOST.values())):
        for (name, key), found in chosen.items():
            if rank >= min(_MOST[key], len(found)) or bytes_left <= 0:
                continue
            fold, difference = found[rank]
            place = fold, difference.image
            file_name = first[fold].evaluated.truth.images[difference.image].file_name
            if place not in known:
                known[place] = None
                try:
                    pictures.append(embed(image_beside(images_roots[fold], file_name)))
                    known[place] = len(pictures) - 1
                    bytes_left -= len(pictures[-1].uri)
                except DataError as error:
                    unreadable.append(f"{file_name}: {error.found}")
            index = known[place]
            both = first[fold].outcomes[difference.image], runs[name][fold].outcomes[difference.image]
            categories = first[fold].evaluated.truth.categories
            shown[name, key].append(
                _pair(both, difference, index, None if index is None else pictures[index], categories)
            )
    sections = {
        name: tuple(Section(key, tuple(shown[name, key]), len(chosen[name, key])) for key in _MOST)
        for name in of_others
    }
    return Pairs(sections, tuple(pictures), tuple(unreadable))


def _of_kind(found: Sequence[tuple[int, ImageDifference]], key: str) -> list[tuple[int, ImageDifference]]:
    sign = {"better": 1, "worse": -1, "mixed": 0}[key]
    return [each for each in found if (each[1].net > 0) - (each[1].net < 0) == sign]


def _pair(
    both: tuple[ImageOutcome, ImageOutcome],
    difference: ImageDifference,
    index: int | None,
    picture: Picture | None,
    categories: Sequence[str],
) -> Pair:
    width, height = _extent(both, picture)
    missed = [{(miss.category, miss.true_xyxy) for miss in each.misses} for each in both]
    sides = _side(both[0], missed[1], width, height), _side(both[1], missed[0], width, height)
    false = [Counter(alarm.category for alarm in each.false_alarms) for each in both]
    differing = {category for category, _ in missed[0] ^ missed[1]}
    differing |= {name for name in categories if false[0][name] != false[1][name]}
    says = []
    if difference.gained:
        says.append(f"{difference.gained} more found")
    if difference.lost:
        says.append(f"{difference.lost} no longer found" if difference.gained else f"{difference.lost} fewer found")
    if difference.false[0] != difference.false[1]:
        says.append(f"false alarms {difference.false[0]} → {difference.false[1]}")
    positions = tuple(k for k, name in enumerate(categories) if name in differing)
    return Pair(both[0].image.file_name, index, width, height, sides, ", ".join(says), positions)


def _side(outcome: ImageOutcome, only: set[Any], width: float, height: float) -> Side:
    """``only`` holds the labels that the other system misses."""
    marks = [(box, "crowd", False, "ignored") for box in outcome.crowd_xyxy]
    marks += [(hit.true_xyxy, "true", False, "") for hit in outcome.hits]
    marks += [(miss.true_xyxy, "missed", False, f"missed: {miss.category}") for miss in outcome.misses]
    marks += [
        (hit.found_xyxy, "hit", (hit.category, hit.true_xyxy) in only, f"{hit.category} {hit.score:.2f}")
        for hit in reversed(outcome.hits)
    ]
    marks += [
        (alarm.found_xyxy, "false", False, f"{alarm.category} {alarm.score:.2f}")
        for alarm in reversed(outcome.false_alarms)
    ]
    tags = place_tags(
        [mark[0] for mark in marks],
        [mark[3] for mark in marks],
        [mark[1] == "missed" for mark in marks],
        width,
        height,
    )
    drawn = tuple(Mark(*mark, tag) for mark, tag in zip(marks, tags))
    return Side(drawn, len(outcome.hits), len(outcome.misses), len(outcome.false_alarms))


def _extent(both: tuple[ImageOutcome, ImageOutcome], picture: Picture | None) -> tuple[float, float]:
    """Size of the picture if there is one, else as the labels tell it, else just around the boxes."""
    image = both[0].image
    if picture is not None:
        return picture.width, picture.height
    if image.width and image.height:
        return image.width, image.height
    boxes = [box for each in both for box in each.crowd_xyxy]
    boxes += [m.true_xyxy for each in both for m in each.misses] + [h.true_xyxy for each in both for h in each.hits]
    boxes += [h.found_xyxy for each in both for h in each.hits]
    boxes += [alarm.found_xyxy for each in both for alarm in each.false_alarms]
    return max(1.0, *(box[2] for box in boxes)), max(1.0, *(box[3] for box in boxes))
