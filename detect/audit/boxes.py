"""What can be wrong with the boxes of one image."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ..records import Box, Finding, Image, Xyxy

TOLERANCE = 0.1  # pixels that a box may stick out: the rounding of formats that store fractions


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
