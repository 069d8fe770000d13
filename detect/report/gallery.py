"""Which images the page shows, and the boxes on them: the best, the missed and the false."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..evaluation import ImageOutcome
from .pictures import Picture, embed
from .tags import place_tags

_MOST = {"best": 24, "missed": 120, "false": 120}
_MOST_BYTES = 12_000_000

Corners = tuple[float, float, float, float]


class BoxMark(NamedTuple):
    """A box on a picture: corners in pixels, ``style`` of the style sheet, ``text`` of its tag (none if empty).

    ``tag`` holds the CSS declarations that place the tag.
    """

    xyxy: Corners
    style: str
    text: str
    tag: str


class Card(NamedTuple):
    """One image of the gallery.

    Attributes:
        outcome: what was found, missed and false in it.
        picture: position in ``Gallery.pictures``, None where the file can't be read.
        width, height: of the coordinates that the boxes are in.
        boxes: to draw, detections last.
        categories: positions of the categories that put it into this section, for the filter.
    """

    outcome: ImageOutcome
    picture: int | None
    width: float
    height: float
    boxes: tuple[BoxMark, ...]
    categories: tuple[int, ...]


class Section(NamedTuple):
    """Cards of one kind, ``key`` "best", "missed" or "false", and of how many images they are a choice."""

    key: str
    cards: tuple[Card, ...]
    of: int


class Gallery(NamedTuple):
    """All sections, the pictures they share, and why each unreadable file can't be shown."""

    sections: tuple[Section, ...]
    pictures: tuple[Picture, ...]
    unreadable: tuple[str, ...]


def gallery(outcomes: Sequence[ImageOutcome], categories: Sequence[str], images_root: Path | None) -> Gallery:
    """Choose, read and mark. Each picture is embedded once, however many sections show it, up to 12 MB in all."""
    position = {name: k for k, name in enumerate(categories)}
    chosen = {key: _ranked(outcomes, key) for key in _MOST}
    pictures: list[Picture] = []
    unreadable: list[str] = []
    known: dict[int, int | None] = {}
    bytes_left = _MOST_BYTES
    cards: dict[str, list[Card]] = {key: [] for key in _MOST}
    # A round takes one image of each section, so that no section is empty when the bytes are used up.
    for rank in range(max(_MOST.values())):
        for key, most in _MOST.items():
            if rank >= min(most, len(chosen[key])) or bytes_left <= 0:
                continue
            outcome = chosen[key][rank]
            if id(outcome) not in known:
                known[id(outcome)] = None
                try:
                    if images_root is not None:
                        pictures.append(embed(images_root / outcome.image.file_name))
                        known[id(outcome)] = len(pictures) - 1
                        bytes_left -= len(pictures[-1].uri)
                except DataError as error:
                    unreadable.append(f"{outcome.image.file_name}: {error.found}")
            picture = known[id(outcome)]
            cards[key].append(_card(outcome, picture, None if picture is None else pictures[picture], key, position))
    sections = tuple(Section(key, tuple(cards[key]), len(chosen[key])) for key in _MOST)
    return Gallery(sections, tuple(pictures), tuple(unreadable))


def _ranked(outcomes: Sequence[ImageOutcome], key: str) -> list[ImageOutcome]:
    """The images of a section, most telling first, the classes taking turns."""
    wanted: dict[str, Callable[[ImageOutcome], bool]] = {
        "best": lambda o: bool(o.hits) and not o.misses and not o.false_alarms,
        "missed": lambda o: bool(o.misses),
        "false": lambda o: bool(o.false_alarms),
    }
    weight: dict[str, Callable[[ImageOutcome], Any]] = {
        "best": lambda o: min(h.iou for h in o.hits),
        "missed": lambda o: (len(o.misses), max(_area(m.true_xyxy) for m in o.misses)),
        "false": lambda o: o.false_alarms[0].score,
    }
    by_class: dict[str, list[ImageOutcome]] = {}
    for outcome in sorted(filter(wanted[key], outcomes), key=weight[key], reverse=True):
        by_class.setdefault(_about(outcome, key)[0], []).append(outcome)
    queues = list(by_class.values())
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def _about(outcome: ImageOutcome, key: str) -> list[str]:
    """The categories that put an image into a section."""
    names = {
        "best": [hit.category for hit in outcome.hits],
        "missed": [miss.category for miss in outcome.misses],
        "false": [alarm.category for alarm in outcome.false_alarms],
    }[key]
    return list(dict.fromkeys(names))


def _card(
    outcome: ImageOutcome, index: int | None, picture: Picture | None, key: str, position: dict[str, int]
) -> Card:
    width, height = _extent(outcome, picture)
    marks = [(box, "crowd", "ignored") for box in outcome.crowd_xyxy]
    marks += [(hit.true_xyxy, "true", "") for hit in outcome.hits]
    marks += [(miss.true_xyxy, "missed", f"missed: {miss.category}") for miss in outcome.misses]
    marks += [(hit.found_xyxy, "hit", f"{hit.category} {hit.score:.2f}") for hit in reversed(outcome.hits)]
    marks += [(a.found_xyxy, "false", f"{a.category} {a.score:.2f}") for a in reversed(outcome.false_alarms)]
    boxes, styles, texts = zip(*marks)  # an image without any box is in no section
    tags = place_tags(boxes, texts, [style == "missed" for style in styles], width, height)
    drawn = tuple(BoxMark(*mark, tag) for mark, tag in zip(marks, tags))
    return Card(outcome, index, width, height, drawn, tuple(position[name] for name in _about(outcome, key)))


def _extent(outcome: ImageOutcome, picture: Picture | None) -> tuple[float, float]:
    """Size of the picture if there is one, else as the labels tell it, else just around the boxes."""
    if picture is not None:
        return picture.width, picture.height
    if outcome.image.width and outcome.image.height:
        return outcome.image.width, outcome.image.height
    boxes = [*outcome.crowd_xyxy, *(m.true_xyxy for m in outcome.misses), *(h.true_xyxy for h in outcome.hits)]
    boxes += [h.found_xyxy for h in outcome.hits] + [a.found_xyxy for a in outcome.false_alarms]
    return max(1.0, *(b[2] for b in boxes)), max(1.0, *(b[3] for b in boxes))


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
