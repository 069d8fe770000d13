"""Label issues for those who can fix them: a page of crops, a table, and COCO for an annotation tool."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from ..datasets import coco
from ..datasets.image_finder import common_folder, leads_out
from ..datasets.paths import references, relative, remember
from ..errors import DataError
from ..evaluation.label_issues import REASONS, Doubt
from ..images import read_image
from . import tables as wording
from .page import named, render, write_page
from .tables import markdown_table, plain_text
from .thumbnails import Corners, Crop, crop_around

_LEAST_MOVE_PX = 2.0
_EDGES = ("left", "top", "right", "bottom")
_DIRECTIONS = (("left", "right"), ("up", "down"), ("left", "right"), ("up", "down"))  # less and more, by edge
_MEANINGS = {
    "missing": "a detection where no label is",
    "wrong class": "a detection of another class on the label",
    "badly drawn": "a detection of its class that covers it in part",
    "not found": "no detection at any score",
}


def in_words(doubt: Doubt) -> str:
    """What is doubtful, and what to do, in a sentence."""
    found = "" if doubt.detection_score is None else f"{doubt.category} is detected with {doubt.detection_score:.2f}"
    if doubt.reason == "missing":
        return f"{found}, and no label is there"
    if doubt.reason == "wrong class":
        return f"labelled {doubt.label_category}, but {found} (IoU {doubt.iou:.2f})"
    if doubt.reason == "not found":
        usual = wording.percent(doubt.score)
        return (
            f"nothing is detected there at any score, though of labels like this one {usual} are found with confidence"
        )
    return f"{found}, IoU {doubt.iou:.2f}: {moves(doubt)}"


def moves(doubt: Doubt) -> str:
    """How the edges of a badly drawn label would move to the detection, in pixels, the furthest first.

    Edges that move by less than 2 pixels, or a quarter of the furthest, are left out.
    """
    assert doubt.label_xyxy is not None
    offsets = [new - old for new, old in zip(doubt.box_xyxy, doubt.label_xyxy)]
    least = max(_LEAST_MOVE_PX, max(map(abs, offsets)) / 4)
    falling = sorted((k for k in range(4) if abs(offsets[k]) >= least), key=lambda k: -abs(offsets[k]))
    return ", ".join(f"{_EDGES[k]} edge {abs(offsets[k]):.0f} px {_DIRECTIONS[k][offsets[k] > 0]}" for k in falling)


def counts(doubts: Sequence[Doubt]) -> list[tuple[str, int, str]]:
    """(reason, how many, what it means) of all reasons."""
    number = Counter(doubt.reason for doubt in doubts)
    return [(reason, number[reason], _MEANINGS[reason]) for reason in REASONS]


def file_of(doubt: Doubt) -> str:
    """The image's file without its folders."""
    return doubt.image.file_name.replace("\\", "/").rpartition("/")[2]


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


class DoubtPaths(NamedTuple):
    """Where the files lie."""

    html: Path
    markdown: Path
    coco: Path


def write_doubts(
    doubts: Sequence[Doubt],
    truth: dict[str, Any],
    out: Path,
    *,
    pictures: Mapping[Any, Path],
    meta: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> DoubtPaths:
    """Write doubts.html, doubts.md and doubts.json into the folder ``out``.

    Args:
        doubts: the surest first.
        truth: the COCO data set that they are about.
        out: made if it is not there; files of an earlier call are replaced.
        pictures: image id -> file; an image without a readable one is shown by its boxes alone.
        meta: where it comes from; plain JSON values, shown in the order given.
        warnings: sentences that a reader has to know.

    Raises:
        DataError: the folder can't be written to.
    """
    meta = meta or {}
    contents = {
        "doubts.html": to_html(doubts, truth, pictures=pictures, meta=meta, warnings=warnings),
        "doubts.md": to_markdown(doubts, truth, meta=meta, warnings=warnings),
        "doubts.json": json.dumps(to_coco(doubts, truth, pictures=pictures, out=out), indent=1, allow_nan=False) + "\n",
    }
    try:
        for name, text in contents.items():
            write_page(out / name, text)
    except OSError as error:
        found = f"the doubts can't be written ({error.strerror})"
        raise DataError(found, where=out, fix="choose a folder that can be written to") from None
    remember((pictures or {}).values(), out)
    return DoubtPaths(*(out / name for name in contents))


def to_coco(
    doubts: Sequence[Doubt],
    truth: dict[str, Any],
    *,
    pictures: Mapping[Any, Path] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """COCO with the proposed boxes as annotations, by rank, and the images they are in.

    Ids are the truth's; where one of its categories has id 0, which CVAT takes for no label, all are one higher.
    Images have the names that they have there, unless one leads out of its folder or is absolute: annotation tools know
    no such name, so then all are told from the folder that holds them. Either way ``image_root`` in ``info`` tells
    where names start from, as seen from ``out``.

    Beyond COCO's own keys each annotation has ``rank``, ``reason``, ``score``, ``note``, ``detection_score``,
    ``label_id``, ``label_category_id``, ``label_bbox`` and ``iou`` (null where there is none), and under
    ``attributes``, which annotation tools show, reason and note.
    """
    shift = int(any(each["id"] == 0 for each in truth["categories"]))
    ids = {str(each.get("name", each["id"])): _shifted(each["id"], shift) for each in truth["categories"]}
    annotations = []
    for rank, doubt in enumerate(doubts, start=1):
        label = None if doubt.label is None else truth["annotations"][doubt.label]
        x1, y1, x2, y2 = (round(value, 2) for value in doubt.box_xyxy)
        size = [round(x2 - x1, 2), round(y2 - y1, 2)]
        note = in_words(doubt)
        annotations.append(
            {
                "id": rank,
                "image_id": doubt.image.id,
                "category_id": ids[doubt.category],
                "bbox": [x1, y1, *size],
                "area": round(size[0] * size[1], 2),
                "iscrowd": 0,
                "segmentation": [],
                "rank": rank,
                "reason": doubt.reason,
                "score": round(doubt.score, 4),
                "note": note,
                "detection_score": doubt.detection_score,
                "label_id": None if label is None else label.get("id"),
                "label_category_id": None if label is None else _shifted(label["category_id"], shift),
                "label_bbox": None if label is None else list(label["bbox"]),
                "iou": doubt.iou,
                "attributes": {"reason": doubt.reason, "note": note},
            }
        )
    doubted = {doubt.image.id for doubt in doubts}
    names, root = _names(truth, pictures or {})
    told = {} if root is None or out is None else {coco.IMAGE_ROOT: relative(root, out).as_posix()}
    return {
        "info": {"description": "Doubtful labels: what a detector proposes in their place", **told},
        "images": [{**each, "file_name": names[each["id"]]} for each in truth["images"] if each["id"] in doubted],
        "annotations": annotations,
        "categories": [{**each, "id": _shifted(each["id"], shift)} for each in truth["categories"]],
    }


def _shifted(category_id: Any, shift: int) -> Any:
    return category_id + shift if shift else category_id


def _names(truth: dict[str, Any], pictures: Mapping[Any, Path]) -> tuple[dict[Any, str], Path | None]:
    """Image id -> a name that annotation tools can know it by, and the folder that these names start from."""
    names = {each["id"]: str(each.get("file_name", "")) for each in truth["images"]}
    known = {i: pictures[i] for i in names if i in pictures}
    if any(leads_out(name) for name in names.values()):
        root = common_folder(list(known.values())) if len(known) == len(names) else None
        if root is not None:
            return dict(zip(known, references(list(known.values()), root))), root
    for i, path in known.items():
        parts = Path(names[i]).parts
        if path.parts[-len(parts) :] == parts:
            return names, path.parents[len(parts) - 1]
    return names, None


def to_markdown(
    doubts: Sequence[Doubt], truth: dict[str, Any], *, meta: dict[str, Any], warnings: Sequence[str] = ()
) -> str:
    """doubts.md: how many of each reason, and all of them, the surest first."""
    rows = [
        [
            *(str(rank), f"{doubt.score:.2f}", doubt.reason, plain_text(file_of(doubt))),
            "" if doubt.label is None else str(truth["annotations"][doubt.label].get("id", "")),
            plain_text(in_words(doubt)),
        ]
        for rank, doubt in enumerate(doubts, start=1)
    ]
    parts = [
        "# Doubtful labels",
        *(f"> **Check this:** {plain_text(warning)}" for warning in warnings),
        markdown_table(("reason", "labels", "what it means"), [[r, str(n), says] for r, n, says in counts(doubts)]),
        markdown_table(("", "score", "reason", "image", "label id", "why"), rows) if rows else "Nothing is doubtful.",
        "\n".join(
            f"- {plain_text(str(key))}: {plain_text(str(value))}" for key, value in meta.items() if value is not None
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
