"""Image files as small pictures that live inside a page, whole or cropped around boxes, with tags that keep apart."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from ..datasets.paths import image_next_to
from ..errors import DataError
from ..images import Pixels, read_image
from ..visualize import to_uint8

_MAX_SIDE_PX = 640
_JPEG_QUALITY = 82  # grain of steel still shows; a 200 x 200 image takes some 10 kB
_MAX_BYTES = 12_000_000


class Thumbnail(NamedTuple):
    """A picture inside the page.

    Its data URI, the width and height of the file it was made from, in pixels, and whether 16 bits were stretched.
    """

    uri: str
    width: int
    height: int
    stretched: bool = False


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The pictures of a page.

    Attributes:
        pictures: in the page, each once.
        of: position of an image -> position of its picture.
        unreadable: why each file that can't be read can't be shown.
        left_out: how many there was no room for.
    """

    pictures: tuple[Thumbnail, ...]
    of: dict[int, int]
    unreadable: tuple[str, ...]
    left_out: int

    def size(self, image: int) -> tuple[int, int] | None:
        """Width and height of an image's file, if its picture is here."""
        picture = self.of.get(image)
        return None if picture is None else (self.pictures[picture].width, self.pictures[picture].height)


def collect_thumbnails(
    files: Sequence[str], wanted: Iterable[int], root: Path | None, *, max_bytes: int = _MAX_BYTES
) -> Thumbnails:
    """Read and shrink the pictures of images, the most wanted first, until the page is large enough.

    Args:
        files: of all images, relative to ``root``.
        wanted: positions in ``files``.
        root: None for a page without pictures.
        max_bytes: of all pictures together.
    """
    pictures: list[Thumbnail] = []
    of: dict[int, int] = {}
    unreadable = []
    left_out = 0
    for position in wanted if root is not None else ():
        assert root is not None
        if max_bytes <= 0:
            left_out += 1
            continue
        try:
            picture = embed_thumbnail(image_next_to(root, files[position]))
        except DataError as error:
            unreadable.append(f"{files[position]}: {error.found}")
            continue
        of[position] = len(pictures)
        pictures.append(picture)
        max_bytes -= len(picture.uri)
    return Thumbnails(tuple(pictures), of, tuple(unreadable), left_out)


def embed_thumbnail(path: Path) -> Thumbnail:
    """A JPEG of at most 640 pixels a side, gray where the file is gray; 16 bits are stretched to be seen.

    Raises:
        DataError: the file is missing or is no image.
    """
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    picture = Pillow.fromarray(to_uint8(pixels))
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Pillow.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return Thumbnail(uri, width, height, stretched=pixels.dtype != "uint8")


_MAX_UNCROPPED_PX = 320  # a picture no longer than this is shown whole
_MAX_CROP_SIDE_PX, _CROP_JPEG_QUALITY = 640, 85

Corners = tuple[float, float, float, float]


class Crop(NamedTuple):
    """A picture's data URI, the part of the image that it shows, in its pixels, and whether 16 bits were stretched."""

    uri: str
    x: int
    y: int
    width: int
    height: int
    stretched: bool = False


def crop_around(pixels: Pixels, boxes_xyxy: Sequence[Corners]) -> Crop:
    """What holds the boxes and as much again around them, at least 48 pixels; of a small picture all.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; 16 bits are stretched to be seen.
        boxes_xyxy: at least one, in pixels; they may reach beyond the picture.
    """
    height, width = pixels.shape[:2]
    spans = [(0, width), (0, height)]
    if max(height, width) > _MAX_UNCROPPED_PX:
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        margin = np.maximum((high - low) / 2, 48)
        spans = [_span(*each) for each in zip(low - margin, high + margin, (width, height))]
    (x1, x2), (y1, y2) = spans
    picture = Pillow.fromarray(to_uint8(np.ascontiguousarray(pixels[y1:y2, x1:x2])))
    picture.thumbnail((_MAX_CROP_SIDE_PX, _MAX_CROP_SIDE_PX), Pillow.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_CROP_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return Crop(uri, x1, y1, x2 - x1, y2 - y1, stretched=pixels.dtype != np.uint8)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """Whole pixels of the picture; at least one, for boxes that lie outside."""
    start = min(max(int(low), 0), size - 1)
    return start, max(min(int(np.ceil(high)), size), start + 1)


TagCorners = tuple[float, float, float, float]

# The page shows a picture about this wide, in CSS pixels, with tags of this size; only overlaps depend on it.
_SHOWN_WIDTH, _TAG_HEIGHT, _LETTER_EM, _PADDING_EM, _EM = 250.0, 17.0, 0.62, 1.0, 11.5


class _Spot(NamedTuple):
    """A place for a tag: its corners in CSS pixels and the declaration that puts it there at any width."""

    xyxy: TagCorners
    edge: str


def place_tags(
    boxes_xyxy: Sequence[TagCorners], texts: Sequence[str], below: Sequence[bool], width: float, height: float
) -> list[str]:
    """CSS declarations for the tag of each box, empty where the text is.

    Args:
        boxes_xyxy: in pixels of the picture.
        texts: what the tags say.
        below: whether the tag looks for a place at the lower edge first.
        width, height: of the picture, in the boxes' pixels.
    """
    taken: list[TagCorners] = []
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


def _spots(box: TagCorners, text: str, width: float, height: float, low: bool) -> list[_Spot]:
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


def _shared(a: TagCorners, b: TagCorners) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _per_cent(part: float, whole: float) -> str:
    return f"{100 * min(1.0, max(0.0, part / whole)):.2f}%"
