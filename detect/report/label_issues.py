"""Label issues as an HTML page of crops, a Markdown table, and COCO for annotation tools."""

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
from .page import filters_by_name, render, write_errors, write_page
from .tables import markdown_table, plain_text
from .thumbnails import Corners, Crop, crop_around

_MIN_MOVE_PX = 2.0
_EDGES = ("left", "top", "right", "bottom")
_DIRECTIONS = (("left", "right"), ("up", "down"), ("left", "right"), ("up", "down"))  # (negative, positive) by edge
_REASON_MEANINGS = {
    "missing": "a detection without a label",
    "wrong class": "a detection of another class at the position of the label",
    "badly drawn": "a detection of the same class that overlaps the label only in part",
    "not found": "no detection of the label at any score",
}


def issue_sentence(issue: LabelIssue) -> str:
    """The issue and the proposed change as one sentence."""
    score = issue.detection_score
    detected = "" if score is None else f"{issue.category} is detected with a score of {score:.2f}"
    if issue.reason == "missing":
        return f"{detected}, but there is no label"
    if issue.reason == "wrong class":
        return f"labelled {issue.label_category}, but {detected} (IoU {issue.iou:.2f})"
    if issue.reason == "not found":
        return f"not detected at any score, but {wording.percent(issue.score)} of similar labels are found"
    return f"{detected}, IoU {issue.iou:.2f}: {edge_moves(issue)}"


def edge_moves(issue: LabelIssue) -> str:
    """Moves from the edges of a badly drawn label to those of the detection, in pixels, largest first.

    Moves of less than 2 pixels or less than a quarter of the largest move are left out.
    """
    assert issue.label_xyxy is not None
    offsets = [new - old for new, old in zip(issue.box_xyxy, issue.label_xyxy)]
    min_move = max(_MIN_MOVE_PX, max(map(abs, offsets)) / 4)
    edges = sorted((k for k in range(4) if abs(offsets[k]) >= min_move), key=lambda k: -abs(offsets[k]))
    return ", ".join(f"{_EDGES[k]} edge {abs(offsets[k]):.0f} px {_DIRECTIONS[k][offsets[k] > 0]}" for k in edges)


def reason_counts(issues: Sequence[LabelIssue]) -> list[tuple[str, int, str]]:
    """(reason, number of issues, meaning) for each reason."""
    number = Counter(issue.reason for issue in issues)
    return [(reason, number[reason], _REASON_MEANINGS[reason]) for reason in ISSUE_REASONS]


def image_file_name(issue: LabelIssue) -> str:
    """File name of the image without its folders."""
    return issue.image.file_name.replace("\\", "/").rpartition("/")[2]


_MAX_PAGE_BYTES = 12_000_000  # all image data of the page together


class IssueCard(NamedTuple):
    """An issue on the page: its sentence, its crop (None if it is not shown), and the other labels of the image."""

    issue: LabelIssue
    text: str
    crop: Crop | None
    others: tuple[Corners, ...]

    @property
    def extent(self) -> Crop:
        """The visible region without a crop: the image size from the labels, else the extent of the boxes."""
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
    """Render label_issues.html with its style sheet and script inlined; all external text is escaped."""
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
    cards, bytes_left = [], _MAX_PAGE_BYTES
    for issue in issues:
        crop = _crop(issue, pictures) if bytes_left > 0 else None
        bytes_left -= len(crop.uri) if crop else 0
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
    """Paths of the files."""

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
        issues: the most certain first.
        truth: the COCO data set with the labels.
        out: output folder, created if it does not exist; files of an earlier call are replaced.
        pictures: image id -> file; of an image without a readable file only the boxes are shown.
        meta: provenance as plain JSON values, shown in the given order.
        warnings: sentences shown at the top.

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
    with write_errors("the label issues", out):
        for name, text in contents.items():
            write_page(out / name, text)
    remember(pictures.values(), out)
    return LabelIssuePaths(*(out / name for name in contents))


def to_coco(
    issues: Sequence[LabelIssue],
    truth: dict[str, Any],
    *,
    pictures: Mapping[Any, Path] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """COCO with the proposed boxes as annotations, by rank, and the images that contain them.

    Ids are those of ``truth``. If one of its categories has id 0, which CVAT treats as no label, all category ids are
    increased by 1. File names are those of ``truth`` too, unless one is absolute or leads out of its folder:
    annotation tools do not accept such names, so then all names are relative to the common folder of the images. In
    both cases ``image_root`` in ``info`` is the folder to which the names are relative, itself relative to ``out``.

    In addition to the keys of COCO, each annotation has ``rank``, ``reason``, ``score``, ``note``,
    ``detection_score``, ``label_id``, ``label_category_id``, ``label_bbox`` and ``iou`` (null if undefined), and
    ``attributes`` with reason and note, which annotation tools show.
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
    image_root = {} if root is None or out is None else {coco.IMAGE_ROOT: relative(root, out).as_posix()}
    return {
        "info": {"description": "Label issues: boxes that a detector proposes instead of the labels", **image_root},
        "images": [{**each, "file_name": names[each["id"]]} for each in truth["images"] if each["id"] in with_issue],
        "annotations": annotations,
        "categories": [{**each, "id": _shifted(each["id"], shift)} for each in truth["categories"]],
    }


def _shifted(category_id: Any, shift: int) -> Any:
    return category_id + shift if shift else category_id


def _names(truth: dict[str, Any], pictures: Mapping[Any, Path]) -> tuple[dict[Any, str], Path | None]:
    """Image id -> file name for annotation tools, and the folder to which these names are relative."""
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
    """label_issues.md: the number of issues per reason, and all issues, the most certain first."""
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
            ("reason", "issues", "meaning"),
            [[reason, str(number), meaning] for reason, number, meaning in reason_counts(issues)],
        ),
        markdown_table(("rank", "score", "reason", "image", "label id", "details"), rows)
        if rows
        else "No label issues.",
        "\n".join(
            f"- {plain_text(str(key))}: {plain_text(str(value))}" for key, value in meta.items() if value is not None
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
