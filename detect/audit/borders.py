"""Boxes that reach the borders of images: honest ones touch both sides alike, those of some tools stop short of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records import Finding, Image
from .significance import exact_share_p, more_than_half_p

SHORT = "boxes stop short of a border"
_TOUCHING, _NEAR, _FAR = 0.5, 3.5, 6.5  # pixels from the border: ends of ranges of three whole pixels each
_LEAST, _LEAST_DIFFERENCE, _CHANCE = 20, 0.2, 1e-4
_ACROSS = (("left", "right"), ("upper", "lower"))


@dataclass(frozen=True, slots=True)
class Side:
    """Images, or groups of them, by where their boxes end before one border.

    Attributes:
        near: those with a box that ends within 3.5 pixels of it.
        touching: those of them with a box that ends within half a pixel.
        short: those with a box that ends 0.5 to 3.5 pixels before it, and none 3.5 to 6.5.
        beyond: the other way round; as many by chance, however many boxes an image has.
    """

    near: int
    touching: int
    short: int
    beyond: int

    @property
    def share(self) -> float:
        """Of those near the ones that touch."""
        return self.touching / max(self.near, 1)


def stops_short(side: Side, other: Side) -> bool:
    """Whether boxes reach for a border and stop short of it, while they touch the one across.

    They touch it less often by a fifth or more, and more of them end just before it than a little farther off, both by
    more than one chance in ten thousand; 20 images or more are near each.
    """
    if min(side.near, other.near) < _LEAST or other.share - side.share < _LEAST_DIFFERENCE:
        return False
    uneven = exact_share_p((side.touching, other.touching), (side.near, other.near)) < _CHANCE
    return uneven and more_than_half_p(side.short, side.short + side.beyond) < _CHANCE


def sides(images: Sequence[Image], groups: Sequence[int]) -> dict[str, Side]:
    """By "left", "right", "upper" and "lower", how boxes end there; drafts and crowd regions have no say.

    Args:
        images: with their boxes.
        groups: a number an image; those that share one (frames of a strip, copies) count once.
    """
    gaps: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for pair in _ACROSS for name in pair}
    for image, group in zip(images, groups):
        for box in image.boxes:
            if box.crowd or box.score is not None:
                continue
            x1, y1, x2, y2 = box.xyxy
            for name, gap in zip(gaps, (x1, image.width - x2, y1, image.height - y2)):
                gaps[name][group].append(gap)
    return {name: _counted(list(of_groups.values())) for name, of_groups in gaps.items()}


def check_borders(images: Sequence[Image], place: Path, groups: Sequence[int]) -> list[Finding]:
    """A warning if the boxes of a data set touch one border of the images and stop short of the one across.

    A tool that counts pixels from 0 where another counts from 1 shifts all boxes by one, another leaves out the last
    pixel of each box, a third keeps off the last pixel of the image. In the midst of images none of them is seen.

    Args:
        images: of one data set.
        place: the file or folder that holds their labels.
        groups: as for ``sides``.
    """
    found = sides(images, groups)
    told = [
        f"the {low} border in {100 * found[low].share:.0f} % and the {high} one in {100 * found[high].share:.0f} %"
        for low, high in _ACROSS
        if stops_short(found[low], found[high]) or stops_short(found[high], found[low])
    ]
    if not told:
        return []
    message = (
        f"of the images with a box within 3.5 px of a border, it touches {', '.join(told)}: boxes may lie a pixel "
        "beside what they mark, lack their last pixel, or keep off the image's; a detector trained on them tells which "
        "(docs/data.md)"
    )
    return [Finding(SHORT, "warning", place, message)]


def _counted(gaps: Sequence[Sequence[float]]) -> Side:
    nearest = [min(each) for each in gaps]
    short = [any(_TOUCHING <= gap < _NEAR for gap in each) for each in gaps]
    beyond = [any(_NEAR <= gap < _FAR for gap in each) for each in gaps]
    return Side(
        near=sum(gap < _NEAR for gap in nearest),
        touching=sum(gap < _TOUCHING for gap in nearest),
        short=sum(one and not other for one, other in zip(short, beyond)),
        beyond=sum(other and not one for one, other in zip(short, beyond)),
    )
