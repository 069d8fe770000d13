"""CVAT's own XML ("CVAT for images"), one file for all images of a task or project; read, not written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from ..errors import DataError
from ..structures import Box, Dataset, Finding, Image, Xyxy
from .paths import ImageFinder, UnusableNameError, about_names, none_found, not_named, walk
from .reading import (
    DEFAULTS,
    Converted,
    Entry,
    Reading,
    ReadOptions,
    clean_name,
    clip_rounded,
    enclosing,
    enclosing_rotated,
    has_root,
    local_name,
    number,
    parse,
    sentence,
    size_mismatch,
    sized,
    text_of,
)

_FIX = "export the task as 'CVAT for images 1.1'"


def looks_like_cvat(path: Path) -> bool:
    """Whether the outermost element of an XML file is CVAT's."""
    return has_root(path, "annotations")


def read(path: Path) -> Dataset:
    """The data set of a file, or of all those below a folder.

    Raises:
        DataError: anything in it can't be read.
    """
    return scan([path]).dataset()


def scan(sources: Sequence[Path], options: ReadOptions = DEFAULTS) -> Reading:
    """Read all CVAT files at or below ``sources``; subsets are the parts.

    Images are looked for as ``ImageFinder`` does, and in ``images/<subset>``. Polygons, ellipses, masks, cuboids,
    skeletons and rotated boxes become their enclosing boxes; lines and points have no area and are errors.

    Raises:
        DataError: a source does not exist, or there is no CVAT file.
    """
    files = [path for path in walk(sources, [".xml"]) if path in sources or looks_like_cvat(path)]
    if not files:
        raise DataError("no CVAT file in it", where=", ".join(map(str, sources)), fix="check the path")
    folders = [source for source in sources if source.is_dir() and not any(f.is_relative_to(source) for f in files)]
    entries: list[Entry] = []
    findings: list[Finding] = []
    categories: dict[str, None] = {}
    for file in files:
        try:
            root = _root(file)
        except DataError as error:
            findings.append(Finding("unreadable label file", "error", file, sentence(error)))
            continue
        names = [clean_name(text_of(label, "name")) for label in root.iter("label")]
        categories |= dict.fromkeys(name for name in names if name)
        _scan_root(root, file, folders, options, entries, findings)
    findings += not_named([entry.image.path for entry in entries], [source for source in sources if source.is_dir()])
    return Reading(tuple(entries), tuple(categories), tuple(findings))


def _root(file: Path) -> Element:
    root = parse(file)
    for element in root.iter():
        element.tag = local_name(element.tag)
    if root.tag != "annotations":
        raise DataError(f"its outermost element is <{root.tag}>, not <annotations>", where=file, fix=_FIX)
    if root.find("track") is not None:
        found = "it is 'CVAT for video', whose tracks are not read"
        raise DataError(found, where=file, fix=_FIX)
    return root


def _scan_root(
    root: Element,
    file: Path,
    folders: Sequence[Path],
    options: ReadOptions,
    entries: list[Entry],
    findings: list[Finding],
) -> None:
    items = list(root.iter("image"))
    if not items:
        message = f"it has no <image>; {_FIX}"
        findings.append(Finding("unreadable label file", "error", file, message))
    subsets = {item.get("subset", "") for item in items}
    finder = ImageFinder(file, folders, more=[f"images/{subset}" for subset in sorted(subsets) if subset])
    converted, tags = Converted(), 0
    missing: list[Finding] = []
    for item in items:
        name, subset = item.get("name", ""), item.get("subset", "")
        try:
            if not name.strip():
                raise UnusableNameError("unreadable label file", "an <image> has no name", _FIX)
            path = finder(name, first=f"images/{subset}" if subset else "")
        except UnusableNameError as error:
            missing.append(Finding(error.kind, "error", file, sentence(error)))
            continue
        image = sized(path, options, missing)
        if image is None:
            continue
        boxes = _boxes(item, image, file, findings, converted)
        tags += len(item.findall("tag"))
        entries.append(Entry(Image(path, image.width, image.height, boxes), file, subset))
        findings += size_mismatch(file, image, _size_of(item, image))
    findings += none_found(file, finder, missing) or missing
    findings += [*about_names(file, finder), *converted.findings(file)]
    if tags:
        message = f"{tags:,} tags say something of a whole image and have no box; they are left out"
        findings.append(Finding("image tags left out", "note", file, message))


def _boxes(item: Element, image: Image, file: Path, findings: list[Finding], converted: Converted) -> tuple[Box, ...]:
    boxes: list[Box] = []
    for position, shape in enumerate((child for child in item if child.tag != "tag"), start=1):
        label = clean_name(shape.get("label", ""))
        try:
            if not label:
                raise ValueError(f"the <{shape.tag}> has no label")
            if shape.tag not in _SHAPES:
                raise ValueError(f"{label} is drawn as {shape.tag}, which has no area; draw a box around it")
            kind, xyxy = _SHAPES[shape.tag](shape)
        except ValueError as error:
            message = f"object {position} of {image.path.name}: {error}; correct or remove it"
            findings.append(Finding("broken object", "error", file, message, image=image.path))
            continue
        converted.shapes.update([kind] if kind else [])
        xyxy = clip_rounded(xyxy, kind, image.width, image.height)
        flags = {a.get("name", ""): (a.text or "").strip().lower() for a in shape.findall("attribute")}
        boxes.append(Box(label, xyxy, flags.get("difficult") in ("true", "1")))
    return tuple(boxes)


def _box(shape: Element) -> tuple[str, Xyxy]:
    x1, y1, x2, y2 = (_value(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = number(shape.get("rotation", "0"))
    if angle % 360:
        return "rotated box", enclosing_rotated((x1, y1, x2, y2), angle)
    return "", (x1, y1, x2, y2)


def _polygon(shape: Element) -> tuple[str, Xyxy]:
    return "polygon", enclosing(_points(shape))


def _ellipse(shape: Element) -> tuple[str, Xyxy]:
    cx, cy, rx, ry = (_value(shape, key) for key in ("cx", "cy", "rx", "ry"))
    angle = math.radians(number(shape.get("rotation", "0")))
    half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return "ellipse", (cx - half_w, cy - half_h, cx + half_w, cy + half_h)


def _mask(shape: Element) -> tuple[str, Xyxy]:
    left, top, width, height = (_value(shape, key) for key in ("left", "top", "width", "height"))
    return "mask", (left, top, left + width, top + height)


def _cuboid(shape: Element) -> tuple[str, Xyxy]:
    xs = [number(value) for key, value in shape.attrib.items() if key.startswith("x")]
    ys = [number(value) for key, value in shape.attrib.items() if key.startswith("y")]
    return "cuboid", enclosing(zip(xs, ys, strict=True))


def _skeleton(shape: Element) -> tuple[str, Xyxy]:
    points = [point for each in shape.iter("points") if each.get("outside") != "1" for point in _points(each)]
    return "skeleton", enclosing(points)


_SHAPES: dict[str, Callable[[Element], tuple[str, Xyxy]]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
    "cuboid": _cuboid,
    "skeleton": _skeleton,
}


def _points(shape: Element) -> list[tuple[float, float]]:
    """Of ``points="12.00,3.50;20.00,8.00"``."""
    points = []
    for pair in shape.get("points", "").split(";"):
        x, _, y = pair.partition(",")
        points.append((number(x), number(y)))
    return points


def _value(shape: Element, key: str) -> float:
    try:
        return number(shape.get(key, ""))
    except ValueError as error:
        raise ValueError(f"{key} of the <{shape.tag}>: {error}") from None


def _size_of(item: Element, image: Image) -> tuple[float, float]:
    try:
        return number(item.get("width", str(image.width))), number(item.get("height", str(image.height)))
    except ValueError:
        return 0.0, 0.0
