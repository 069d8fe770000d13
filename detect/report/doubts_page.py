"""doubts.html: a card for each doubt, with a crop of its picture; nothing on the page comes from outside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..evaluation.doubts import Doubt
from ..images import read_image
from . import wording
from .crops import Corners, Crop, crop_around
from .doubt_words import counts, file_of, in_words
from .template import named, render

_MOST_BYTES = 12_000_000  # of pictures in the page


class Card(NamedTuple):
    """A doubt on the page: its crop, None if the picture can't be read, and the other labels near it."""

    doubt: Doubt
    words: str
    crop: Crop | None
    others: tuple[Corners, ...]

    @property
    def extent(self) -> Crop:
        """What to show without a picture: the image as the labels tell its size, else just around the boxes."""
        image = self.doubt.image
        boxes = [self.doubt.box_xyxy, *([self.doubt.label_xyxy] if self.doubt.label_xyxy else [])]
        width, height = (max(1, ceil(max(box[k] for box in boxes))) for k in (2, 3))
        return Crop("", 0, 0, image.width or width, image.height or height)


def to_html(
    doubts: Sequence[Doubt],
    truth: dict[str, Any],
    *,
    pictures: Mapping[Any, Path],
    meta: dict[str, Any],
    warnings: Sequence[str] = (),
) -> str:
    """Render doubts.html with its style sheet and script inlined; whatever came from outside is escaped."""
    cards = _cards(doubts, truth, pictures)
    return render(
        "doubts.html",
        named(wording.count, wording.plural) | {"file": file_of},
        cards=cards,
        counts=counts(doubts),
        classes=sorted({doubt.category for doubt in doubts}),
        labels=len(truth["annotations"]),
        images=len(truth["images"]),
        without=sum(card.crop is None for card in cards),
        stretched=any(card.crop is not None and card.crop.stretched for card in cards),
        meta=[(key, str(value)) for key, value in meta.items() if value is not None],
        warnings=warnings,
    )


def _cards(doubts: Sequence[Doubt], truth: dict[str, Any], pictures: Mapping[Any, Path]) -> list[Card]:
    labels: dict[Any, list[tuple[int, Corners]]] = defaultdict(list)
    for row, annotation in enumerate(truth["annotations"]):
        x, y, width, height = annotation["bbox"]
        labels[annotation["image_id"]].append((row, (x, y, x + width, y + height)))
    cards, room = [], _MOST_BYTES
    for doubt in doubts:
        crop = _crop(doubt, pictures) if room > 0 else None
        room -= len(crop.uri) if crop else 0
        others = tuple(box for row, box in labels[doubt.image.id] if row != doubt.label)
        cards.append(Card(doubt, in_words(doubt), crop, others))
    return cards


def _crop(doubt: Doubt, pictures: Mapping[Any, Path]) -> Crop | None:
    if doubt.image.id not in pictures:
        return None
    try:
        pixels = read_image(pictures[doubt.image.id])
    except DataError:
        return None
    return crop_around(pixels, [doubt.box_xyxy, *([doubt.label_xyxy] if doubt.label_xyxy else [])])
