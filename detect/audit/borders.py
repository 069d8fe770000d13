"""Labels that seem to lie a pixel beside what they mark: boxes that end there touch one border and not the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records import Finding, Image
from .significance import exact_share_p

BESIDE = "labels seem a pixel off"
_NEAR, _TOUCHING = 3.0, 0.5  # pixels from the border
_LEAST_IMAGES, _LEAST_DIFFERENCE, _CHANCE = 20, 0.2, 1e-4
_NAMES = {"x": ("left", "right"), "y": ("upper", "lower")}


@dataclass(frozen=True, slots=True)
class Borders:
    """How boxes end at the two borders of one axis: what reaches over both should touch both alike.

    Attributes:
        near: images with a box that ends within three pixels of the low border, and of the high one.
        touching: those of them with a box that ends right there.
    """

    near: tuple[int, int]
    touching: tuple[int, int]

    @property
    def shares(self) -> tuple[float, float]:
        """Of the images near each border, those that touch it."""
        low, high = (touch / max(near, 1) for touch, near in zip(self.touching, self.near))
        return low, high

    @property
    def uneven(self) -> bool:
        """Whether they differ by a fifth or more, and by more than one in ten thousand times by chance."""
        low, high = self.shares
        if min(self.near) < _LEAST_IMAGES or abs(low - high) < _LEAST_DIFFERENCE:
            return False
        return exact_share_p(self.touching, self.near) < _CHANCE


def borders(images: Sequence[Image]) -> dict[str, Borders]:
    """By axis, "x" and "y", how the boxes of all images end at its two borders."""
    near: dict[str, list[int]] = {"x": [0, 0], "y": [0, 0]}
    touching: dict[str, list[int]] = {"x": [0, 0], "y": [0, 0]}
    for image in images:
        corners = [box.xyxy for box in image.boxes]
        for axis, low, size in (("x", 0, image.width), ("y", 1, image.height)):
            gaps = [corner[low] for corner in corners], [size - corner[low + 2] for corner in corners]
            for side, of_boxes in enumerate(gaps):
                least = min(of_boxes, default=_NEAR)
                near[axis][side] += least < _NEAR
                touching[axis][side] += least < _TOUCHING
    return {axis: Borders((near[axis][0], near[axis][1]), (touching[axis][0], touching[axis][1])) for axis in "xy"}


def check_borders(images: Sequence[Image], place: Path) -> list[Finding]:
    """A warning if boxes that reach the border touch one side of the images and stop short of the other.

    A tool that counts pixels from 0 where another counts from 1 shifts all boxes by one, and a tool that leaves out the
    last pixel of a box ends them early. Neither is seen in the midst of an image.

    Args:
        images: of all parts together.
        place: the file or folder that holds their labels.
    """
    told: list[str] = []
    towards: dict[str, int] = {}
    for axis, found in borders(images).items():
        if found.uneven:
            (low, high), (first, second) = found.shares, _NAMES[axis]
            told.append(f"the {first} border in {100 * low:.0f} % and the {second} one in {100 * high:.0f} %")
            towards[axis] = -1 if low > high else 1
    if not told:
        return []
    offset = f"[{towards.get('x', 0)},{towards.get('y', 0)}]"
    message = (
        f"of the images with a box within 3 px of a border, it touches {', '.join(told)}: boxes seem to lie a pixel "
        "beside what they mark, or to lack their last pixel, as by a tool that counts from 0 where another counts from "
        f"1; look, correct them, or train with augment.label_offset_xy={offset}"
    )
    return [Finding(BESIDE, "warning", place, message)]
