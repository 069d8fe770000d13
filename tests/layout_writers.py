"""Known labels, and writers of YOLO, Pascal VOC and COCO files in the manners of different tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from labelled_data import picture

Box = tuple[float, float, float, float]
Node = tuple[str, Any]  # a tag, and its text, its children or None


class Picture(NamedTuple):
    """An image and its objects; boxes are x1, y1, x2, y2 in pixels from 0, x2 and y2 exclusive."""

    name: str
    size: tuple[int, int]
    boxes: tuple[tuple[str, Box], ...] = ()

    @property
    def file(self) -> str:
        return f"{self.name}.jpg"


TRUTH: dict[str, tuple[Picture, ...]] = {
    "train": (
        Picture("plate_1", (100, 80), (("scratch", (10, 12, 40, 52)), ("rolled in", (50, 30, 75, 44)))),
        Picture("plate_2", (100, 80), (("rolled in", (0, 20, 30, 80)),)),
        Picture("plate_3", (120, 60)),
    ),
    "val": (Picture("plate_4", (120, 60), (("scratch", (70, 0, 120, 25)),)), Picture("plate_5", (100, 80))),
    "test": (Picture("plate_6", (100, 80), (("scratch", (12.25, 8.5, 33.75, 30.25)),)),),
}
IMAGES = tuple(image for images in TRUTH.values() for image in images)
USED = ("scratch", "rolled in")
DECLARED = ("scratch", "dent", "rolled in")  # nothing is labelled "dent"


@dataclass(frozen=True)
class Expected:
    """What a reader has to make of a layout.

    Attributes:
        parts: train, val and test -> stem of the image file -> sorted labels with their boxes; "all" if undivided.
        categories: the classes that the layout declares, or those in use where it declares none.
        tolerance: how far a side may be off, in pixels.
        converted: what besides upright boxes is in the files, and what it becomes.
        refused: if set, the layout is refused in a sentence that has this in it.
        unlabelled: images without objects have no label file, so that they are refused unless it is allowed.
    """

    parts: Mapping[str, Mapping[str, list[tuple[str, Box]]]]
    categories: tuple[str, ...] = DECLARED
    tolerance: float = 0.01
    converted: str = ""
    refused: str = ""
    unlabelled: bool = False


def parted(
    *,
    stem: Callable[[Picture], str] = lambda image: image.name,
    box: Callable[[Box], Box] = lambda box: box,
    **rest: Any,
) -> Expected:
    """The truth by part, with the names that the tool gives to images and its boxes as the tool rounds them."""
    parts = {
        part: {stem(image): sorted((label, box(sides)) for label, sides in image.boxes) for image in images}
        for part, images in TRUTH.items()
    }
    return Expected(parts, **rest)


def undivided(**each: Any) -> Expected:
    """The same where the layout has no parts."""
    whole = parted(**each)
    return replace(whole, parts={"all": {name: box for images in whole.parts.values() for name, box in images.items()}})


# Files and numbers ---------------------------------------------------------------------------------------------------


def write(path: Path, content: str, *, encoding: str = "utf-8", newline: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding=encoding, newline=newline)


def lines(each: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in each)


def draw(folder: Path, image: Picture, name: str | None = None, *, seed: int = 0) -> Path:
    """The image file; each picture looks different."""
    return picture(folder / (name or image.file), seed + int(image.name[-1]), *image.size)


def draw_all(folder: Path, name: Callable[[Picture], str] = lambda image: image.file) -> None:
    for image in IMAGES:
        draw(folder, image, name(image))


def mac_archive(folder: Path, *files: str) -> None:
    """What macOS adds to a folder and to a ZIP archive."""
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1\x00")
    for name in files:
        resource = folder / "__MACOSX" / Path(name).parent / f"._{Path(name).name}"
        resource.parent.mkdir(parents=True, exist_ok=True)
        resource.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")


def xywh(box: Box) -> list[float]:
    x1, y1, x2, y2 = box
    return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]


def area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def corners(box: Box) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def floor(box: Box) -> Box:
    x1, y1, x2, y2 = (float(int(value)) for value in box)
    return x1, y1, x2, y2


# YOLO ----------------------------------------------------------------------------------------------------------------


def centre_and_size(box: Box, size: tuple[int, int]) -> list[float]:
    (x1, y1, x2, y2), (width, height) = box, size
    return [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]


def four_corners(box: Box, size: tuple[int, int]) -> list[float]:
    return [value / side for point in corners(box) for value, side in zip(point, size)]


def six_decimals(value: float) -> str:
    return f"{value:.6f}"


def yolo(
    path: Path,
    image: Picture,
    classes: Sequence[str] = DECLARED,
    *,
    row: Callable[[Box, tuple[int, int]], list[float]] = centre_and_size,
    number: Callable[[float], str] = six_decimals,
    last: str = "\n",
    **encoding: str,
) -> None:
    """A text file with a row per object; ``last`` ends it."""
    rows = [" ".join([str(classes.index(label)), *map(number, row(box, image.size))]) for label, box in image.boxes]
    write(path, "\n".join(rows) + last * bool(rows), **encoding)


# Pascal VOC ----------------------------------------------------------------------------------------------------------


def xml(node: Node, indent: str = "  ", level: int = 0) -> str:
    tag, content = node
    if isinstance(content, list):
        inner = "".join(xml(child, indent, level + 1) for child in content)
        return f"{indent * level}<{tag}>\n{inner}{indent * level}</{tag.split()[0]}>\n"
    if content is None:
        return f"{indent * level}<{tag}/>\n"
    return f"{indent * level}<{tag}>{escape(str(content))}</{tag}>\n"


def bndbox(box: Iterable[object], order: Sequence[str] = ("xmin", "ymin", "xmax", "ymax")) -> Node:
    values = dict(zip(("xmin", "ymin", "xmax", "ymax"), box))
    return "bndbox", [(key, values[key]) for key in order]


def voc(
    path: Path,
    image: Picture,
    head: list[Node],
    fields: Callable[[str, Box], list[Node]],
    *,
    depth: object = 1,
    segmented: object = 0,
    indent: str = "  ",
    declaration: str = "",
) -> None:
    """An XML file: ``head``, the image's size, and ``fields`` of each object."""
    size = [("width", image.size[0]), ("height", image.size[1]), ("depth", depth)]
    objects = [("object", fields(label, box)) for label, box in image.boxes]
    content = xml(("annotation", [*head, ("size", size), ("segmented", segmented), *objects]), indent)
    write(path, declaration + content)


def image_sets(folder: Path, task: str = "Main") -> None:
    for part, images in TRUTH.items():
        write(folder / "ImageSets" / task / f"{part}.txt", lines(image.name for image in images))


# COCO ----------------------------------------------------------------------------------------------------------------


def annotations(
    images: Iterable[Picture], classes: Mapping[str, int], fields: Callable[[Box], dict[str, Any]], *, first: int
) -> list[dict[str, Any]]:
    """Those of all images; ids count from ``first``."""
    found = [(i, label, box) for i, image in enumerate(images, first) for label, box in image.boxes]
    return [
        {"id": i, "image_id": image_id, "category_id": classes[label], **fields(box)}
        for i, (image_id, label, box) in enumerate(found, first)
    ]


def from_one(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names, 1)}
