"""Label files <-> records: Pascal-VOC, COCO, YOLO and LabelMe; CVAT's XML is read only, CSV written only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from ..fileio import holds_keys
from ..structures import Dataset, Finding
from . import coco, cvat, labelme, voc, yolo
from . import csv as csv_table
from .paths import files_below, roots_of
from .reading import Entry, Reading, ReadOptions

__all__ = ["FORMATS", "WRITERS", "Entry", "Format", "ReadOptions", "Reading", "Write", "recognise", "recognise_all"]

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
    (("rectanglelabels",), "Label Studio's own JSON", "export it as COCO, YOLO or Pascal VOC"),
    (("polygonlabels",), "Label Studio's own JSON", "export it as COCO, YOLO or Pascal VOC"),
    (("regions", "shape_attributes"), "VGG Image Annotator JSON", "export it as COCO"),
    (("_via_img_metadata",), "a VGG Image Annotator project", "export it as COCO"),
    (("objects", "classTitle"), "Supervisely JSON", "export it as COCO or Pascal VOC"),
    (("ground_truth", "detections", "samples"), "FiftyOne's own JSON", "export it as COCO, VOC or YOLO"),
    (("samples", "_media_type"), "FiftyOne's own JSON", "export it as COCO, VOC or YOLO"),
)


def recognise(sources: Sequence[Path]) -> str:
    """The name of the format that the sources are in.

    Files show by their suffix, JSON and XML by their keys. Of folders, CVAT's or Pascal-VOC's XML below makes it that,
    else class names of YOLO make YOLO, else a JSON file of COCO's shape makes COCO, else one of LabelMe's makes
    LabelMe, else text files of YOLO make YOLO. Folders of images alone say nothing.

    Raises:
        DataError: a source is missing, none of the formats fits, or two sources differ.
    """
    return recognise_all(sources)[0]


def recognise_all(sources: Sequence[Path]) -> tuple[str, list[Finding]]:
    """As ``recognise``, and a warning about each folder that has labels in further formats, which nobody reads then."""
    if not sources:
        raise DataError("no folder or file to read labels from", fix="name at least one")
    found = {source: _formats_of(source, sources) for source in sources}
    names = sorted({formats[0] for formats in found.values() if formats})
    if len(names) > 1:
        each = ", ".join(f"{source} ({formats[0]})" for source, formats in found.items() if formats)
        raise DataError(f"the sources are in different formats: {each}", fix="convert them one by one")
    if not names:
        _refuse_by_name(sources)
        places = ", ".join(map(str, sources))
        found_none = "no Pascal-VOC XML, YOLO class names, COCO or LabelMe JSON, or CVAT XML found"
        raise DataError(found_none, where=places, fix="check the path")
    findings = []
    for source, formats in found.items():
        if len(formats) > 1:
            others = " and ".join(formats[1:])
            message = (
                f"it is read as {formats[0]}; its labels in {others} are not read, --from {formats[1]} takes those"
            )
            findings.append(Finding("labels of another format", "warning", source, message))
    return names[0], findings


def _formats_of(source: Path, sources: Sequence[Path]) -> list[str]:
    """The formats that a source has labels in, the one that is read first."""
    if source.is_file():
        suffix = source.suffix.lower()
        if suffix == ".json" and not yolo.is_names_list(source):
            is_labelme = not coco.looks_like_coco(source) and labelme.looks_like_labelme(source)
            return ["labelme"] if is_labelme else [] if _unread(source) else ["coco"]
        if suffix == ".xml":
            return ["cvat"] if cvat.looks_like_cvat(source) else ["voc"]
        return ["yolo"] if suffix in (".yaml", ".yml", ".data", ".names") or yolo.is_names_list(source) else []
    below = [path for _, path in files_below(source, roots_of(sources)) if path.lower().endswith((".xml", ".json"))]
    xml = [Path(path) for path in below if path.lower().endswith(".xml")]
    json_files = [Path(path) for path in below if path.lower().endswith(".json")]
    is_yolo = yolo.looks_like_yolo(source)
    named = is_yolo and yolo.has_names(source)
    kinds = {
        "cvat": any(map(cvat.looks_like_cvat, xml)),
        "voc": any(map(voc.looks_like_voc, xml)),
        "yolo": named,
        "coco": bool(coco.files(source)),
        "labelme": any(map(labelme.looks_like_labelme, json_files)),
    }
    found = [name for name, is_there in kinds.items() if is_there]
    if is_yolo and not named and not found:
        return ["yolo"]
    return found or (["voc"] if xml else [])


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
