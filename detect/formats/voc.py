"""Pascal-VOC XML, one file an image; coordinates count from 1 and x2, y2 belong to the box."""

from __future__ import annotations

import filecmp
import math
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal
from xml.etree import ElementTree  # to write; reading goes through defusedxml

from ..errors import DataError
from ..images import SUFFIXES
from ..records import Box, Dataset, Finding, Image, Xyxy
from .files import copy, new_folder, stem, unique_names, walk, write_text
from .reading import Entry, Reading, clean_name, number, part_of, score_of, sentence, size_mismatch, sized
from .xml_text import parse, text_of

IMAGES, ANNOTATIONS = "IMAGES", "ANNOTATIONS"


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one XML file says; ``size`` is width and height in pixels, None where the file tells none."""

    filename: str
    size: tuple[float, float] | None
    boxes: tuple[Box, ...]


def read(path: Path) -> Dataset:
    """The data set below a folder.

    Raises:
        DataError: anything in it can't be read or has no partner.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path]) -> Reading:
    """Pair XML files and images below all ``sources`` by stem, wherever in them they lie, and gather what is wrong.

    Raises:
        DataError: a source does not exist, or there is neither an image nor an XML file.
    """
    findings: list[Finding] = []
    found = walk(sources, [".xml", *SUFFIXES])
    labels = _by_stem([path for path in found if path.suffix.lower() == ".xml"], "label file", findings)
    images = _by_stem([path for path in found if path.suffix.lower() != ".xml"], "image", findings)
    if not labels and not images:
        places = ", ".join(map(str, sources))
        raise DataError("no image and no XML file below it", where=places, fix="check the path")

    entries: list[Entry] = []
    for name in dict.fromkeys([*images, *labels]):
        image_path, label_file = images.get(name), labels.get(name)
        if label_file is None and image_path is not None and name not in labels:
            message = f"no {name}.xml below any of the folders given; write one (without objects, if there are none)"
            findings.append(Finding("image without label file", "error", image_path, message))
        if image_path is None and label_file is not None and name not in images:
            message = f"no image named {name} below any of the folders given; add its folder or remove the file"
            findings.append(Finding("label file without image", "error", label_file, message))
        if label_file is None or image_path is None:
            continue
        annotation = _read_annotation(label_file, image_path, findings)
        if annotation is not None and _leads_away(annotation.filename):
            message = (
                f"<filename> is {annotation.filename!r}, a path to somewhere else; write the image's bare name, "
                "as files pair by their own names"
            )
            findings.append(Finding("file name leads away", "error", label_file, message, (image_path,)))
            continue
        image = sized(image_path, annotation.boxes, findings, label_file) if annotation else None
        if annotation is None or image is None:
            continue
        entries.append(Entry(image, label_file, part_of(image_path)))
        findings += _told_otherwise(annotation, label_file, image)
    return Reading(tuple(entries), (), tuple(findings))


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>/ANNOTATIONS/*.xml`` and copy the images to ``out/<part>/IMAGES``.

    Boxes are rounded to whole pixels, of which each keeps at least one. Images get another name where two
    would have the same. COCO's iscrowd is kept as an extra element, the score of a draft as an attribute.

    Returns:
        The folder of each part.

    Raises:
        DataError: ``out/<part>`` is not empty, or a name can't stand in XML.
    """
    new_folder(out, list(parts))
    every = [image for dataset in parts.values() for image in dataset.images]
    names = iter(unique_names([image.path for image in every]))
    for part, dataset in parts.items():
        for folder in (IMAGES, ANNOTATIONS):
            (out / part / folder).mkdir(parents=True, exist_ok=True)
        for image in dataset.images:
            name = next(names)
            copy(image.path, out / part / IMAGES / name)
            write_text((out / part / ANNOTATIONS / name).with_suffix(".xml"), to_xml(image, name))
    return {part: out / part for part in parts}


def to_xml(image: Image, filename: str) -> str:
    """The annotation of one image as XML text."""
    root = ElementTree.Element("annotation")
    _add(root, "filename", filename)
    size = ElementTree.SubElement(root, "size")
    _add(size, "width", image.width)
    _add(size, "height", image.height)
    _add(root, "segmented", 0)
    for box in image.boxes:
        item = ElementTree.SubElement(root, "object")
        _add(item, "name", box.label)
        _add(item, "pose", "Unspecified")
        _add(item, "truncated", 0)
        _add(item, "difficult", int(box.difficult))
        if box.crowd:
            _add(item, "iscrowd", 1)
        corners = ElementTree.SubElement(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), _inclusive(box.xyxy, image)):
            _add(corners, key, value)
        if box.score is not None:
            _add_score(item, box.score)
    ElementTree.indent(root, "\t")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _by_stem(paths: list[Path], what: str, findings: list[Finding]) -> dict[str, Path | None]:
    """Stem -> its one file; None, with a finding, where files of different content share a stem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[stem(path)].append(path)
    chosen: dict[str, Path | None] = {}
    for name, (first, *rest) in groups.items():
        chosen[name] = first
        if not rest:
            continue
        if all(filecmp.cmp(path, first, shallow=False) for path in rest):
            message = f"the same {what} lies in {len(rest) + 1} places; this one is used, remove the others"
            findings.append(Finding("copy of a file", "warning", first, message, rest))
        else:
            message = f"{len(rest) + 1} different {what}s are named {name}, so it is open which belongs to what; rename"
            findings.append(Finding("same name twice", "error", first, message, rest))
            chosen[name] = None
    return chosen


def _read_annotation(path: Path, image: Path, findings: list[Finding]) -> Annotation | None:
    try:
        root = parse(path)
        if root.tag != "annotation":
            found = f"its outermost element is <{root.tag}>, not <annotation>"
            raise DataError(found, where=path, fix="remove the file if it is no Pascal-VOC label")
        size = _size(root)
    except DataError as error:
        findings.append(Finding("unreadable label file", "error", path, sentence(error), (image,)))
        return None
    boxes: list[Box] = []
    for position, item in enumerate(root.findall("object"), start=1):
        try:
            boxes.append(_box(item))
        except ValueError as error:
            message = f"object {position}: {error}; correct or remove it"
            findings.append(Finding("broken object", "error", path, message))
    return Annotation(text_of(root, "filename"), size, tuple(boxes))


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    if root.find("size") is None:
        return None
    try:
        return number(text_of(root, "size/width")), number(text_of(root, "size/height"))
    except ValueError:
        return 0.0, 0.0  # told, but wrong: the comparison with the header says so


def _box(item: ElementTree.Element) -> Box:
    label = clean_name(text_of(item, "name"))
    if not label:
        raise ValueError("it has no <name>")
    if item.find("bndbox") is None:
        kinds = " and ".join(f"<{child.tag}>" for child in item if child.tag in ("polygon", "robndbox", "segmentation"))
        raise ValueError(f"it has no <bndbox>{f', only {kinds}' if kinds else ''}")
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        try:
            corners.append(number(text_of(item, f"bndbox/{key}")))
        except ValueError as error:
            raise ValueError(f"<{key}> of {label}: {error}") from None
    x1, y1, x2, y2 = corners
    flags = _flag(item, "difficult"), _flag(item, "iscrowd")
    return Box(label, (x1 - 1, y1 - 1, x2, y2), *flags, _score(item))


def _flag(item: ElementTree.Element, key: str) -> bool:
    text = text_of(item, key).lower()
    if text not in ("", "0", "1", "true", "false"):
        raise ValueError(f"<{key}> is {text!r}, neither 0 nor 1")
    return text in ("1", "true")


def _told_otherwise(annotation: Annotation, path: Path, image: Image) -> list[Finding]:
    findings: list[Finding] = []
    mismatch = size_mismatch(path, image, annotation.size) if annotation.size else None
    if mismatch:
        findings.append(mismatch)
    told = PurePosixPath(unicodedata.normalize("NFC", annotation.filename).replace("\\", "/"))
    name = unicodedata.normalize("NFC", image.path.name)
    if not annotation.filename:
        findings.append(Finding("file name missing", "note", path, f"no <filename>; it is paired with {name}"))
    elif told.name == stem(image.path):
        message = f"<filename> {annotation.filename} has no extension; it is paired with {name}"
        findings.append(Finding("file name without extension", "note", path, message))
    elif told.name != name:
        severity: Literal["note", "warning"] = "note" if told.stem == stem(image.path) else "warning"
        message = f"<filename> is {annotation.filename}, but files pair by their own names and the image is {name}"
        findings.append(Finding("file name at odds", severity, path, message, (image.path,)))
    return findings


def _leads_away(filename: str) -> bool:
    """Whether a name is no name but an absolute path, of whatever system, or climbs out of its folder."""
    told = filename.replace("\\", "/")
    return told.startswith("/") or PureWindowsPath(told).drive != "" or ".." in told.split("/")


def _inclusive(xyxy: Xyxy, image: Image) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (math.floor(value + 0.5) for value in xyxy)
    # Less than a pixel at the right or lower border would be rounded out of the image.
    x1, y1 = min(x1, image.width - 1), min(y1, image.height - 1)
    return x1 + 1, y1 + 1, max(x2, x1 + 1), max(y2, y1 + 1)


def _add_score(item: ElementTree.Element, score: float) -> None:
    """As CVAT writes and reads the attributes of an object."""
    attribute = ElementTree.SubElement(ElementTree.SubElement(item, "attributes"), "attribute")
    _add(attribute, "name", "score")
    _add(attribute, "value", score)


def _score(item: ElementTree.Element) -> float | None:
    for attribute in item.findall("attributes/attribute"):
        if text_of(attribute, "name") == "score":
            try:
                return score_of(number(text_of(attribute, "value")))
            except ValueError:
                return None
    return None


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    text = str(value)
    if not all(c.isprintable() or c in "\t\n" for c in text):
        raise DataError(f"{text!r} can't stand in XML", fix="rename it")
    ElementTree.SubElement(parent, tag).text = text
