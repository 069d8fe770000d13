"""Images of steel with defects and defect-like marks, and data sets of them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..images import write_image
from ..structures import Box
from .defects import DEFECTS, Window, lookalikes, place_defect, plan, spatter
from .steel import SURFACES, Field, SizeHw, Surface

CATEGORIES = tuple(DEFECTS)
_SMALLEST_SIDE_PX = 64


def make_image(
    category: str, rng: np.random.Generator, *, size_hw: SizeHw = (200, 200)
) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """Draw one image of hot-rolled steel with defects of ``category``, and sometimes of a second category.

    Args:
        category: one of ``CATEGORIES``.
        rng: the only source of randomness; the same state gives the same image on any machine.
        size_hw: height and width in pixels, each at least 64; larger images contain more defects of the same size.

    Returns:
        uint8[height, width] gray, and the boxes. A box is the bounding box of the pixels where the drawn defect changes
        the brightness by more than the steel's grain.

    Raises:
        DataError: an unknown category, or an image that is too small.
    """
    if category not in DEFECTS:
        raise DataError(f'no defect is called "{category}"', fix="choose from " + ", ".join(CATEGORIES))
    if min(size_hw) < _SMALLEST_SIDE_PX:
        raise DataError(f"{size_hw[1]} x {size_hw[0]} pixels are too few", fix=f"ask for {_SMALLEST_SIDE_PX} or more")
    surface = SURFACES[category](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel = 1 + surface.relief + lookalikes(rng, size_hw, noise)
    marks = np.ones(size_hw)
    boxes: list[Box] = []
    for label, window in plan(category, rng, size_hw):
        boxes += _place(draw(label, category, rng, window), label, window, surface, marks)
    gray = surface.light * (steel * np.minimum(marks, 1) + np.maximum(marks - 1, 0))
    gray += rng.uniform(0.6, 1.4) * rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def draw(label: str, category: str, rng: np.random.Generator, window: Window) -> Field:
    """Render a defect on the steel of ``category``, float64 of the window's size."""
    render = spatter if (label, category) == ("inclusion", "patches") else DEFECTS[label]
    return render(rng, (window[2] - window[0], window[3] - window[1]))


def _place(mark: Field, label: str, window: Window, surface: Surface, marks: Field) -> list[Box]:
    """Place a drawn defect in ``marks`` (1 = sound steel); its box, or an empty list if it is outside the image."""
    box = place_defect(mark, label, window, surface, marks).box()
    return [box] if box else []


_FOLDERS = {c: "".join(word[0] for word in c.replace("-", "_").split("_"))[:2] for c in CATEGORIES}


def write_sample(out: Path, *, images: int, seed: int) -> None:
    """Write ``out/IMAGES/<class>_<n>.bmp`` and ``out/ANNOTATIONS/<class>_<n>.xml``, 200 x 200 pixels, 8-bit gray.

    The images are spread evenly over the six classes; the first classes get one more if the number isn't divisible.
    An image depends on ``seed``, its class and its number only, so a larger set contains the smaller one.

    Args:
        out: the folder; created if missing.
        images: total number of images, at least 1.
        seed: 0 or more.

    Raises:
        DataError: a wrong number, or a folder that contains other files.
    """
    if images < 1 or seed < 0:
        raise DataError(
            f"images={images}, seed={seed} are out of range", fix="give 1 image or more and a seed of 0 or more"
        )
    names = [f"{category}_{n}" for category, n in numbered(images)]
    image_folder, label_folder = out / "IMAGES", out / "ANNOTATIONS"
    make_folder(image_folder, {f"{name}.bmp" for name in names})
    make_folder(label_folder, {f"{name}.xml" for name in names})
    for category, n in numbered(images):
        pixels, boxes = sample_image(category, n, seed=seed)
        write_image(image_folder / f"{category}_{n}.bmp", pixels)
        xml = _xml(f"{category}_{n}.bmp", _FOLDERS[category], (pixels.shape[0], pixels.shape[1]), boxes)
        (label_folder / f"{category}_{n}.xml").write_text(xml, encoding="utf-8", newline="\n")


def sample_image(category: str, number: int, *, seed: int) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """The image that ``write_sample`` names ``<category>_<number>``, and its boxes, as ``make_image`` returns them."""
    known = CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES)
    return make_image(category, np.random.default_rng([seed, known, number]))


def numbered(images: int) -> list[tuple[str, int]]:
    """(Category, number from 1) of ``images`` items spread evenly over the categories."""
    share, rest = divmod(images, len(CATEGORIES))
    return [(category, n) for i, category in enumerate(CATEGORIES) for n in range(1, share + (i < rest) + 1)]


def make_folder(folder: Path, expected: set[str]) -> None:
    """Create a folder; DataError if it contains other files than ``expected``."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name not in expected)
    if others:
        raise DataError(
            f"the folder contains {len(others)} other files, {others[0]} among them",
            where=folder,
            fix="choose an empty folder",
        )


def _xml(filename: str, folder: str, size_hw: SizeHw, boxes: Sequence[Box]) -> str:
    """Annotation in NEU-DET's XML format; its corners are 1-based and inclusive."""
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
