"""CSV for spreadsheets and scripts: one row a box, corners in pixels from 0; written, not read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..fileio import write_text
from ..structures import Dataset
from .paths import references

COLUMNS = ("image", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>.csv``; images stay where they are and are named relative to the file.

    Raises:
        DataError: a file name that is no Unicode.
    """
    written = {part: out / f"{part}.csv" for part in parts}
    for part, dataset in parts.items():
        try:
            write_text(written[part], to_text(dataset, out))
        except UnicodeEncodeError as error:
            found = f"the file name {error.object[error.start :][:40]!r} is no Unicode"
            raise DataError(found, where=written[part], fix="rename the image") from None
    return written


def to_text(dataset: Dataset, root: Path) -> str:
    """The table, in the data set's order; x2 and y2 are exclusive, the score is empty where there is none.

    An image without boxes has one row, empty from ``class`` on, so that it is not forgotten.

    Args:
        dataset: images and their boxes.
        root: folder that image paths are told relative to, with forward slashes.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, image in zip(references([image.path for image in dataset.images], root), dataset.images):
        first = (name, image.width, image.height)
        if not image.boxes:
            table.writerow((*first, *("" for _ in COLUMNS[3:])))
        for box in image.boxes:
            score = "" if box.score is None else f"{box.score:g}"
            table.writerow((*first, box.label, score, *(f"{value:.10g}" for value in box.xyxy)))
    return text.getvalue()
