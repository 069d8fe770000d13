"""Label files <-> records: Pascal-VOC, COCO, YOLO and LabelMe, each with the same three functions; and CSV, written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..records import Dataset
from . import coco, csv_table, labelme, voc, yolo
from .files import files_below
from .reading import Entry, Reading
from .roots import roots_of

__all__ = ["FORMATS", "WRITERS", "Entry", "Format", "Reading", "Write", "recognise"]

Write = Callable[[Mapping[str, Dataset], Path], dict[str, Path]]


@dataclass(frozen=True, slots=True)
class Format:
    """The three things that can be done with a label format.

    Attributes:
        read: one data set, or DataError with the first thing that is wrong in it.
        scan: any number of sources, with a finding for everything that is wrong in them.
        write: data sets by name of part -> the file or folder that now holds each part.
    """

    read: Callable[[Path], Dataset]
    scan: Callable[[Sequence[Path]], Reading]
    write: Write


FORMATS: dict[str, Format] = {
    "voc": Format(voc.read, voc.scan, voc.write),
    "coco": Format(coco.read, coco.scan, coco.write),
    "yolo": Format(yolo.read, yolo.scan, yolo.write),
    "labelme": Format(labelme.read, labelme.scan, labelme.write),
}

WRITERS: dict[str, Write] = {**{name: each.write for name, each in FORMATS.items()}, "csv": csv_table.write}


def recognise(sources: Sequence[Path]) -> str:
    """The name of the format that the sources are in.

    Files tell by their suffix, JSON by its keys. Of folders, any XML below makes VOC, else a YAML with class names
    makes YOLO, else a JSON file of COCO's shape makes COCO, else one of LabelMe's anywhere below makes LabelMe. Folders
    of images alone tell nothing.

    Raises:
        DataError: a source is missing, none of the formats fits, or two sources differ.
    """
    if not sources:
        raise DataError("no folder or file to read labels from", fix="name at least one")
    found = {source: _format_of(source, sources) for source in sources}
    names = sorted({name for name in found.values() if name})
    if len(names) > 1:
        told = ", ".join(f"{source} ({name})" for source, name in found.items() if name)
        raise DataError(f"the sources are in different formats: {told}", fix="convert them one by one")
    if not names:
        places = ", ".join(map(str, sources))
        found_none = "no Pascal-VOC XML, YOLO data.yaml, COCO or LabelMe JSON found"
        raise DataError(found_none, where=places, fix="check the path")
    return names[0]


def _format_of(source: Path, sources: Sequence[Path]) -> str | None:
    if source.is_file():
        if source.suffix.lower() == ".json":
            return "labelme" if labelme.looks_like_labelme(source) and not coco.looks_like_coco(source) else "coco"
        return {".xml": "voc", ".yaml": "yolo", ".yml": "yolo"}.get(source.suffix.lower())
    below = [path for _, path in files_below(source, roots_of(sources))]
    if any(path.lower().endswith(".xml") for path in below):
        return "voc"
    if yolo.names_files(source):
        return "yolo"
    if coco.files(source):
        return "coco"
    json_files = (Path(path) for path in below if path.lower().endswith(".json"))
    return "labelme" if any(map(labelme.looks_like_labelme, json_files)) else None
