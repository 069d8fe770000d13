"""Label files <-> records: Pascal-VOC, COCO, YOLO and LabelMe; CVAT's XML is read only, CSV written only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from ..fileio import holds_keys
from ..structures import Dataset
from . import coco, cvat, labelme, voc, yolo
from . import csv as csv_table
from .paths import files_below, roots_of
from .reading import Entry, Reading, ReadOptions

__all__ = ["FORMATS", "WRITERS", "Entry", "Format", "ReadOptions", "Reading", "Write", "recognise"]

Write = Callable[[Mapping[str, Dataset], Path], dict[str, Path]]


class Scan(Protocol):
    """Read any number of sources as one data set, with a finding for everything that is wrong in them."""

    def __call__(self, sources: Sequence[Path], options: ReadOptions = ...) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Format:
    """The two ways to read a label format.

    Attributes:
        read: one data set, or DataError with the first thing that is wrong in it.
        scan: any number of sources, with a finding for everything that is wrong in them.
    """

    read: Callable[[Path], Dataset]
    scan: Scan


FORMATS: dict[str, Format] = {
    "voc": Format(voc.read, voc.scan),
    "coco": Format(coco.read, coco.scan),
    "yolo": Format(yolo.read, yolo.scan),
    "labelme": Format(labelme.read, labelme.scan),
    "cvat": Format(cvat.read, cvat.scan),
}

# Data sets by name of part -> the file or folder that now holds each part.
WRITERS: dict[str, Write] = {
    "voc": voc.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "labelme": labelme.write,
    "csv": csv_table.write,
}

# Keys of JSON files that other tools write, and what these tools can export instead.
_UNREAD = (
    (("image", "annotations", "coordinates"), "CreateML JSON", "export it as Pascal-VOC or YOLO"),
    (("items", "annotations", "categories"), "Datumaro's own JSON", "export it as COCO, VOC or YOLO"),
    (("annotations", "result", "rectanglelabels"), "Label Studio's own JSON", "export it as COCO, YOLO or Pascal VOC"),
    (("regions", "shape_attributes"), "VGG Image Annotator JSON", "export it as COCO"),
    (("_via_img_metadata",), "a VGG Image Annotator project", "export it as COCO"),
    (("objects", "classTitle"), "Supervisely JSON", "export it as COCO or Pascal VOC"),
    (("ground_truth", "detections", "samples"), "FiftyOne's own JSON", "export it as COCO, VOC or YOLO"),
    (("samples", "_media_type"), "FiftyOne's own JSON", "export it as COCO, VOC or YOLO"),
)


def recognise(sources: Sequence[Path]) -> str:
    """The name of the format that the sources are in.

    Files show by their suffix, JSON and XML by their keys. Of folders, any Pascal-VOC or CVAT XML below makes it that,
    else class names or text files of YOLO make YOLO, else a JSON file of COCO's shape makes COCO, else one of LabelMe's
    anywhere below makes LabelMe. Folders of images alone say nothing.

    Raises:
        DataError: a source is missing, none of the formats fits, or two sources differ.
    """
    if not sources:
        raise DataError("no folder or file to read labels from", fix="name at least one")
    found = {source: _format_of(source, sources) for source in sources}
    names = sorted({name for name in found.values() if name})
    if len(names) > 1:
        each = ", ".join(f"{source} ({name})" for source, name in found.items() if name)
        raise DataError(f"the sources are in different formats: {each}", fix="convert them one by one")
    if not names:
        _refuse_by_name(sources)
        places = ", ".join(map(str, sources))
        found_none = "no Pascal-VOC XML, YOLO class names, COCO or LabelMe JSON, or CVAT XML found"
        raise DataError(found_none, where=places, fix="check the path")
    return names[0]


def _format_of(source: Path, sources: Sequence[Path]) -> str | None:
    if source.is_file():
        suffix = source.suffix.lower()
        if suffix == ".json":
            if coco.looks_like_coco(source):
                return "coco"
            return "labelme" if labelme.looks_like_labelme(source) else None if _unread(source) else "coco"
        if suffix == ".xml":
            return "cvat" if cvat.looks_like_cvat(source) else "voc"
        return {".yaml": "yolo", ".yml": "yolo", ".data": "yolo", ".names": "yolo"}.get(suffix)
    below = [Path(path) for _, path in files_below(source, roots_of(sources))]
    xml = [path for path in below if path.suffix.lower() == ".xml"]
    if xml:
        return "cvat" if any(map(cvat.looks_like_cvat, xml)) else "voc"
    if yolo.looks_like_yolo(source):
        return "yolo"
    if coco.files(source):
        return "coco"
    return "labelme" if any(map(labelme.looks_like_labelme, _json_below([source]))) else None


def _json_below(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        for _, path in files_below(source):
            if path.lower().endswith(".json"):
                yield Path(path)


def _unread(path: Path) -> tuple[str, str] | None:
    """The name of a layout that isn't read, and what to do, if a JSON file is in one."""
    return next(((name, fix) for keys, name, fix in _UNREAD if holds_keys(path, *keys)), None)


def _refuse_by_name(sources: Sequence[Path]) -> None:
    for path in _json_below(sources):
        layout = _unread(path)
        if layout is not None:
            raise DataError(f"it is {layout[0]}, which is not read", where=path, fix=layout[1])
