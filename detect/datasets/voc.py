"""Pascal-VOC XML, one file per image; coordinates count from 1 and x2, y2 belong to the box."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ..errors import DataError
from ..fileio import copy, new_folder, write_text
from ..images import SUFFIXES
from ..structures import Box, Dataset, Finding, Image, Xyxy
from .paths import FilePairs, NamedImages, leads_out, nfc_name, pair, stem, unique_names, walk, without_derived
from .reading import (
    DEFAULTS,
    Converted,
    Entry,
    Reading,
    ReadOptions,
    clean_name,
    clip_rounded,
    counted,
    enclosing,
    enclosing_rotated,
    has_root,
    in_no_part,
    local_name,
    number,
    parse,
    part_of,
    read_label_text,
    score_of,
    sentence,
    size_mismatch,
    sized,
    text_of,
    without_labels,
)

IMAGES, ANNOTATIONS = "IMAGES", "ANNOTATIONS"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MOST_LIST_BYTES = 50_000_000
_OF_CLASS = re.compile(r".*\s[+-]?[01]")  # a line of dent_train.txt: whether an image has the class


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one XML file says.

    Attributes:
        filename: the image's name, "" where the file gives none.
        size: width and height in pixels, None where the file gives none.
        boxes: corners as the file has them.
        shapes: position in ``boxes`` -> "polygon" or "rotated box" that it encloses, with corners that are points.
    """

    filename: str
    size: tuple[float, float] | None
    boxes: tuple[Box, ...]
    shapes: Mapping[int, str] = field(default_factory=dict)


_EMPTY = Annotation("", None, ())
_ReadFile = tuple[Image, Path, Annotation]  # an image, its XML file, and what that says


@dataclass(frozen=True, slots=True)
class Origin:
    """How the coordinates of a data set count.

    Attributes:
        first: the number of the first pixel.
        inclusive: whether xmax and ymax are the last pixels of the box, or the border behind them.
    """

    first: Literal[0, 1] = 1
    inclusive: bool = True

    def xyxy(self, corners: Xyxy) -> Xyxy:
        """Corners in pixels from 0, x2 and y2 exclusive."""
        x1, y1, x2, y2 = corners
        before, behind = self.first, self.first - int(self.inclusive)
        return x1 - before, y1 - before, x2 - behind, y2 - behind


def looks_like_voc(path: Path) -> bool:
    """Whether the outermost element of an XML file is Pascal-VOC's, as far as its beginning shows."""
    return has_root(path, "annotation")


def read(path: Path) -> Dataset:
    """The data set below a folder.

    Raises:
        DataError: anything in it can't be read or has no partner.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path], options: ReadOptions = DEFAULTS) -> Reading:
    """Pair XML files and images below all ``sources`` by name and folder, and gather what is wrong.

    The lists of a VOC devkit (``ImageSets/Main/train.txt``) divide the images into parts. Without them, folders called
    train, val or the like do, if every image is in the same one as its XML file.

    Raises:
        DataError: a source does not exist, or there is neither an image nor an XML file.
    """
    files = walk(sources, [".xml", *SUFFIXES])
    labels = [path for path in files if path.suffix.lower() == ".xml"]
    images, findings = without_derived([path for path in files if path.suffix.lower() != ".xml"], sources)
    if not labels and not images:
        places = ", ".join(map(str, sources))
        raise DataError("no image and no XML file below it", where=places, fix="check the path")
    pairs = pair(images, labels, sources)
    findings += [*pairs.findings, *_without_partner(pairs, options)]
    bare = pairs.images if options.allow_empty else []
    part_of_image, divided = _parts(
        sources,
        [path for path in images if path not in pairs.copies],
        {**pairs.label_of, **{path: path for path in bare}},
        options,
        findings,
    )

    converted = Converted()
    read_files: list[_ReadFile] = []
    for path in images:
        if path not in part_of_image or (path not in pairs.label_of and path not in bare):
            continue
        label_file = pairs.label_of.get(path, path)
        annotation = _read_annotation(label_file, path, findings, converted) if label_file != path else _EMPTY
        image = sized(path, options, findings, label_file) if annotation else None
        if annotation is not None and image is not None:
            read_files.append((image, label_file, annotation))
            findings += _said_otherwise(annotation, label_file, image) if annotation is not _EMPTY else []
    findings += without_labels([image.path for image, label, _ in read_files if label == image.path], len(read_files))
    if options.voc_origin is None:
        _refuse_mixed(read_files, sources)
    origin, about_origin = _origin(read_files, options.voc_origin)
    findings += about_origin
    entries = []
    for image, label_file, annotation in read_files:
        boxes = tuple(
            replace(
                box,
                xyxy=clip_rounded(box.xyxy, shape, image.width, image.height)
                if (shape := annotation.shapes.get(i))
                else origin.xyxy(box.xyxy),
            )
            for i, box in enumerate(annotation.boxes)
        )
        entries.append(Entry(replace(image, boxes=boxes), label_file, part_of_image[image.path]))
    findings += converted.findings(entries[0].label_file.parent if entries else sources[0])
    return Reading(tuple(entries), _declared(sources), tuple(findings), divided)


def _declared(sources: Sequence[Path]) -> tuple[str, ...]:
    """Class names in CVAT's and Datumaro's labelmap.txt, rows of ``name:color:parts:actions``."""
    names: dict[str, None] = {}
    for path in walk([source for source in sources if source.is_dir()], ["labelmap.txt"]):
        for line in read_label_text(path, _MOST_LIST_BYTES).splitlines():
            name, *rest = line.split(":")
            if rest and not line.startswith("#") and name.strip() and name.strip().lower() != "background":
                names[clean_name(name)] = None
    return tuple(names)


def write(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>/ANNOTATIONS/*.xml`` and copy the images to ``out/<part>/IMAGES``.

    Boxes are rounded to whole pixels, each keeps one or more. Images get another name where two
    would have the same. COCO's iscrowd is kept as an extra element, the score of a pre-annotation as an attribute.

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


def _without_partner(pairs: FilePairs, options: ReadOptions) -> list[Finding]:
    findings = []
    fix = "write one, without objects if there are none, or --allow-empty takes the image as without objects"
    for path in pairs.images if not options.allow_empty else ():
        message = f"no {stem(path)}.xml below any of the folders given; {fix}"
        findings.append(Finding("image without label file", "error", path, message))
    severity: Literal["error", "warning"] = "warning" if options.allow_empty else "error"
    for path in pairs.labels:
        message = f"no image named {stem(path)} below any of the folders given; add its folder or remove the file"
        if looks_like_voc(path) or not path.stat().st_size:  # and not what another program has written
            findings.append(Finding("label file without image", severity, path, message))
    return findings


def _parts(
    sources: Sequence[Path],
    images: Sequence[Path],
    label_of: Mapping[Path, Path],
    options: ReadOptions,
    findings: list[Finding],
) -> tuple[dict[Path, str], bool]:
    """The part of each image that is in one, or "" of all, and whether that is the source's own division."""
    listed = _listed_parts(sources, images, findings) if options.own_parts else {}
    if listed:
        rest = [path for path in label_of if path not in listed]
        findings += in_no_part(rest, "ImageSets/Main")
        return listed, True
    parts = {path: part_of(path, sources) for path in label_of}
    divided = all(part == part_of(label_of[path], sources) for path, part in parts.items())
    names = sorted({part for part in parts.values() if part})
    if divided and len(names) > 1 and options.own_parts:
        message = f"the parts are the folders {', '.join(names)}; --split makes others"
        findings.append(Finding("parts of the source", "note", sources[0], message))
    return parts, divided


def _listed_parts(sources: Sequence[Path], images: Sequence[Path], findings: list[Finding]) -> dict[Path, str]:
    """Image -> part, as the lists in ImageSets/Main say."""
    names: dict[Path, list[str]] = {}
    stems = {stem(image).casefold() for image in images}
    lists = _lists(sources)
    for path in lists:
        try:
            lines = [line.strip() for line in read_label_text(path, _MOST_LIST_BYTES).splitlines() if line.strip()]
        except DataError as error:
            findings.append(Finding("unreadable label file", "error", path, sentence(error)))
            continue
        of_class = [_OF_CLASS.fullmatch(line) is not None and line.casefold() not in stems for line in lines]
        if not lines:
            message = "the list is empty, so no image is in this part"
            findings.append(Finding("part missing", "warning", path, message))
        elif not all(of_class):
            names[path] = lines
    if lists and not names:
        message = "none of the lists of ImageSets names the images of a part, so they are not used"
        findings.append(Finding("part missing", "warning", lists[0], message, lists[1:]))
    parts: dict[Path, str] = {}
    twice: list[Path] = []
    by_folder = {path.parent: {other.stem.lower() for other in names if other.parent == path.parent} for path in names}
    for path in sorted(names, key=lambda path: (_rank(path.stem), path)):
        if path.stem.lower() == "trainval" and by_folder[path.parent] & {"train", "val"}:
            continue  # both together
        root = next(folder.parent for folder in path.parents if folder.name.lower() == "imagesets")
        find = NamedImages((image for image in images if image.is_relative_to(root)), suffixes=False)
        missing = []
        for name in names[path]:
            image = find(name)
            if image is None:
                missing.append(name)
            elif parts.setdefault(image, path.stem) != path.stem:
                twice.append(image)
        if missing:
            message = f"{len(missing):,} of its names have no image: {', '.join(missing[:3])}; add the images"
            findings.append(Finding("missing image", "error", path, message))
    if twice:
        message = f"{len(twice):,} images are in two lists and stay in the first: {twice[0].name}"
        findings.append(Finding("image in two parts", "warning", twice[0], message, twice[1:]))
    if parts:
        listed = ", ".join(dict.fromkeys(parts.values()))
        message = f"the parts are the lists of ImageSets/Main: {listed}; --split makes others"
        findings.append(Finding("parts of the source", "note", min(names), message))
    return parts


def _lists(sources: Sequence[Path]) -> list[Path]:
    """Lists in ImageSets/Main, which is below or next to the sources; without any, those elsewhere in ImageSets."""
    folders = [source for source in sources if source.is_dir()]
    folders += [source.parent / "ImageSets" for source in folders if (source.parent / "ImageSets").is_dir()]
    texts = walk(folders, [".txt"])
    main = [path for path in texts if [name.lower() for name in path.parts[-3:-1]] == ["imagesets", "main"]]
    return main or [path for path in texts if "imagesets" in (name.lower() for name in path.parts[-3:-1])]


def _rank(name: str) -> int:
    known = ("train", "trainval", "val", "valid", "validation", "test")
    return known.index(name.lower()) if name.lower() in known else len(known)


@dataclass(frozen=True, slots=True)
class _Begins:
    """Where the boxes of some files begin: numbers of those with a corner at 0, at 1, or between pixels, and of all."""

    zeros: int
    ones: int
    fractions: int
    boxes: int

    @classmethod
    def of(cls, files: Iterable[_ReadFile]) -> _Begins:
        corners = [box.xyxy for box, _ in _drawn(files)]
        return cls(
            zeros=sum(0 <= min(xyxy[:2]) < 1 for xyxy in corners),
            ones=sum(min(xyxy[:2]) == 1 for xyxy in corners),
            fractions=sum(any(value != int(value) for value in xyxy) for xyxy in corners),
            boxes=len(corners),
        )

    def first(self) -> Literal[0, 1] | None:
        """The number of the first pixel; None if nothing shows it."""
        if (self.zeros and self.zeros >= self.ones) or 2 * self.fractions > self.boxes:
            return 0
        return 1 if self.ones else None

    def is_clear(self) -> bool:
        """Whether nearly all that shows something shows the same."""
        return 2 * self.fractions > self.boxes or (
            min(self.zeros, self.ones) <= max(self.zeros, self.ones) / 2 and (self.first() == 0 or not self.zeros)
        )


def _drawn(files: Iterable[_ReadFile]) -> Iterator[tuple[Box, Image]]:
    """Boxes that were drawn as such, with their images."""
    for image, _, annotation in files:
        yield from ((box, image) for i, box in enumerate(annotation.boxes) if i not in annotation.shapes)


def _origin(files: Sequence[_ReadFile], chosen: Literal[0, 1] | None) -> tuple[Origin, list[Finding]]:
    """How the coordinates count, and what to say if that isn't Pascal-VOC's own way or isn't clear.

    CVAT, Datumaro, Label Studio, FiftyOne and VoTT write the corners of a box as points, with 0 at the left and the
    width at the right border. A tool that counts pixels from 1 can't write 0; but one 0 may be a slip, so boxes that
    begin at 0 have to be as many as those that begin at 1. Fractions in most boxes are points as well. Where boxes end
    at the last pixel's number from 0, and more of them than at the width, pixels are counted from 0.
    """
    begins = _Begins.of(files)
    first = begins.first() if chosen is None else chosen
    counts = f"{counted(begins.zeros, 'box begins', 'boxes begin')} at 0 and {begins.ones:,} at 1"
    if chosen is not None:
        why = "as chosen"
    elif begins.zeros:
        why = f"since {counts}"
    else:
        why = f"since {begins.fractions:,} of {begins.boxes:,} boxes have fractions"
    unclear = chosen is None and not begins.is_clear()
    if first != 0:
        message = f"coordinates are taken as counted from 1, though {counts}; --voc-origin 0 reads them as from 0"
        return Origin(), [Finding("coordinates unclear", "warning", files[0][1], message)] if unclear else []
    at_border = sum(box.xyxy[2] >= image.width or box.xyxy[3] >= image.height for box, image in _drawn(files))
    at_last = sum(box.xyxy[2] == image.width - 1 or box.xyxy[3] == image.height - 1 for box, image in _drawn(files))
    inclusive = not begins.fractions and at_last > at_border
    means = "are the last pixels of a box" if inclusive else "are the border of a box, not its last pixel"
    message = f"coordinates count from 0, {why}; xmax and ymax {means}; --voc-origin 1 reads them as counted from 1"
    kind: tuple[str, Literal["note", "warning"]] = ("coordinates from 0", "note")
    if unclear:
        kind = ("coordinates unclear", "warning")
    return Origin(0, inclusive), [Finding(*kind, files[0][1], message)] if files else []


def _refuse_mixed(files: Sequence[_ReadFile], sources: Sequence[Path]) -> None:
    """Raise DataError if one source shows that its coordinates count from 0, and another one from 1."""
    of_source: dict[Path, list[_ReadFile]] = defaultdict(list)
    for each in files:
        holding = [source for source in sources if each[1].is_relative_to(source)]
        of_source[max(holding, key=lambda source: len(source.parts), default=sources[0])].append(each)
    first = {_Begins.of(of_it).first(): source for source, of_it in of_source.items()}
    if 0 in first and 1 in first:
        found = f"coordinates count from 0 in {first[0]} and from 1 in {first[1]}"
        raise DataError(found, fix="convert them one by one, or decide for all with --voc-origin 0 or 1")


def _read_annotation(path: Path, image: Path, findings: list[Finding], converted: Converted) -> Annotation | None:
    try:
        root = parse(path, converted)
        for element in root.iter():
            element.tag = local_name(element.tag)
        if root.tag == "annotations":
            found = "its outermost element is <annotations>, as in CVAT's own XML"
            raise DataError(found, where=path, fix="read it by itself, with --from cvat")
        if root.tag != "annotation":
            found = f"its outermost element is <{root.tag}>, not <annotation>"
            raise DataError(found, where=path, fix="remove the file if it is no Pascal-VOC label")
        filename = text_of(root, "filename")
        if leads_out(filename):
            message = (
                f"<filename> is {filename!r}, a path to somewhere else; write the image's bare name, "
                "as files pair by their own names"
            )
            findings.append(Finding("file name outside the data", "error", path, message, (image,)))
            return None
    except DataError as error:
        findings.append(Finding("unreadable label file", "error", path, sentence(error), (image,)))
        return None
    boxes: list[Box] = []
    shapes: dict[int, str] = {}

    def broken(message: str) -> None:
        findings.append(Finding("broken object", "error", path, f"{message}; correct or remove it", image=image))

    for position, item in enumerate(root.iter("object"), start=1):
        if text_of(item, "deleted") == "1":  # LabelMe's website keeps what was deleted
            continue
        try:
            of_object, shape = boxes_of(item)
        except ValueError as error:
            broken(f"object {position}: {error}")
            continue
        if shape:
            converted.shapes[shape] += len(of_object)
            shapes |= dict.fromkeys(range(len(boxes), len(boxes) + len(of_object)), shape)
        boxes += of_object
    for tag in ("bndbox", "robndbox", "polygon", "xmin"):
        if any(item is not None for item in _within(root, tag)):
            broken(f"a <{tag}> stands outside of every <object>, so its class is unknown")
            break
    return Annotation(filename, _size_of(root), tuple(boxes), shapes)


def boxes_of(item: Element) -> tuple[list[Box], str]:
    """The boxes of an <object>, corners as written, and the shape that they enclose, "" for boxes.

    Tags are in small letters. What stands in a <part>, a head or a hand say, belongs to the part.

    Raises:
        ValueError: what of it is missing or makes no sense.
    """
    names = {clean_name(name.text or "") for name in item.findall("name")} - {""}
    if len(names) != 1:
        raise ValueError(f"it has {len(names)} names, {' and '.join(sorted(names))}" if names else "it has no <name>")
    label = names.pop()
    difficult, crowd, score = _flag(item, "difficult"), _flag(item, "iscrowd"), score_of(_attribute(item, "score"))
    corners, shape = [_corners(each, label) for each in _within(item, "bndbox")], ""
    angle = _attribute(item, "rotation")
    if angle and angle % 360:  # CVAT writes the corners from before the rotation
        corners, shape = [enclosing_rotated(xyxy, angle) for xyxy in corners], "rotated box"
    if not corners:
        corners, shape = [_rotated(each, label) for each in _within(item, "robndbox")], "rotated box"
    if not corners:
        corners, shape = [_polygon(each, label) for each in _within(item, "polygon")], "polygon"
    if not corners:
        kinds = " and ".join(f"<{child.tag}>" for child in item if child.tag in ("segmentation", "mask", "point"))
        raise ValueError(f"it has no <bndbox>{f', only {kinds}' if kinds else ''}")
    return [Box(label, xyxy, difficult, crowd, score) for xyxy in corners], shape


def _within(element: Element, tag: str) -> Iterator[Element]:
    """Descendants of a name that belong to no inner object and no part."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in ("object", "part"):
            yield from _within(child, tag)


def _corners(item: Element, label: str) -> Xyxy:
    x1, y1, x2, y2 = (_number_of(item, key, label) for key in _CORNERS)
    if any(len(item.findall(key)) > 1 for key in _CORNERS):
        raise ValueError(f"a <bndbox> of {label} holds more than one box")
    return x1, y1, x2, y2


def _rotated(item: Element, label: str) -> Xyxy:
    """Of roLabelImg: centre, size and an angle in radians."""
    cx, cy, width, height, angle = (_number_of(item, key, label) for key in ("cx", "cy", "w", "h", "angle"))
    upright = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    return enclosing_rotated(upright, math.degrees(angle))


def _polygon(item: Element, label: str) -> Xyxy:
    """Points as <pt><x/><y/></pt>, or as <x1/><y1/><x2/><y2/> and so on."""
    points = [(_number_of(pt, "x", label), _number_of(pt, "y", label)) for pt in item.iter("pt")]
    for child in item:
        if child.tag.startswith("x") and child.tag[1:].isdecimal():
            points.append((_number_of(item, child.tag, label), _number_of(item, f"y{child.tag[1:]}", label)))
    if not points:
        raise ValueError(f"the <polygon> of {label} has no points")
    return enclosing(points)


def _number_of(item: Element, key: str, label: str) -> float:
    try:
        return number(text_of(item, key))
    except ValueError as error:
        raise ValueError(f"<{key}> of {label}: {error}") from None


def _flag(item: Element, key: str) -> bool:
    text = text_of(item, key).lower()
    if text not in ("", "0", "1", "true", "false"):
        raise ValueError(f"<{key}> is {text!r}, neither 0 nor 1")
    return text in ("1", "true")


def _attribute(item: Element, name: str) -> float | None:
    """A number among the attributes that CVAT adds to an object; None if there is none."""
    for attribute in item.findall("attributes/attribute"):
        if text_of(attribute, "name") == name:
            try:
                return number(text_of(attribute, "value"))
            except ValueError:
                return None
    return None


def _size_of(root: Element) -> tuple[float, float] | None:
    """Width and height in pixels, 0.0 for what is no number; None where the file gives none."""
    if root.find("size") is None:
        return None
    try:
        return number(text_of(root, "size/width")), number(text_of(root, "size/height"))
    except ValueError:
        return 0.0, 0.0  # given, but wrong: the comparison with the header says so


def _said_otherwise(annotation: Annotation, path: Path, image: Image) -> list[Finding]:
    """What the file says of its image that the image itself contradicts."""
    findings = size_mismatch(path, image, annotation.size)
    named = PurePosixPath(unicodedata.normalize("NFC", annotation.filename).replace("\\", "/"))
    name = nfc_name(image.path)
    if not annotation.filename:
        findings.append(Finding("file name missing", "note", path, f"no <filename>; it is paired with {name}"))
    elif named.name == stem(image.path):
        message = f"<filename> {annotation.filename} has no extension; it is paired with {name}"
        findings.append(Finding("file name without extension", "note", path, message))
    elif named.name != name:
        severity: Literal["note", "warning"] = "note" if named.stem == stem(image.path) else "warning"
        message = f"<filename> is {annotation.filename}, but files pair by their own names and the image is {name}"
        findings.append(Finding("file name at odds", severity, path, message, (image.path,)))
    return findings


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
        for key, value in zip(_CORNERS, _inclusive(box.xyxy, image)):
            _add(corners, key, value)
        if box.score is not None:
            _add_score(item, box.score)
    ElementTree.indent(root, "\t")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


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


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    text = str(value)
    if not all(c.isprintable() or c in "\t\n" for c in text):
        raise DataError(f"{text!r} can't stand in XML", fix="rename it")
    ElementTree.SubElement(parent, tag).text = text
