"""One Pascal-VOC annotation as XML: read into boxes, and written from them.

Coordinates count from 1, and x2, y2 belong to the box.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree  # to write; reading goes through defusedxml

from ..errors import DataError
from ..records import Box, Image, Xyxy
from .reading import clean_name, number, score_of
from .xml_text import text_of


def size_told(root: ElementTree.Element) -> tuple[float, float] | None:
    """Width and height in pixels, 0.0 for what is no number; None where the file tells none."""
    if root.find("size") is None:
        return None
    try:
        return number(text_of(root, "size/width")), number(text_of(root, "size/height"))
    except ValueError:
        return 0.0, 0.0  # told, but wrong: the comparison with the header says so


def box_of(item: ElementTree.Element) -> Box:
    """The box of an <object>.

    Raises:
        ValueError: what of it is missing or makes no sense.
    """
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


def _score(item: ElementTree.Element) -> float | None:
    for attribute in item.findall("attributes/attribute"):
        if text_of(attribute, "name") == "score":
            try:
                return score_of(number(text_of(attribute, "value")))
            except ValueError:
                return None
    return None


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
