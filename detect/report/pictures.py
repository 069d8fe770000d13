"""Image files -> small pictures that live inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image as Pillow

from ..drawing import to_8bit
from ..errors import DataError
from ..formats.roots import image_beside
from ..images import read_image

_LONGEST_SIDE = 640
_JPEG_QUALITY = 82  # grain of steel still shows; a 200 x 200 image takes some 10 kB
_MOST_BYTES = 12_000_000


class Picture(NamedTuple):
    """A picture inside the page.

    Its data URI, the width and height of the file it was made from, in pixels, and whether 16 bits were stretched.
    """

    uri: str
    width: int
    height: int
    stretched: bool = False


@dataclass(frozen=True, slots=True)
class Album:
    """The pictures of a page.

    Attributes:
        pictures: in the page, each once.
        of: position of an image -> position of its picture.
        unreadable: why each file that can't be read can't be shown.
        left_out: how many there was no room for.
    """

    pictures: tuple[Picture, ...]
    of: dict[int, int]
    unreadable: tuple[str, ...]
    left_out: int

    def size(self, image: int) -> tuple[int, int] | None:
        """Width and height of an image's file, if its picture is here."""
        picture = self.of.get(image)
        return None if picture is None else (self.pictures[picture].width, self.pictures[picture].height)


def collect(files: Sequence[str], wanted: Iterable[int], root: Path | None, *, most_bytes: int = _MOST_BYTES) -> Album:
    """Read and shrink the pictures of images, the most wanted first, until the page is large enough.

    Args:
        files: of all images, relative to ``root``.
        wanted: positions in ``files``.
        root: None for a page without pictures.
        most_bytes: of all pictures together.
    """
    pictures: list[Picture] = []
    of: dict[int, int] = {}
    unreadable = []
    left_out = 0
    for position in wanted if root is not None else ():
        assert root is not None
        if most_bytes <= 0:
            left_out += 1
            continue
        try:
            picture = embed(image_beside(root, files[position]))
        except DataError as error:
            unreadable.append(f"{files[position]}: {error.found}")
            continue
        of[position] = len(pictures)
        pictures.append(picture)
        most_bytes -= len(picture.uri)
    return Album(tuple(pictures), of, tuple(unreadable), left_out)


def embed(path: Path) -> Picture:
    """A JPEG of at most 640 pixels a side, gray where the file is gray; 16 bits are stretched to be seen.

    Raises:
        DataError: the file is missing or is no image.
    """
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    picture = Pillow.fromarray(to_8bit(pixels))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Pillow.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return Picture(uri, width, height, stretched=pixels.dtype != "uint8")
