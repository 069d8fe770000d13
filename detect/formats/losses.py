"""What is lost, changed or left beside when a data set is written in a label format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..records import Dataset, Finding
from . import coco
from .files import unique_names

_NAMES = {"voc": "VOC", "yolo": "YOLO", "labelme": "LabelMe", "csv": "CSV"}


def losses(parts: Mapping[str, Dataset], target: str, out: Path, *, scores: bool = False) -> list[Finding]:
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
    findings = [] if target == "csv" else _copies(parts, target, out, len(images))
    crowd, hard = sum(box.crowd for box in boxes), sum(box.difficult for box in boxes)
    if target in ("yolo", "csv") and crowd + hard:
        message = (
            f"{name} can't tell {hard} difficult and {crowd} crowd objects from others; they count as ordinary now"
        )
        findings.append(Finding("flags lost", "warning", out, message))
    scored = sum(box.score is not None for box in boxes)
    if target == "yolo" and scored and not scores:
        message = f"the scores of {scored:,} boxes are not told, as YOLO's label files have no place for them"
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


def _copies(parts: Mapping[str, Dataset], target: str, out: Path, images: int) -> list[Finding]:
    findings = [Finding("images copied", "note", out, f"{images:,} images were copied beside their labels")]
    renamed: list[tuple[Path, str]] = []
    for group in [[*parts.values()]] if target == "voc" else [[dataset] for dataset in parts.values()]:
        paths = [image.path for dataset in group for image in dataset.images]
        renamed += [(path, name) for path, name in zip(paths, unique_names(paths)) if path.name != name]
    if renamed:
        told = ", ".join(f"{path} is {name}" for path, name in renamed[:3]) + (", ..." if len(renamed) > 3 else "")
        message = f"{len(renamed):,} copies got a longer name, since another image has theirs: {told}"
        findings.append(Finding("images renamed", "note", out, message, [path for path, _ in renamed]))
    return findings
