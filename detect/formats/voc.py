"""Pascal-VOC XML, one file an image; coordinates count from 1 and x2, y2 belong to the box."""

from __future__ import annotations

import filecmp
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from ..errors import DataError
from ..images import SUFFIXES
from ..records import Box, Dataset, Finding, Image
from .files import copy, new_folder, stem, unique_names, walk, write_text
from .reading import Entry, Reading, part_of, sentence, size_mismatch, sized
from .voc_xml import box_of, size_told, to_xml
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
        size = size_told(root)
    except DataError as error:
        findings.append(Finding("unreadable label file", "error", path, sentence(error), (image,)))
        return None
    boxes: list[Box] = []
    for position, item in enumerate(root.findall("object"), start=1):
        try:
            boxes.append(box_of(item))
        except ValueError as error:
            message = f"object {position}: {error}; correct or remove it"
            findings.append(Finding("broken object", "error", path, message))
    return Annotation(text_of(root, "filename"), size, tuple(boxes))


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
