"""What every reader hands over: images with their boxes as labelled, and all that was wrong on the way."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..images import read_size
from ..records import Box, Dataset, Finding, Image

PARTS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image and where its labels stand.

    Attributes:
        image: the image with its boxes as labelled, not yet checked against its borders.
        label_file: the file to correct when a box is wrong.
        part: "train", say, where the source itself is divided; empty otherwise.
    """

    image: Image
    label_file: Path
    part: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that could be read, and a finding for everything that could not.

    Attributes:
        entries: readable images in natural order.
        categories: names that the source declares, in its order; empty where a format declares none.
        findings: errors leave a file or an object out of ``entries``, notes and warnings don't.
    """

    entries: tuple[Entry, ...]
    categories: tuple[str, ...]
    findings: tuple[Finding, ...]

    def names(self) -> tuple[str, ...]:
        """Declared names, or all that boxes use in alphabetical order."""
        return self.categories or tuple(sorted({box.label for e in self.entries for box in e.image.boxes}))

    def dataset(self) -> Dataset:
        """The images, if nothing was wrong.

        Raises:
            DataError: the first error, and how many more there are; or a box that has no area.
        """
        errors = [f for f in self.findings if f.severity == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
            raise DataError(errors[0].message + more, where=errors[0].path, fix="`detect audit` lists all of them")
        for entry in self.entries:
            for number, box in enumerate(entry.image.boxes, start=1):
                x1, y1, x2, y2 = box.xyxy
                if not (x2 > x1 and y2 > y1):
                    found = f"box {number} ({box.label}) of {entry.image.path.name} has no area"
                    raise DataError(found, where=entry.label_file, fix="`detect audit` lists all such boxes")
        return Dataset(tuple(entry.image for entry in self.entries), self.names())


def clean_name(text: str) -> str:
    """A category name without stray spaces and line breaks."""
    return " ".join(text.split())


def number(text: str) -> float:
    """A finite number, or ValueError with a sentence that fits behind a colon."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number" if text.strip() else "a number is missing") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def score_of(value: object) -> float | None:
    """The score of a draft; None where a file says something else by this word."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    return float(value)


def part_of(path: Path) -> str:
    """The innermost folder that is named like a part, "" if there is none."""
    return next((name.lower() for name in reversed(path.parent.parts) if name.lower() in PARTS), "")


def sized(path: Path, boxes: tuple[Box, ...], findings: list[Finding], *others: Path) -> Image | None:
    """The image with the size from its own header; None, with a finding that concerns ``others`` too, if unreadable."""
    try:
        width, height = read_size(path)
    except DataError as error:
        kind = "unreadable image" if os.path.exists(path) else "missing image"  # noqa: PTH110  # of any name, however long
        findings.append(Finding(kind, "error", path, sentence(error), others))
        return None
    return Image(path, width, height, boxes)


def size_mismatch(label_file: Path, image: Image, told: tuple[float, float]) -> Finding | None:
    """A warning if a label file tells another size than the image's header.

    Only a warning: the told size is never used, many tools write 0 or an outdated one, and a box that
    does not fit the real image is an error of its own.
    """
    if told[0] == image.width and told[1] == image.height:
        return None
    turned = "; width and height are swapped, so they may have been drawn on a picture turned by its rotation flag"
    message = (
        f"the labels tell a size of {told[0]:g} x {told[1]:g} pixels, but {image.path.name} has "
        f"{image.width} x {image.height}; the image's own size is used, check that the boxes were drawn on this picture"
        f"{turned if told[0] == image.height and told[1] == image.width else ''}"
    )
    return Finding("size mismatch", "warning", label_file, message, (image.path,))


def sentence(error: DataError) -> str:
    """The error without the path, which a finding tells by itself."""
    return f"{error.found}; {error.fix}" if error.fix else error.found
