"""Images embedded in HTML pages as thumbnails or crops around boxes, and positions of box tags without overlap."""

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
_JPEG_QUALITY = 82  # keeps the grain of steel visible; a 200 x 200 image takes about 10 kB
_MAX_BYTES = 12_000_000

Corners = tuple[float, float, float, float]  # xyxy, pixels


class Thumbnail(NamedTuple):
    """An image embedded in a page.

    Attributes:
        uri: JPEG data URI.
        width, height: of the original file, in pixels.
        stretched: whether 16 bits were stretched to 8.
    """

    uri: str
    width: int
    height: int
    stretched: bool = False


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The thumbnails of a page.

    Attributes:
        pictures: each thumbnail once.
        of: position of an image -> position of its thumbnail.
        unreadable: "file name: reason" for each file that can't be read.
        left_out: number of images that exceed the size limit of the page.
    """

    pictures: tuple[Thumbnail, ...]
    of: dict[int, int]
    unreadable: tuple[str, ...]
    left_out: int

    def size(self, image: int) -> tuple[int, int] | None:
        """(width, height) of the original file in pixels, None if the image has no thumbnail."""
        picture = self.of.get(image)
        return None if picture is None else (self.pictures[picture].width, self.pictures[picture].height)


def collect_thumbnails(
    files: Sequence[str], order: Iterable[int], root: Path | None, *, max_bytes: int = _MAX_BYTES
) -> Thumbnails:
    """Make thumbnails until the size limit is reached.

    Args:
        files: file names of all images, relative to ``root``.
        order: positions in ``files``, the most important image first.
        root: image folder; None for a page without images.
        max_bytes: limit for all thumbnails together.
    """
    pictures: list[Thumbnail] = []
    of: dict[int, int] = {}
    unreadable = []
    left_out = 0
    if root is None:
        return Thumbnails((), {}, (), 0)
    for position in order:
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
    """A JPEG of at most 640 x 640 pixels, gray if the file is gray; 16 bits are stretched to 8.

    Raises:
        DataError: the file is missing or is not an image.
    """
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    return Thumbnail(_jpeg_uri(pixels, _JPEG_QUALITY), width, height, stretched=pixels.dtype != np.uint8)


def _jpeg_uri(pixels: Pixels, quality: int) -> str:
    picture = Pillow.fromarray(to_uint8(pixels))
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Pillow.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")


_MAX_UNCROPPED_PX = 320  # an image with no longer side than this is not cropped
_CROP_JPEG_QUALITY = 85


class Crop(NamedTuple):
    """A region of an image.

    Attributes:
        uri: JPEG data URI, empty if the image is not shown.
        x, y, width, height: the region in pixels of the image.
        stretched: whether 16 bits were stretched to 8.
    """

    uri: str
    x: int
    y: int
    width: int
    height: int
    stretched: bool = False


def crop_around(pixels: Pixels, boxes_xyxy: Sequence[Corners]) -> Crop:
    """The region around the boxes, with a margin of half its size and at least 48 pixels; small images are not cropped.

    Args:
        pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; 16 bits are stretched to 8.
        boxes_xyxy: at least one, in pixels; they may exceed the image.
    """
    height, width = pixels.shape[:2]
    spans = [(0, width), (0, height)]
    if max(height, width) > _MAX_UNCROPPED_PX:
        corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        margin = np.maximum((high - low) / 2, 48)
        spans = [_span(*each) for each in zip(low - margin, high + margin, (width, height))]
    (x1, x2), (y1, y2) = spans
    uri = _jpeg_uri(np.ascontiguousarray(pixels[y1:y2, x1:x2]), _CROP_JPEG_QUALITY)
    return Crop(uri, x1, y1, x2 - x1, y2 - y1, stretched=pixels.dtype != np.uint8)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """(start, stop) in whole pixels inside the image; at least one pixel, also for boxes outside the image."""
    start = min(max(int(low), 0), size - 1)
    return start, max(min(int(np.ceil(high)), size), start + 1)


# Approximate width of an image on the page and size of the tags, in CSS pixels; only the overlaps depend on them.
_SHOWN_WIDTH, _TAG_HEIGHT, _LETTER_EM, _PADDING_EM, _EM = 250.0, 17.0, 0.62, 1.0, 11.5


class _Spot(NamedTuple):
    """A position for a tag: its corners in CSS pixels, and its vertical CSS declaration, valid at any image width."""

    xyxy: Corners
    edge: str


def place_tags(
    boxes_xyxy: Sequence[Corners], texts: Sequence[str], below: Sequence[bool], width: float, height: float
) -> list[str]:
    """CSS declarations for the position of each tag, empty for an empty text.

    Args:
        boxes_xyxy: in pixels of the image.
        texts: texts of the tags.
        below: whether a tag prefers the lower edge of its box.
        width, height: of the image, in pixels.
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
    """Positions outside and inside the upper and the lower edge, preferred first, as far as they are in the image."""
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
