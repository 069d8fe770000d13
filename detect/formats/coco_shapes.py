"""What a COCO file tells of its objects beyond boxes, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..records import Finding, Xyxy


def turned_by(item: Mapping[str, Any]) -> float:
    """Degrees by which CVAT has turned the rectangle of an annotation about its centre; ``bbox`` tells it unturned."""
    attributes = item.get("attributes")
    angle = attributes.get("rotation") if isinstance(attributes, dict) and not item.get("segmentation") else None
    right = isinstance(angle, (int, float)) and not isinstance(angle, bool) and math.isfinite(angle)
    return float(angle) % 360 if right and angle is not None else 0.0


def upright_around(xyxy: Xyxy, degrees: float, width: int, height: int) -> Xyxy:
    """The smallest upright box around a rectangle that is turned about its centre, cut at the image's borders."""
    x1, y1, x2, y2 = xyxy
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_w = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_h = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return max(cx - half_w, 0.0), max(cy - half_h, 0.0), min(cx + half_w, width), min(cy + half_h, height)


def about_shapes(path: Path, data: Mapping[str, Any]) -> list[Finding]:
    """Findings on outlines and turns, which are left out, and on masks that make an object count for nothing.

    Args:
        path: the file.
        data: its content, as ``coco_schema.load`` gives it.
    """
    outlines = crowds = 0
    for item in data["annotations"]:
        segmentation = item.get("segmentation")
        outlines += bool(segmentation)
        crowds += isinstance(segmentation, dict) and item.get("iscrowd") == 1
    findings: list[Finding] = []
    turned = sum(turned_by(item) > 0 for item in data["annotations"])
    if turned:
        is_turned = "1 rectangle is" if turned == 1 else f"{turned:,} rectangles are"
        message = f"{is_turned} turned; the upright box around each is used, which holds more than the object"
        findings.append(Finding("turned boxes", "warning", path, message))
    if outlines:
        has = "1 object has" if outlines == 1 else f"{outlines:,} objects have"
        findings.append(Finding("outlines left out", "note", path, f"{has} an outline or a mask; only boxes are used"))
    if crowds:
        has = "1 object is a mask" if crowds == 1 else f"{crowds:,} objects are masks"
        message = (
            f"{has} with iscrowd set, which the judge counts neither as hit nor as miss; CVAT sets it on all that is "
            "drawn with its brush, so draw rectangles or polygons if these are defects"
        )
        findings.append(Finding("masks are crowd", "warning", path, message))
    return findings
