"""A long strip in files, which follow one another downwards: its size, and its rows wherever it was cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import as_channels, check_depth
from ..errors import DataError
from ..images import Pixels, read_image, read_size


@dataclass(frozen=True, slots=True)
class StripFiles:
    """The files of a strip, as a line camera writes them: each begins below the one before.

    Attributes:
        paths: in order from the top.
        tops: row of the strip that each file begins with.
        width, height: of the strip in pixels.
    """

    paths: tuple[Path, ...]
    tops: tuple[int, ...]
    width: int
    height: int

    @classmethod
    def of(cls, paths: Sequence[Path]) -> StripFiles:
        """Read the files' headers.

        Raises:
            DataError: no file, one that is no image, or one of another width.
        """
        if not paths:
            raise DataError("a strip without files", fix="name its files in order, or a folder of them")
        sizes = [read_size(path) for path in paths]
        width, tops = sizes[0][0], [0]
        for path, (other, height) in zip(paths, sizes):
            if other != width:
                found = f"the file is {other} pixels wide, the strip's first one {width}"
                raise DataError(found, where=path, fix="give files of one strip, which follow one another downwards")
            tops.append(tops[-1] + height)
        return cls(tuple(paths), tuple(tops[:-1]), width, tops[-1])

    def blocks(self, channels: int, max_value: int | None) -> Iterator[Pixels]:
        """The pixels of one file after the other, in the detector's channels; only one is read at a time.

        Raises:
            DataError: a damaged file, gray values beyond ``max_value``, or a file of another depth than the first.
        """
        depth = None
        for path, top, bottom in zip(self.paths, self.tops, (*self.tops[1:], self.height)):
            pixels = as_channels(check_depth(read_image(path), max_value, path), channels)
            if pixels.shape[:2] != (bottom - top, self.width):
                raise DataError("the file has changed while the strip was read", where=path, fix="start again")
            depth = depth or pixels.dtype
            if pixels.dtype != depth:
                found = f"the file holds {8 * pixels.itemsize} bits a pixel, the strip's first one {8 * depth.itemsize}"
                raise DataError(found, where=path, fix="give files of one camera")
            yield pixels
