"""Draw boxes, class names and scores on images, and make contact sheets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, isfinite, sqrt
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from .errors import DataError
from .images import Pixels, to_rgb
from .structures import Box, Detection, Detections, Xyxy

Rgb = tuple[int, int, int]  # 0 to 255

# Twenty colours selected greedily for the largest minimum CIELAB distance, over normal vision and simulated protan,
# deutan and tritan vision (Machado et al. 2009), none darker than L* 47 so that they stand out from gray steel.
_PALETTE = bytes.fromhex(
    "E69F00 56B4E9 00FFBB 7766FF FF2255 EE0099 CCFF88 FFEE00 33DDDD CC5500 "
    "2288DD 44AA77 DDAA55 BB33BB 66DD88 448844 FF88BB FFDD55 BB77BB 55FFEE"
)
_COLOURS = len(_PALETTE) // 3
# The first six colours, which differ most, belong to the six classes of NEU-DET.
_KNOWN = ("inclusion", "crazing", "patches", "pitted_surface", "rolled-in_scale", "scratches")


def class_colours(categories: Iterable[str]) -> dict[str, Rgb]:
    """A colour for every name: always the same colour for a name, unless two names of a set would have the same one.

    Up to twenty names get different colours; with more names, colours repeat.
    """
    chosen: dict[str, Rgb] = {}
    free: list[int] = []
    for name in sorted(set(categories), key=lambda n: (n not in _KNOWN, n)):
        free = free or list(range(_COLOURS))
        preferred = _KNOWN.index(name) if name in _KNOWN else crc32(name.encode()) % _COLOURS
        index = min(free, key=lambda i: (i - preferred) % _COLOURS)
        free.remove(index)
        chosen[name] = (_PALETTE[3 * index], _PALETTE[3 * index + 1], _PALETTE[3 * index + 2])
    return chosen


def ink(background: Rgb) -> Rgb:
    """Black or white text colour, whichever has more contrast (WCAG 2 relative luminance with a gamma of 2.2)."""
    luminance = float(np.dot((np.array(background) / 255) ** 2.2, (0.2126, 0.7152, 0.0722)))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


_MIN_FONT_PX = 9
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_labels(picture: Pillow.Image, labels: Sequence[tuple[str, Rgb, Xyxy]], font_px: int) -> None:
    """Draw (text, colour, box) labels next to their boxes, positions chosen in this order; empty texts are skipped."""
    draw = ImageDraw.Draw(picture)
    boxes = [box for _, _, box in labels]
    taken: list[Xyxy] = []
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
    """Text, font and font size that fit the picture: the font shrinks to 9 pixels, then the name is truncated."""
    size = font_px
    while size > _MIN_FONT_PX and (_font(size).getlength(text) + 0.6 * size > width or 1.3 * size > height):
        size -= 1
    name, space, score = text.rpartition(" ")
    name, score = (name, space + score) if name else (score, "")
    shown = text
    while name and _font(size).getlength(shown) + 0.6 * size > width:
        name = name[:-1]
        shown = f"{name}…{score}"
    return shown, _font(size), size


def _place(
    box: Xyxy, size_wh: tuple[int, int], picture_wh: tuple[int, int], taken: Sequence[Xyxy], boxes: Sequence[Xyxy]
) -> tuple[int, int]:
    """(left, top) of the label along the edges of its box, inside the picture, where it hides the smallest area."""
    w, h = size_wh
    x1, y1, x2, y2 = box
    steps = (0, 1, 0.5, 0.25, 0.75)
    spots = [(x1 + t * (x2 - x1 - w), y) for y in (y1 - h, y2, y1, y2 - h, 0.5 * (y1 + y2 - h)) for t in steps]
    spots += [(x, y1 + t * (y2 - y1 - h)) for x in (x2, x1 - w) for t in steps]
    best, min_cost = (0, 0), float("inf")
    for rank, (x, y) in enumerate(spots):
        left = round(min(max(x, 0), picture_wh[0] - w))
        top = round(min(max(y, 0), picture_wh[1] - h))
        spot = (left, top, left + w, top + h)
        cost = 20 * sum(_shared(spot, other) for other in taken) + sum(_shared(spot, other) for other in boxes)
        cost += w * h * 0.02 * rank + 0.5 * h * (abs(left - x) + abs(top - y))
        if cost < min_cost:
            best, min_cost = (left, top), cost
    return best


def _shared(a: Xyxy, b: Xyxy) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


Picture = NDArray[np.uint8]  # [height, width, 3] RGB

_GRAYS = 2**16
_CHUNK = 2**20  # pixels processed at the same time


def contact_sheet(pictures: Sequence[Pixels], columns: int, *, gap_px: int = 6) -> Picture:
    """Pictures in rows on white, each at the top left of a cell with the maximum width and height of all pictures."""
    if columns < 1 or not pictures:
        message = f"can't make a contact sheet of {len(pictures)} pictures in {columns} columns"
        raise DataError(message, fix="give one or more of each")
    rgb = [to_rgb(to_uint8(picture)) for picture in pictures]
    columns = min(columns, len(rgb))
    cell_h = max(p.shape[0] for p in rgb) + gap_px
    cell_w = max(p.shape[1] for p in rgb) + gap_px
    sheet = np.full((ceil(len(rgb) / columns) * cell_h + gap_px, columns * cell_w + gap_px, 3), 255, np.uint8)
    for i, picture in enumerate(rgb):
        y, x = gap_px + i // columns * cell_h, gap_px + i % columns * cell_w
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def to_uint8(pixels: Pixels) -> Picture:
    """uint8 unchanged; uint16 stretched so that its 0.1 and 99.9 per cent quantiles become 0 and 255."""
    if pixels.ndim not in (2, 3) or pixels.dtype not in (np.uint8, np.uint16) or 0 in pixels.shape:
        raise DataError(f"can't draw on {pixels.dtype}{list(pixels.shape)}", fix="give 8- or 16-bit gray or RGB pixels")
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    flat = pixels.reshape(-1)
    chunks = [slice(start, start + _CHUNK) for start in range(0, flat.size, _CHUNK)]  # avoids copies of a large image
    counts = sum(np.bincount(flat[chunk], minlength=_GRAYS) for chunk in chunks)
    low, high = _quantiles(np.asarray(counts), (0.001, 0.999))
    stretched = (np.arange(_GRAYS) - low) * (255 / max(high - low, 1))
    table = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
    picture = np.empty(flat.size, np.uint8)
    for chunk in chunks:
        picture[chunk] = table[flat[chunk]]
    return picture.reshape(pixels.shape)


def _quantiles(counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Quantiles of gray values from their histogram, with linear interpolation as in np.quantile."""
    cumulative = np.cumsum(counts)
    quantiles = []
    for share in shares:
        rank = share * (int(cumulative[-1]) - 1)
        low, high = (int(np.searchsorted(cumulative, at, side="right")) for at in (floor(rank), ceil(rank)))
        quantiles.append(low + (high - low) * (rank - floor(rank)))
    return quantiles


_CASING: Rgb = (0, 0, 0)
_MIN_SIDE_PX = 720  # an image whose longer side is shorter is enlarged to this or more


@dataclass(frozen=True, slots=True)
class StyledBox:
    """One box to draw.

    Attributes:
        xyxy: corners in pixels of the image as given, 0-based; clipped to the image.
        text: label next to the box; empty for no label.
        colour: RGB, 0 to 255.
        dashed: dashed outline, for example for ground truth.
    """

    xyxy: Xyxy
    text: str
    colour: Rgb
    dashed: bool = False


def draw_detections(
    pixels: Pixels,
    detections: Detections | Sequence[Detection],
    *,
    scale: int | None = None,
    categories: Sequence[str] | None = None,
) -> Picture:
    """Draw detections with class and score.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; 16 bits are stretched by ``to_uint8``.
        detections: boxes in pixels of ``pixels``.
        scale: integer enlargement; default: ``default_scale``, which keeps labels on small images readable.
        categories: all class names, for equal colours in all pictures; ``Detections`` contain theirs.

    Returns:
        uint8[scale * height, scale * width, 3] RGB; ``pixels`` is not changed.

    Raises:
        DataError: pixels of another shape or type, or a box with a corner that is not a finite number.
    """
    if categories is None and isinstance(detections, Detections):
        categories = detections.categories
    by_score = sorted(detections, key=lambda d: d.score, reverse=True)
    colours = class_colours(categories or (d.label for d in by_score))
    marks = [StyledBox(d.xyxy, f"{d.label} {d.score:.2f}", colours[d.label]) for d in by_score]
    return draw_styled_boxes(pixels, marks, scale=scale)


def draw_boxes(
    pixels: Pixels, boxes: Sequence[Box], *, scale: int | None = None, categories: Sequence[str] | None = None
) -> Picture:
    """Draw labelled boxes with their class, crowd boxes dashed; arguments and errors as for ``draw_detections``."""
    colours = class_colours(categories or (box.label for box in boxes))
    return draw_styled_boxes(
        pixels, [StyledBox(b.xyxy, b.label, colours[b.label], dashed=b.crowd) for b in boxes], scale=scale
    )


def draw_styled_boxes(pixels: Pixels, marks: Sequence[StyledBox], *, scale: int | None = None) -> Picture:
    """Draw boxes in order of importance: the first is drawn on top, and its label is placed first."""
    rgb = to_rgb(to_uint8(pixels))
    scale = default_scale((rgb.shape[0], rgb.shape[1])) if scale is None else scale
    if scale < 1:
        raise DataError(f"an image can't be drawn at scale {scale}", fix="give an integer of 1 or more")
    canvas = _enlarge(rgb, scale)
    font_px = min(max(14, round(sqrt(canvas.shape[0] * canvas.shape[1]) / 50)), 40)
    line_px = max(2.0, font_px / 7)
    rects = [_inside(mark.xyxy, scale, canvas.shape[1], canvas.shape[0], line_px) for mark in marks]
    floats = canvas.astype(np.float32)
    for mark, rect in zip(reversed(marks), reversed(rects)):
        _outline(floats, rect, line_px, mark)
    picture = Pillow.fromarray(np.rint(floats).astype(np.uint8))
    draw_labels(picture, [(mark.text, mark.colour, rect) for mark, rect in zip(marks, rects)], font_px)
    return np.array(picture)


def default_scale(size_hw: tuple[int, int]) -> int:
    """The smallest integer that enlarges the longer side to at least 720 pixels."""
    return ceil(_MIN_SIDE_PX / max(size_hw))


def _enlarge(rgb: Picture, scale: int) -> Picture:
    if scale == 1:
        return rgb
    size = (rgb.shape[1] * scale, rgb.shape[0] * scale)
    return np.array(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.BICUBIC))


def _inside(xyxy: Xyxy, scale: int, width: int, height: int, line_px: float) -> Xyxy:
    """The outer rectangle of the outline around a box, moved inside the picture."""
    if not all(isfinite(v) for v in xyxy):
        raise DataError(f"a box has the corners {xyxy}", fix="give finite numbers")
    x1, x2 = _span(xyxy[0] * scale, xyxy[2] * scale, width, line_px)
    y1, y2 = _span(xyxy[1] * scale, xyxy[3] * scale, height, line_px)
    return x1, y1, x2, y2


def _span(low: float, high: float, size: int, line_px: float) -> tuple[float, float]:
    min_length = min(2 * line_px + 1, size)
    start = min(max(low - line_px, 0), size - min_length)
    return start, min(max(high + line_px, start + min_length), size)


def _outline(canvas: NDArray[np.float32], rect: Xyxy, line_px: float, mark: StyledBox) -> None:
    """Blend an anti-aliased frame into ``canvas``, with a dark casing for contrast on bright steel."""
    x1, y1, x2, y2 = rect
    casing = 0.5 * line_px
    left, top = max(int(x1 - casing), 0), max(int(y1 - casing), 0)
    window = canvas[top : ceil(y2 + casing), left : ceil(x2 + casing)]
    local = (x1 - left, y1 - top, x2 - left, y2 - top)
    frame = _frame(window.shape[:2], local, 0, line_px)
    shadow = 0.6 * (_frame(window.shape[:2], local, casing, line_px + casing) - frame)
    if mark.dashed:
        along = np.add.outer(np.arange(len(window)), np.arange(window.shape[1]))
        frame *= along % (6 * line_px) < 3.5 * line_px
    for colour, alpha in ((_CASING, shadow), (mark.colour, frame)):
        window += alpha[..., None] * (np.array(colour, np.float32) - window)


def _frame(size_hw: tuple[int, ...], rect: Xyxy, outwards: float, inwards: float) -> NDArray[np.float32]:
    """Share of every pixel inside the ring from ``inwards`` inside to ``outwards`` outside the rectangle, in pixels."""
    return _covered(size_hw, rect, -outwards) - _covered(size_hw, rect, inwards)


def _covered(size_hw: tuple[int, ...], rect: Xyxy, inset: float) -> NDArray[np.float32]:
    x1, y1, x2, y2 = rect[0] + inset, rect[1] + inset, rect[2] - inset, rect[3] - inset
    ys, xs = np.arange(size_hw[0], dtype=np.float32), np.arange(size_hw[1], dtype=np.float32)
    rows = np.clip(np.minimum(ys + 1, y2) - np.maximum(ys, y1), 0, 1)
    columns = np.clip(np.minimum(xs + 1, x2) - np.maximum(xs, x1), 0, 1)
    return np.outer(rows, columns).astype(np.float32)
