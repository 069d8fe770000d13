"""Label files <-> records in all formats: detection of the format, readers, writers, CSV and pre-annotations."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from ..fileio import holds_keys, is_taken, write_json, write_text
from ..structures import Box, Dataset, Detections, Finding, Image, Xyxy
from . import coco, cvat, labelme, voc, yolo
from .paths import common_folder, files_below, references, relative, remember, roots_of, unique_names
from .reading import Reading, ReadOptions, first_few

Write = Callable[[Mapping[str, Dataset], Path], dict[str, Path]]


class ScanFn(Protocol):
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
    scan: ScanFn


FORMATS: dict[str, Format] = {
    "voc": Format(voc.read, voc.scan),
    "coco": Format(coco.read, coco.scan),
    "yolo": Format(yolo.read, yolo.scan),
    "labelme": Format(labelme.read, labelme.scan),
    "cvat": Format(cvat.read, cvat.scan),
}

CSV_COLUMNS = ("image", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


def write_csv(parts: Mapping[str, Dataset], out: Path) -> dict[str, Path]:
    """Write ``out/<part>.csv``; images stay where they are and are named relative to the file.

    Raises:
        DataError: a file name that is no Unicode.
    """
    written = {part: out / f"{part}.csv" for part in parts}
    for part, dataset in parts.items():
        try:
            write_text(written[part], csv_text(dataset, out))
        except UnicodeEncodeError as error:
            found = f"the file name {error.object[error.start :][:40]!r} is no Unicode"
            raise DataError(found, where=written[part], fix="rename the image") from None
    return written


def csv_text(dataset: Dataset, root: Path) -> str:
    """The table, in the data set's order; x2 and y2 are exclusive, the score is empty where there is none.

    An image without boxes has one row, empty from ``class`` on, so that it is not forgotten.

    Args:
        dataset: images and their boxes.
        root: folder that image paths are relative to, with forward slashes.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for name, image in zip(references([image.path for image in dataset.images], root), dataset.images):
        first = (name, image.width, image.height)
        if not image.boxes:
            table.writerow((*first, *("" for _ in CSV_COLUMNS[3:])))
        for box in image.boxes:
            score = "" if box.score is None else f"{box.score:g}"
            table.writerow((*first, box.label, score, *(f"{value:.10g}" for value in box.xyxy)))
    return text.getvalue()


# Data sets by name of part -> the file or folder that now holds each part.
WRITERS: dict[str, Write] = {
    "voc": voc.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "labelme": labelme.write,
    "csv": write_csv,
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
        found_none = "no Pascal-VOC XML, YOLO class names, COCO or LabelMe JSON, or CVAT XML found"
        raise DataError(found_none, where=", ".join(map(str, sources)), fix="check the path")
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


def _unread(path: Path) -> tuple[str, str] | None:
    """The name of a layout that isn't read, and what to do, if a JSON file is in one."""
    return next(((name, fix) for keys, name, fix in _UNREAD if holds_keys(path, *keys)), None)


def _refuse_by_name(sources: Sequence[Path]) -> None:
    """Raise DataError if a JSON file is in a layout that isn't read."""
    for path in (Path(path) for source in sources for _, path in files_below(source)):
        layout = _unread(path) if path.suffix.lower() == ".json" else None
        if layout is not None:
            raise DataError(f"it is {layout[0]}, which is not read", where=path, fix=layout[1])


_NAMES = {"voc": "VOC", "yolo": "YOLO", "labelme": "LabelMe", "csv": "CSV"}


def lossy_fields(parts: Mapping[str, Dataset], target: str, out: Path, *, scores: bool = False) -> list[Finding]:
    """Findings about what changes when ``parts`` are written.

    Args:
        parts: data sets by name.
        target: "voc", "coco", "yolo", "labelme" or "csv".
        out: where to.
        scores: YOLO's text files get a column for scores.
    """
    if target == "coco":
        older = [path for path in coco.files_in(out) if path.stem not in parts]
        names = ", ".join(path.name for path in older)
        message = f"{names}: left by an earlier conversion, not part of this one; remove what is no longer wanted"
        return [Finding("older part", "warning", out, message, older)] if older else []
    images = [image for dataset in parts.values() for image in dataset.images]
    boxes = [box for image in images for box in image.boxes]
    name = _NAMES[target]
    findings = [] if target == "csv" else _copied_images(parts, target, out, len(images))
    crowd, hard = sum(box.crowd for box in boxes), sum(box.difficult for box in boxes)
    if target in ("yolo", "csv") and crowd + hard:
        message = (
            f"{name} can't tell {hard} difficult and {crowd} crowd objects from others; they count as ordinary now"
        )
        findings.append(Finding("flags lost", "warning", out, message))
    scored = sum(box.score is not None for box in boxes)
    if target == "yolo" and scored and not scores:
        message = f"the scores of {scored:,} boxes are lost, as YOLO's label files have no place for them"
        findings.append(Finding("scores lost", "note", out, message))
    frames = sum(image.frame is not None for image in images)
    if frames:
        message = f"{name} can't tell of which strip an image is and when; {frames:,} frames are stills now"
        findings.append(Finding("strips lost", "warning", out, message))
    between = sum(any(value != int(value) for value in box.xyxy) for box in boxes)
    if target == "voc" and between:
        message = f"{between} boxes with borders between pixels were rounded, as Pascal-VOC knows whole pixels only"
        findings.append(Finding("boxes rounded", "note", out, message))
    return findings


def _copied_images(parts: Mapping[str, Dataset], target: str, out: Path, images: int) -> list[Finding]:
    findings = [Finding("images copied", "note", out, f"{images:,} images were copied next to their labels")]
    renamed: list[tuple[Path, str]] = []
    for group in [[*parts.values()]] if target == "voc" else [[dataset] for dataset in parts.values()]:
        paths = [image.path for dataset in group for image in dataset.images]
        renamed += [(path, name) for path, name in zip(paths, unique_names(paths)) if path.name != name]
    if renamed:
        some = first_few(f"{path} is {name}" for path, name in renamed)
        message = f"{len(renamed):,} copies got a longer name, since another image has theirs: {some}"
        findings.append(Finding("images renamed", "note", out, message, [path for path, _ in renamed]))
    return findings


PRE_ANNOTATIONS = "pre_annotations"
_PIXEL_DECIMALS, _SCORE_DECIMALS = 2, 4


def pre_annotate(path: Path, width: int, height: int, found: Detections) -> Image:
    """An image with its detections as boxes, in their order.

    Boxes are cut at the image's borders and rounded to hundredths of a pixel; what has no area then is left out.

    Args:
        path: the image file.
        width, height: its size in pixels.
        found: its detections, those that are wanted.
    """
    boxes: list[Box] = []
    for each in found:
        x1, x2 = (round(min(max(value, 0.0), float(width)), _PIXEL_DECIMALS) for value in each.xyxy[0::2])
        y1, y2 = (round(min(max(value, 0.0), float(height)), _PIXEL_DECIMALS) for value in each.xyxy[1::2])
        xyxy: Xyxy = (x1, y1, x2, y2)
        if x1 < x2 and y1 < y2:
            boxes.append(Box(each.label, xyxy, score=round(each.score, _SCORE_DECIMALS)))
    return Image(path, width, height, tuple(boxes))


def check_not_overwriting(target: str, out: Path) -> None:
    """Raise DataError if pre-annotations written to ``out`` would replace or mix with existing files."""
    places = {
        "coco": [out / f"{PRE_ANNOTATIONS}.json"],
        "csv": [out / f"{PRE_ANNOTATIONS}.csv"],
        "yolo": [out / "data.yaml", out / "images", out / "labels"],
    }.get(target, [out / PRE_ANNOTATIONS])
    for place in places:
        if is_taken(place):
            raise DataError(
                "something is there already, and pre-annotations replace nothing",
                where=place,
                fix="choose another folder",
            )


def write_pre_annotations(
    images: Sequence[Image],
    categories: tuple[str, ...],
    target: str,
    out: Path,
    *,
    description: str,
    scores: bool = False,
) -> tuple[Path, list[Finding]]:
    """Write pre-annotations: ``out/pre_annotations.json``, ``.csv`` or folder; YOLO takes ``out``.

    COCO and CSV leave the images where they are. COCO names them relative to the folder that holds them all, as
    annotation tools do, and has that folder as ``image_root`` in ``info``, so that this library finds them again.

    Args:
        images: as ``pre_annotate`` makes them; those without boxes are written, too.
        categories: all names that the detector knows.
        target: a key of ``WRITERS``.
        out: folder to write to.
        description: what these pre-annotations are, for COCO's ``info``.
        scores: YOLO gets a sixth column.

    Returns:
        What was written, and what was lost or changed on the way.

    Raises:
        DataError: something is there already, or the format can't hold a name.
    """
    check_not_overwriting(target, out)
    dataset = Dataset(tuple(images), categories)
    if target == "coco":
        root = common_folder([image.path for image in images])
        data = coco.to_dict(dataset, root or out)
        image_root = {coco.IMAGE_ROOT: relative(root, out).as_posix()} if root else {}
        write_json(out / f"{PRE_ANNOTATIONS}.json", {**data, "info": {"description": description, **image_root}})
        remember((image.path for image in images), out)
        return out / f"{PRE_ANNOTATIONS}.json", []
    parts = {PRE_ANNOTATIONS: dataset}
    written = yolo.write(parts, out, scores=scores) if target == "yolo" else WRITERS[target](parts, out)
    findings = lossy_fields(parts, target, out, scores=scores)
    return (out if target == "yolo" else written[PRE_ANNOTATIONS]), findings
