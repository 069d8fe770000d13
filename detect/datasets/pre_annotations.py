"""Detections -> pre-annotations, in the format of the tool that they are to be corrected in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..fileio import write_json
from ..structures import Box, Dataset, Detections, Finding, Image, Xyxy
from . import coco, yolo
from .convert import lossy_fields
from .formats import WRITERS
from .image_finder import common_folder
from .paths import relative, remember

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
    """Raise DataError if pre-annotations written to ``out`` would replace or mix with something: known early."""
    places = {
        "coco": [out / f"{PRE_ANNOTATIONS}.json"],
        "csv": [out / f"{PRE_ANNOTATIONS}.csv"],
        "yolo": [out / "data.yaml", out / "images", out / "labels"],
    }.get(target, [out / PRE_ANNOTATIONS])
    for place in places:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
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

    COCO and CSV leave the images where they are. COCO names them from the folder on that holds them all, as annotation
    tools know them, and tells that folder as ``image_root`` in ``info``, so that this library finds them again.

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
        told = {coco.IMAGE_ROOT: relative(root, out).as_posix()} if root else {}
        write_json(out / f"{PRE_ANNOTATIONS}.json", {**data, "info": {"description": description, **told}})
        remember((image.path for image in images), out)
        return out / f"{PRE_ANNOTATIONS}.json", []
    parts = {PRE_ANNOTATIONS: dataset}
    written = yolo.write(parts, out, scores=scores) if target == "yolo" else WRITERS[target](parts, out)
    findings = lossy_fields(parts, target, out, scores=scores)
    return (out if target == "yolo" else written[PRE_ANNOTATIONS]), findings
