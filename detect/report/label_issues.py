"""Label issues for those who can fix them: a page of crops, a table, and COCO for an annotation tool."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from ..datasets import coco
from ..datasets.paths import common_folder, leads_out, references, relative, remember
from ..errors import DataError
from ..evaluation.label_issues import ISSUE_REASONS, LabelIssue
from ..images import read_image
from . import tables as wording
from .page import filters_by_name, render, write_page
from .tables import markdown_table, plain_text
from .thumbnails import Corners, Crop, crop_around

_MIN_MOVE_PX = 2.0
_EDGES = ("left", "top", "right", "bottom")
_DIRECTIONS = (("left", "right"), ("up", "down"), ("left", "right"), ("up", "down"))  # less and more, by edge
_REASON_MEANINGS = {
    "missing": "a detection where no label is",
    "wrong class": "a detection of another class on the label",
    "badly drawn": "a detection of its class that covers it in part",
    "not found": "no detection at any score",
}


def issue_sentence(issue: LabelIssue) -> str:
    """What is wrong, and what to do, in a sentence."""
    found = "" if issue.detection_score is None else f"{issue.category} is detected with {issue.detection_score:.2f}"
    if issue.reason == "missing":
        return f"{found}, and no label is there"
    if issue.reason == "wrong class":
        return f"labelled {issue.label_category}, but {found} (IoU {issue.iou:.2f})"
    if issue.reason == "not found":
        usual = wording.percent(issue.score)
        return (
            f"nothing is detected there at any score, though of labels like this one {usual} are found with confidence"
        )
    return f"{found}, IoU {issue.iou:.2f}: {edge_moves(issue)}"


def edge_moves(issue: LabelIssue) -> str:
    """How the edges of a badly drawn label would move to the detection, in pixels, the furthest first.

    Edges that move by less than 2 pixels, or a quarter of the furthest, are left out.
    """
    assert issue.label_xyxy is not None
    offsets = [new - old for new, old in zip(issue.box_xyxy, issue.label_xyxy)]
    shortest = max(_MIN_MOVE_PX, max(map(abs, offsets)) / 4)
    falling = sorted((k for k in range(4) if abs(offsets[k]) >= shortest), key=lambda k: -abs(offsets[k]))
    return ", ".join(f"{_EDGES[k]} edge {abs(offsets[k]):.0f} px {_DIRECTIONS[k][offsets[k] > 0]}" for k in falling)


def reason_counts(issues: Sequence[LabelIssue]) -> list[tuple[str, int, str]]:
    """(reason, how many, what it means) of all reasons."""
    number = Counter(issue.reason for issue in issues)
    return [(reason, number[reason], _REASON_MEANINGS[reason]) for reason in ISSUE_REASONS]


def image_file_name(issue: LabelIssue) -> str:
    """The image's file without its folders."""
    return issue.image.file_name.replace("\\", "/").rpartition("/")[2]


_MAX_PAGE_BYTES = 12_000_000  # of pictures in the page


class IssueCard(NamedTuple):
    """An issue on the page: its crop, None if the picture can't be read, and the other labels near it."""

    issue: LabelIssue
    words: str
    crop: Crop | None
    others: tuple[Corners, ...]

    @property
    def extent(self) -> Crop:
        """What to show without a picture: the image as the labels tell its size, else just around the boxes."""
        image = self.issue.image
        boxes = [self.issue.box_xyxy, *([self.issue.label_xyxy] if self.issue.label_xyxy else [])]
        width, height = (max(1, ceil(max(box[k] for box in boxes))) for k in (2, 3))
        return Crop("", 0, 0, image.width or width, image.height or height)


def to_html(
    issues: Sequence[LabelIssue],
    truth: dict[str, Any],
    *,
    pictures: Mapping[Any, Path],
    meta: dict[str, Any],
    warnings: Sequence[str] = (),
) -> str:
    """Render label_issues.html with its style sheet and script inlined; whatever came from outside is escaped."""
    cards = _cards(issues, truth, pictures)
    return render(
        "label_issues.html",
        filters_by_name(wording.count, wording.plural) | {"file": image_file_name},
        cards=cards,
        counts=reason_counts(issues),
        classes=sorted({issue.category for issue in issues}),
        labels=len(truth["annotations"]),
        images=len(truth["images"]),
        without=sum(card.crop is None for card in cards),
        stretched=any(card.crop is not None and card.crop.stretched for card in cards),
        meta=[(key, str(value)) for key, value in meta.items() if value is not None],
        warnings=warnings,
    )


def _cards(issues: Sequence[LabelIssue], truth: dict[str, Any], pictures: Mapping[Any, Path]) -> list[IssueCard]:
    labels: dict[Any, list[tuple[int, Corners]]] = defaultdict(list)
    for row, annotation in enumerate(truth["annotations"]):
        x, y, width, height = annotation["bbox"]
        labels[annotation["image_id"]].append((row, (x, y, x + width, y + height)))
    cards, room = [], _MAX_PAGE_BYTES
    for issue in issues:
        crop = _crop(issue, pictures) if room > 0 else None
        room -= len(crop.uri) if crop else 0
        others = tuple(box for row, box in labels[issue.image.id] if row != issue.label)
        cards.append(IssueCard(issue, issue_sentence(issue), crop, others))
    return cards


def _crop(issue: LabelIssue, pictures: Mapping[Any, Path]) -> Crop | None:
    if issue.image.id not in pictures:
        return None
    try:
        pixels = read_image(pictures[issue.image.id])
    except DataError:
        return None
    return crop_around(pixels, [issue.box_xyxy, *([issue.label_xyxy] if issue.label_xyxy else [])])


class LabelIssuePaths(NamedTuple):
    """Where the files lie."""

    html: Path
    markdown: Path
    coco: Path


def write_label_issues(
    issues: Sequence[LabelIssue],
    truth: dict[str, Any],
    out: Path,
    *,
    pictures: Mapping[Any, Path],
    meta: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> LabelIssuePaths:
    """Write label_issues.html, label_issues.md and label_issues.json into the folder ``out``.

    Args:
        issues: the surest first.
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
        "label_issues.html": to_html(issues, truth, pictures=pictures, meta=meta, warnings=warnings),
        "label_issues.md": to_markdown(issues, truth, meta=meta, warnings=warnings),
        "label_issues.json": json.dumps(to_coco(issues, truth, pictures=pictures, out=out), indent=1, allow_nan=False)
        + "\n",
    }
    try:
        for name, text in contents.items():
            write_page(out / name, text)
    except OSError as error:
        found = f"the label issues can't be written ({error.strerror})"
        raise DataError(found, where=out, fix="choose a folder that can be written to") from None
    remember((pictures or {}).values(), out)
    return LabelIssuePaths(*(out / name for name in contents))


def to_coco(
    issues: Sequence[LabelIssue],
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
    for rank, issue in enumerate(issues, start=1):
        label = None if issue.label is None else truth["annotations"][issue.label]
        x1, y1, x2, y2 = (round(value, 2) for value in issue.box_xyxy)
        size = [round(x2 - x1, 2), round(y2 - y1, 2)]
        note = issue_sentence(issue)
        annotations.append(
            {
                "id": rank,
                "image_id": issue.image.id,
                "category_id": ids[issue.category],
                "bbox": [x1, y1, *size],
                "area": round(size[0] * size[1], 2),
                "iscrowd": 0,
                "segmentation": [],
                "rank": rank,
                "reason": issue.reason,
                "score": round(issue.score, 4),
                "note": note,
                "detection_score": issue.detection_score,
                "label_id": None if label is None else label.get("id"),
                "label_category_id": None if label is None else _shifted(label["category_id"], shift),
                "label_bbox": None if label is None else list(label["bbox"]),
                "iou": issue.iou,
                "attributes": {"reason": issue.reason, "note": note},
            }
        )
    with_issue = {issue.image.id for issue in issues}
    names, root = _names(truth, pictures or {})
    told = {} if root is None or out is None else {coco.IMAGE_ROOT: relative(root, out).as_posix()}
    return {
        "info": {"description": "Label issues: what a detector proposes in place of labels", **told},
        "images": [{**each, "file_name": names[each["id"]]} for each in truth["images"] if each["id"] in with_issue],
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
    issues: Sequence[LabelIssue], truth: dict[str, Any], *, meta: dict[str, Any], warnings: Sequence[str] = ()
) -> str:
    """label_issues.md: how many of each reason, and all of them, the surest first."""
    rows = [
        [
            *(str(rank), f"{issue.score:.2f}", issue.reason, plain_text(image_file_name(issue))),
            "" if issue.label is None else str(truth["annotations"][issue.label].get("id", "")),
            plain_text(issue_sentence(issue)),
        ]
        for rank, issue in enumerate(issues, start=1)
    ]
    parts = [
        "# Label issues",
        *(f"> **Check this:** {plain_text(warning)}" for warning in warnings),
        markdown_table(
            ("reason", "labels", "what it means"), [[r, str(n), says] for r, n, says in reason_counts(issues)]
        ),
        markdown_table(("", "score", "reason", "image", "label id", "why"), rows) if rows else "No label issues.",
        "\n".join(
            f"- {plain_text(str(key))}: {plain_text(str(value))}" for key, value in meta.items() if value is not None
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
