"""Labels that can be read: in a font that fits, inside the picture, out of each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from .colours import Rgb, ink

Rect = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the picture
_SMALLEST_FONT_PX = 9
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_labels(picture: Pillow.Image, labels: Sequence[tuple[str, Rgb, Rect]], font_px: int) -> None:
    """Write (text, colour, box) beside their boxes, the first choosing its place first; empty texts are left out."""
    draw = ImageDraw.Draw(picture)
    boxes = [box for _, _, box in labels]
    taken: list[Rect] = []
    for text, colour, box in labels:
        if not text:
            continue
        shown, font, px = _fit(text, font_px, picture.width, picture.height)
        left, top, _, bottom = font.getbbox("0Agj" + shown)
        width = min(ceil(font.getlength(shown) + 0.6 * px), picture.width)
        height = min(ceil(bottom - top + 0.25 * px), picture.height)
        x, y = _place(box, (width, height), picture.size, taken, boxes)
        taken.append((x, y, x + width, y + height))
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        draw.text((round(x + 0.3 * px - left), round(y + 0.12 * px - top)), shown, font=font, fill=ink(colour))


@lru_cache(maxsize=64)
def _font(size_px: int) -> _Font:
    return ImageFont.load_default(size_px)


def _fit(text: str, font_px: int, width: int, height: int) -> tuple[str, _Font, int]:
    """The text, a font in which it fits the picture, and its size: down to 9 pixels, then the name is cut short."""
    size = font_px
    while size > _SMALLEST_FONT_PX and (_font(size).getlength(text) + 0.6 * size > width or 1.3 * size > height):
        size -= 1
    name, space, score = text.rpartition(" ")
    name, score = (name, space + score) if name else (score, "")
    shown = text
    while name and _font(size).getlength(shown) + 0.6 * size > width:
        name = name[:-1]
        shown = f"{name}…{score}"
    return shown, _font(size), size


def _place(
    box: Rect, size_wh: tuple[int, int], picture_wh: tuple[int, int], taken: Sequence[Rect], boxes: Sequence[Rect]
) -> tuple[int, int]:
    """Left and top of the spot that hides least: along the box's edges, outside first; always in the picture."""
    w, h = size_wh
    x1, y1, x2, y2 = box
    steps = (0, 1, 0.5, 0.25, 0.75)
    spots = [(x1 + t * (x2 - x1 - w), y) for y in (y1 - h, y2, y1, y2 - h, 0.5 * (y1 + y2 - h)) for t in steps]
    spots += [(x, y1 + t * (y2 - y1 - h)) for x in (x2, x1 - w) for t in steps]
    best, least = (0, 0), float("inf")
    for rank, (x, y) in enumerate(spots):
        left = round(min(max(x, 0), picture_wh[0] - w))
        top = round(min(max(y, 0), picture_wh[1] - h))
        spot = (left, top, left + w, top + h)
        cost = 20 * sum(_shared(spot, other) for other in taken) + sum(_shared(spot, other) for other in boxes)
        cost += w * h * 0.02 * rank + 0.5 * h * (abs(left - x) + abs(top - y))
        if cost < least:
            best, least = (left, top), cost
    return best


def _shared(a: Rect, b: Rect) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
