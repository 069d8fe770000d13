"""What a label format makes of a data set that it can't hold as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..records import Dataset, Finding


def losses(parts: Mapping[str, Dataset], target: str, out: Path) -> list[Finding]:
    """Findings about what changes when ``parts`` are written to ``out`` as ``target`` ("voc", "coco" or "yolo")."""
    if target == "coco":
        return []
    images = [image for dataset in parts.values() for image in dataset.images]
    boxes = [box for image in images for box in image.boxes]
    findings = [Finding("images copied", "note", out, f"{len(images):,} images were copied beside their labels")]
    crowd, hard = sum(box.crowd for box in boxes), sum(box.difficult for box in boxes)
    if target == "yolo" and crowd + hard:
        message = f"YOLO can't tell {hard} difficult and {crowd} crowd objects from others; they count as ordinary now"
        findings.append(Finding("flags lost", "warning", out, message))
    between = sum(any(value != int(value) for value in box.xyxy) for box in boxes)
    if target == "voc" and between:
        message = f"{between} boxes with borders between pixels were rounded, as Pascal-VOC knows whole pixels only"
        findings.append(Finding("boxes rounded", "note", out, message))
    return findings
