"""What every label reader gives: images with their boxes as labelled, and everything that was wrong on the way."""

from __future__ import annotations

import codecs
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from ..errors import DataError
from ..fileio import decode, encoding_of, read_bytes, read_errors
from ..images import read_orientation, read_size
from ..structures import Dataset, Finding, Image, Xyxy

_ROUNDED = ("circle", "cuboid", "ellipse", "rotated box")
_SWAPS = (5, 6, 7, 8)  # orientations that exchange width and height
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
IN_NO_PART = "image in no part"  # the kind of a finding whose images are in none of the parts that the source names


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What label files leave open.

    Attributes:
        categories: class names in the order of their ids, for YOLO files without a file of names.
        voc_origin: the number of the first pixel in Pascal-VOC, 0 or 1; None decides by the whole set.
        ignores_orientation: boxes were drawn by a tool that shows pixels as they are stored, whatever the image's
            orientation tag (EXIF) says.
        own_parts: the lists of a VOC devkit divide the images and leave out those that they don't name.
        allow_empty: an image without a label file has no objects, also in formats that have one for every image.
    """

    categories: tuple[str, ...] | None = None
    voc_origin: Literal[0, 1] | None = None
    ignores_orientation: bool = False
    own_parts: bool = True
    allow_empty: bool = False


DEFAULTS = ReadOptions()


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
        divided: whether the parts of the entries are the source's own division into parts.
    """

    entries: tuple[Entry, ...]
    categories: tuple[str, ...]
    findings: tuple[Finding, ...]
    divided: bool = True

    def names(self) -> tuple[str, ...]:
        """Declared names, or all that boxes use in alphabetical order."""
        return self.categories or tuple(sorted({box.label for e in self.entries for box in e.image.boxes}))

    def dataset(self) -> Dataset:
        """The images, if nothing was wrong. Boxes that stick out by a little are clipped.

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
        return Dataset(tuple(clip_to_image(entry.image)[0] for entry in self.entries), self.names())


@dataclass(slots=True)
class Converted:
    """Counts of what became something else while it was read, one line of the audit for each kind.

    Attributes:
        shapes: "polygon" and the like -> how many became their enclosing boxes.
        keypoints: objects whose keypoints were left out.
        encodings: name of an encoding other than UTF-8 -> files that were decoded from it.
    """

    shapes: Counter[str] = field(default_factory=Counter)
    keypoints: int = 0
    encodings: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def note_encoding(self, path: Path, data: bytes) -> None:
        """Remember a file that is in another encoding than UTF-8; what fits none is left to the reader."""
        try:
            encoding = encoding_of(data)
        except UnicodeError:
            return
        if encoding not in ("utf-8", "utf-16-le", "utf-16-be"):
            self.encodings[encoding].append(path)

    def findings(self, place: Path) -> list[Finding]:
        """Notes about all of these; ``place`` is the file or folder that was read."""
        found: list[Finding] = []
        if self.shapes:
            became = "its enclosing box" if sum(self.shapes.values()) == 1 else "their enclosing boxes"
            message = f"{_listed(self.shapes)} became {became}"
            found.append(Finding("shapes converted", "note", place, message))
        if self.keypoints:
            objects = counted(self.keypoints, "object has", "objects have")
            message = f"{objects} keypoints, which are left out; only their boxes are used"
            found.append(Finding("keypoints left out", "note", place, message))
        for encoding, files in self.encodings.items():
            number = counted(len(files), "file was", "files were")
            message = f"{number} decoded from {encoding}; check the class names, or save as UTF-8"
            found.append(Finding("text decoded", "note", files[0], message, files[1:]))
        return found


def _listed(counts: Mapping[str, int]) -> str:
    """As in "3 polygons and 1 circle"."""
    words = []
    for name, number in sorted(counts.items()):
        words.append(counted(number, name, name + ("es" if name.endswith("x") else "s")))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def enclosing(points: Iterable[tuple[float, float]]) -> Xyxy:
    """The smallest upright box around points.

    Raises:
        ValueError: there is no point, or a coordinate is not finite.
    """
    xs, ys = zip(*points)
    if not all(math.isfinite(value) for value in (*xs, *ys)):
        raise ValueError("a coordinate is not a finite number")
    return min(xs), min(ys), max(xs), max(ys)


def enclosing_rotated(xyxy: Xyxy, degrees: float) -> Xyxy:
    """The smallest upright box around a rectangle that is rotated about its centre."""
    x1, y1, x2, y2 = xyxy
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_w = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_h = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h


def clipped(xyxy: Xyxy, width: float, height: float) -> Xyxy:
    """A box cut at the borders of its image, in pixels."""
    x1, y1, x2, y2 = xyxy
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def clip_rounded(xyxy: Xyxy, shape: str, width: float, height: float) -> Xyxy:
    """The enclosing box of a shape, cut at the borders of its image if it has to reach beyond them.

    That of a rotated box, a circle or an ellipse does so wherever the object is at the border. A polygon has no reason
    to, so its box is judged like one that was drawn; and so is one of which nothing would be left.
    """
    cut = clipped(xyxy, width, height)
    return cut if shape in _ROUNDED and cut[0] < cut[2] and cut[1] < cut[3] else xyxy


def clip_to_image(image: Image, *, any_distance: bool = False) -> tuple[Image, int]:
    """The image with boxes that stick out cut at its borders, and how many were cut.

    Args:
        image: boxes as labelled.
        any_distance: cut all that leave an area; otherwise those that stick out by at most 1 pixel or 1 % of the
            side. Up to a tenth of a pixel is the rounding of formats that store fractions, and stays.
    """
    width, height = image.width, image.height
    boxes, number = [], 0
    for box in image.boxes:
        x1, y1, x2, y2 = box.xyxy
        by_x, by_y = max(-x1, x2 - width), max(-y1, y2 - height)
        near = by_x <= max(1.0, 0.01 * width) and by_y <= max(1.0, 0.01 * height)
        cut = clipped(box.xyxy, width, height)
        if max(by_x, by_y) > TOLERANCE and (near or any_distance) and cut[0] < cut[2] and cut[1] < cut[3]:
            box, number = replace(box, xyxy=cut), number + 1
        boxes.append(box)
    return (Image(image.path, width, height, tuple(boxes), image.frame), number) if number else (image, 0)


TOLERANCE = 0.1  # pixels that a box may stick out: the rounding of formats that store fractions


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
    """The score of a pre-annotation; None where a file means something else by this word."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    return float(value)


def part_of(path: Path, roots: Sequence[Path]) -> str:
    """The innermost folder, from the roots on, that is named like a part; "" if there is none."""
    folders = path.parent.parts
    inside = max((len(root.parts) - 1 for root in roots if path.is_relative_to(root)), default=0)
    return next((name.lower() for name in reversed(folders[max(inside, 0) :]) if name.lower() in PARTS), "")


def read_label_text(path: Path, max_bytes: int, converted: Converted | None = None) -> str:
    """The text of a label file.

    Raises:
        DataError: it can't be read, is too large, or its encoding is unknown.
    """
    with read_errors(path, "the text", fix="save it as UTF-8"):
        data = read_bytes(path, max_bytes)
        text = decode(data)
    if converted is not None:
        converted.note_encoding(path, data)
    return text


def sized(path: Path, options: ReadOptions, findings: list[Finding], *others: Path) -> Image | None:
    """The image with the size that its boxes refer to; None, with a finding about it and ``others``, if unreadable.

    The size is that of the upright image, or of the stored pixels if the options say that boxes were drawn on these.
    """
    try:
        width, height = read_size(path)
        if options.ignores_orientation and read_orientation(path) in _SWAPS:
            width, height = height, width
    except DataError as error:
        kind = "unreadable image" if os.path.exists(path) else "missing image"  # noqa: PTH110  # of any name, however long
        findings.append(Finding(kind, "error", path, sentence(error), others))
        return None
    return Image(path, width, height)


def upright(image: Image) -> Image:
    """An image whose boxes were drawn on its stored pixels, with its boxes where they are on the upright image."""
    orientation = read_orientation(image.path)
    if orientation == 1:
        return image
    width, height = image.width, image.height
    boxes = []
    for box in image.boxes:
        x1, y1, x2, y2 = box.xyxy
        if orientation in (2, 3, 7, 8):  # TIFF 6.0, section 8: the stored rows run from right to left, or upwards
            x1, x2 = width - x2, width - x1
        if orientation in (3, 4, 6, 7):
            y1, y2 = height - y2, height - y1
        boxes.append(replace(box, xyxy=(y1, x1, y2, x2) if orientation in _SWAPS else (x1, y1, x2, y2)))
    size = (height, width) if orientation in _SWAPS else (width, height)
    return Image(image.path, *size, tuple(boxes), image.frame)


def size_mismatch(label_file: Path, image: Image, size: tuple[float, float] | None) -> list[Finding]:
    """A warning if a label file gives another (width, height) than the image's header; None: it gives none.

    Only a warning: the size given is never used, many tools write 0 or an outdated one, and a box that
    does not fit the real image is an error of its own.
    """
    if size is None:
        return []
    width, height = size
    if width == image.width and height == image.height:
        return []
    swapped = ""
    if width == image.height and height == image.width:
        swapped = "; width and height are swapped, so they may have been drawn on a picture turned by its rotation flag"
        if read_orientation(image.path) in _SWAPS:
            swapped = "; its orientation tag swaps width and height: --ignore-orientation reads boxes drawn without it"
    message = (
        f"the labels give a size of {width:g} x {height:g} pixels, but {image.path.name} has "
        f"{image.width} x {image.height}; the image's own size is used, check that the boxes were drawn on this "
        f"picture{swapped}"
    )
    return [Finding("size mismatch", "warning", label_file, message, (image.path,))]


def first_few(names: Iterable[object], max_names: int = 3) -> str:
    """The first names of a list, "..." for the others."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:max_names]) + (", ..." if len(listed) > max_names else "")


def counted(number: int, one: str, several: str) -> str:
    """As in "1 image is" and "1,200 images are"."""
    return f"1 {one}" if number == 1 else f"{number:,} {several}"


def in_no_part(paths: Sequence[Path], named_by: str) -> list[Finding]:
    """A warning about images that none of the parts of a source has."""
    if not paths:
        return []
    images = counted(len(paths), "image is", "images are")
    message = f"{images} in no part that {named_by} names and left out: {first_few(path.name for path in paths)}"
    return [Finding(IN_NO_PART, "warning", paths[0], message, paths[1:])]


def without_labels(paths: Sequence[Path], total: int) -> list[Finding]:
    """A note about images without a label file in a format where these count as images without objects."""
    if not paths:
        return []
    folders = list(dict.fromkeys(str(path.parent) for path in paths))
    where = folders[0] if len(folders) == 1 else f"{folders[0]} and {len(folders) - 1} more folders"
    message = (
        f"{len(paths):,} of {total:,} images ({100 * len(paths) / total:.0f} %) have no label file and count as images "
        f"without objects, in {where}; label them or remove them if they show defects"
    )
    return [Finding("image without label file", "note", paths[0], message, paths[1:])]


def sentence(error: DataError) -> str:
    """The error without the path, which a finding gives by itself."""
    return f"{error.found}; {error.fix}" if error.fix else error.found


_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_NO_TEXT = {"idna", "punycode", "raw_unicode_escape", "unicode_escape"}  # Python's own, some of them slow without bound
_MAX_BYTES = 10_000_000  # some 30,000 objects; parsed, the worst of it takes 0.4 GB
_HEAD = 4096  # bytes in which the outermost element begins
_DEEPEST = 100  # levels; an annotation has four


def parse(path: Path, converted: Converted | None = None) -> Element:
    """The root element.

    Args:
        path: the file.
        converted: gets a note if the encoding had to be recognised.

    Raises:
        DataError: missing, empty, no XML, in an encoding nobody knows, or with entities, which only an attack needs.
    """
    with read_errors(path, "the file", fix="write the labels again"):
        data = read_bytes(path, _MAX_BYTES)
    if not data.strip():
        raise DataError("the file is empty", where=path, fix="write the labels again or remove it")
    try:
        # The declaration has done its duty then, and the parser knows few encodings.
        text, recognised = _text(data)
        root = _tree(_DECLARATION.sub("", text, count=1).strip())
    except DefusedXmlException:
        found = "the XML defines entities, which labels don't need and attacks do"
        raise DataError(found, where=path, fix="remove its DOCTYPE") from None
    except ParseError as error:
        raise DataError(f"the XML is damaged or cut short ({error})", where=path, fix="write it again") from None
    except (LookupError, UnicodeError, ValueError) as error:
        fix = "save it as UTF-8"
        raise DataError(f"the text does not fit its encoding ({error})", where=path, fix=fix) from None
    if converted is not None and recognised:
        converted.note_encoding(path, data)
    return root


def has_root(path: Path, name: str) -> bool:
    """Whether the outermost element of a file is called so in any capitals, as far as its first bytes show."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD).replace(b"\0", b"") if path.is_file() else b""
    except OSError:  # the reader says why
        return False
    return re.search(rb"<(?:\w+:)?%s[\s>/]" % name.encode(), start, re.IGNORECASE) is not None


def local_name(tag: object) -> str:
    """A tag in small letters and without its namespace; "" of what is no element."""
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def text_of(element: Element, path: str) -> str:
    """The text of a descendant without outer spaces, "" if there is none."""
    return (element.findtext(path) or "").strip()


class _Shallow(TreeBuilder):
    """Elements to a tree, as long as no attack nests them: the parser itself takes memory for each open one."""

    depth = 0

    def start(self, tag: Any, attrs: Any) -> Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ParseError(f"nested more than {_DEEPEST} levels deep")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Element:
        self.depth -= 1
        return super().end(tag)


def _tree(text: bytes | str) -> Element:
    parser = XMLParser(target=_Shallow(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.feed(text)
    root: Element = parser.close()
    return root


def _text(data: bytes) -> tuple[str, bool]:
    """The text, and whether its encoding was recognised; a declaration is believed where the bytes can't be.

    Some tools declare UTF-16 or GBK and write UTF-8, others write GBK and declare UTF-8 or nothing.
    """
    match = _DECLARED.match(data)
    declared = codecs.lookup(match.group(1).decode("ascii")).name if match else "utf-8"
    if declared in _NO_TEXT:
        raise LookupError(f"unknown encoding: {declared}")
    seven_bit = declared.startswith(("iso2022", "hz", "utf-7"))
    plain = declared.startswith(("utf", "ascii"))
    try:
        own = encoding_of(data)
    except UnicodeError:
        own = ""
    if not plain and (seven_bit or own in ("", "gbk", "cp1252")):
        return data.decode(declared), False
    return decode(data), True
