"""A doubt in words: what is doubtful about a label, and how it would be mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..evaluation.doubts import REASONS, Doubt
from . import wording

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
