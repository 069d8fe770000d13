"""Where the tag of each box goes: at its edge, inside the picture, and off the other tags where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Corners = tuple[float, float, float, float]

# The page shows a picture about this wide, in CSS pixels, with tags of this size; only overlaps depend on it.
_SHOWN_WIDTH, _TAG_HEIGHT, _LETTER_EM, _PADDING_EM, _EM = 250.0, 17.0, 0.62, 1.0, 11.5


class _Spot(NamedTuple):
    """A place for a tag: its corners in CSS pixels and the declaration that puts it there at any width."""

    xyxy: Corners
    edge: str


def place_tags(
    boxes_xyxy: Sequence[Corners], texts: Sequence[str], below: Sequence[bool], width: float, height: float
) -> list[str]:
    """CSS declarations for the tag of each box, empty where the text is.

    Args:
        boxes_xyxy: in pixels of the picture.
        texts: what the tags say.
        below: whether the tag looks for a place at the lower edge first.
        width, height: of the picture, in the boxes' pixels.
    """
    taken: list[Corners] = []
    styles = []
    for box, text, low in zip(boxes_xyxy, texts, below):
        if not text:
            styles.append("")
            continue
        spots = _spots(box, text, width, height, low)
        best = min(spots, key=lambda spot: sum(_shared(spot.xyxy, other) for other in taken))
        taken.append(best.xyxy)
        left = f"max(0px,min({_per_cent(box[0], width)},100% - {_length_em(text):.1f}em))"
        styles.append(f"left:{left};{best.edge}")
    return styles


def _spots(box: Corners, text: str, width: float, height: float, low: bool) -> list[_Spot]:
    """The upper edge outside and inside, the lower likewise, in the order wanted, as far as they are in the picture."""
    scale = _SHOWN_WIDTH / width
    tag_width = _length_em(text) * _EM
    x = max(0.0, min(box[0] * scale, _SHOWN_WIDTH - tag_width))
    top, bottom, shown_height = box[1] * scale, box[3] * scale, height * scale

    def spot(y: float, edge: str) -> _Spot:
        return _Spot((x, y, x + tag_width, y + _TAG_HEIGHT), edge)

    upper = [
        spot(top - _TAG_HEIGHT, f"bottom:{_per_cent(height - box[1], height)}"),
        spot(top, f"top:{_per_cent(box[1], height)}"),
    ]
    lower = [
        spot(bottom, f"top:{_per_cent(box[3], height)}"),
        spot(bottom - _TAG_HEIGHT, f"bottom:{_per_cent(height - box[3], height)}"),
    ]
    spots = lower + upper if low else upper + lower
    inside = [s for s in spots if s.xyxy[1] >= 0 and s.xyxy[3] <= shown_height]
    return inside or [spot(0, "top:0")]


def _length_em(text: str) -> float:
    return _LETTER_EM * len(text) + _PADDING_EM


def _shared(a: Corners, b: Corners) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _per_cent(part: float, whole: float) -> str:
    return f"{100 * min(1.0, max(0.0, part / whole)):.2f}%"
