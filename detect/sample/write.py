"""A sample data set on disk in NEU-DET's own layout: BMP images and Pascal-VOC XML, numbered from 1 in every class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import write_image
from ..records import Box
from .fields import SizeHw
from .scene import CATEGORIES, make_image

_FOLDERS = {c: "".join(word[0] for word in c.replace("-", "_").split("_"))[:2] for c in CATEGORIES}


def write_sample(out: Path, *, images: int, seed: int) -> None:
    """Write ``out/IMAGES/<class>_<n>.bmp`` and ``out/ANNOTATIONS/<class>_<n>.xml``, 200 x 200 pixels, 8-bit gray.

    The images are spread evenly over the six classes, the first classes getting one more where they don't divide.
    An image depends on ``seed``, its class and its number alone, so a larger set holds the smaller one.

    Args:
        out: the folder; made if missing.
        images: how many in all, at least 1.
        seed: 0 or more.

    Raises:
        DataError: a wrong number, or a folder that holds other files, which would be mixed up with these.
    """
    if images < 1 or seed < 0:
        raise DataError(
            f"images={images}, seed={seed} make no sample", fix="give 1 image or more and a seed of 0 or more"
        )
    names = [f"{category}_{n}" for category, n in numbered(images)]
    picture_folder, label_folder = out / "IMAGES", out / "ANNOTATIONS"
    make_folder(picture_folder, {f"{name}.bmp" for name in names})
    make_folder(label_folder, {f"{name}.xml" for name in names})
    for category, n in numbered(images):
        pixels, boxes = sample_image(category, n, seed=seed)
        write_image(picture_folder / f"{category}_{n}.bmp", pixels)
        xml = _xml(f"{category}_{n}.bmp", _FOLDERS[category], (pixels.shape[0], pixels.shape[1]), boxes)
        (label_folder / f"{category}_{n}.xml").write_text(xml, encoding="utf-8", newline="\n")


def sample_image(category: str, number: int, *, seed: int) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """The image that ``write_sample`` names ``<category>_<number>``, and its boxes, as ``make_image`` returns them."""
    known = CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)
    return make_image(category, np.random.default_rng([seed, known, number]))


def numbered(images: int) -> list[tuple[str, int]]:
    """Category and number, from 1 on, of so many things spread evenly over the categories."""
    share, rest = divmod(images, len(CATEGORIES))
    return [(category, n) for i, category in enumerate(CATEGORIES) for n in range(1, share + (i < rest) + 1)]


def make_folder(folder: Path, expected: set[str]) -> None:
    """Make a folder; DataError if it holds other files than ``expected``."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name not in expected)
    if others:
        raise DataError(
            f"the folder holds {len(others)} other files, {others[0]} among them",
            where=folder,
            fix="choose an empty one",
        )


def _xml(filename: str, folder: str, size_hw: SizeHw, boxes: Sequence[Box]) -> str:
    """NEU-DET's form; corners are 1-based and inclusive there."""
    lines = [
        "<annotation>",
        f"\t<folder>{folder}</folder>",
        f"\t<filename>{filename}</filename>",
        "\t<source>",
        "\t\t<database>synthetic hot-rolled steel</database>",
        "\t</source>",
        "\t<size>",
        f"\t\t<width>{size_hw[1]}</width>",
        f"\t\t<height>{size_hw[0]}</height>",
        "\t\t<depth>1</depth>",
        "\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for box in boxes:
        x1, y1, x2, y2 = (int(v) for v in box.xyxy)
        lines += [
            "\t<object>",
            f"\t\t<name>{box.label}</name>",
            "\t\t<pose>Unspecified</pose>",
            "\t\t<truncated>0</truncated>",
            f"\t\t<difficult>{int(box.difficult)}</difficult>",
            "\t\t<bndbox>",
            f"\t\t\t<xmin>{x1 + 1}</xmin>",
            f"\t\t\t<ymin>{y1 + 1}</ymin>",
            f"\t\t\t<xmax>{x2}</xmax>",
            f"\t\t\t<ymax>{y2}</ymax>",
            "\t\t</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
