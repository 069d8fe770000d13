"""What is lost, changed or left beside when a data set is written in a label format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..records import Dataset, Finding
from . import coco


def losses(parts: Mapping[str, Dataset], target: str, out: Path) -> list[Finding]:
    """Findings about what changes when ``parts`` are written to ``out`` as ``target`` ("voc", "coco" or "yolo")."""
    if target == "coco":
        older = [path for path in coco.files(out) if path.stem not in parts]
        names = ", ".join(path.name for path in older)
        message = f"{names}: left by an earlier conversion, not part of this one; remove what is no longer wanted"
        return [Finding("older part", "warning", out, message, older)] if older else []
    images = [image for dataset in parts.values() for image in dataset.images]
    boxes = [box for image in images for box in image.boxes]
    findings = [Finding("images copied", "note", out, f"{len(images):,} images were copied beside their labels")]
    crowd, hard = sum(box.crowd for box in boxes), sum(box.difficult for box in boxes)
    if target == "yolo" and crowd + hard:
        message = f"YOLO can't tell {hard} difficult and {crowd} crowd objects from others; they count as ordinary now"
        findings.append(Finding("flags lost", "warning", out, message))
    frames = sum(image.frame is not None for image in images)
    if frames:
        message = f"{target.upper()} can't tell of which strip an image is and when; {frames:,} frames are stills now"
        findings.append(Finding("strips lost", "warning", out, message))
    between = sum(any(value != int(value) for value in box.xyxy) for box in boxes)
    if target == "voc" and between:
        message = f"{between} boxes with borders between pixels were rounded, as Pascal-VOC knows whole pixels only"
        findings.append(Finding("boxes rounded", "note", out, message))
    return findings
