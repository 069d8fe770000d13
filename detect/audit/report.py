"""The result of an audit as plain values: counts, findings, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..records import Finding, Image
from .duplicates import Link, Twins
from .missing import Missing
from .shifts import Shift

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of the source that is in no part.

    Attributes:
        what: an image with all its boxes, one box, or a label file.
        path: the image or label file.
        reason: why, in words.
    """

    what: Literal["image", "box", "label file"]
    path: Path
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"what": self.what, "path": str(self.path), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Part:
    """Counts of one part; ``per_class`` counts boxes and the images that have any of the class."""

    images: int
    images_without_objects: int
    boxes: int
    difficult: int
    crowd: int
    per_class: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, images: Sequence[Image], categories: Sequence[str]) -> Part:
        """Count ``images``; every category is listed, also where it counts 0."""
        boxes = Counter(box.label for image in images for box in image.boxes)
        having = Counter(label for image in images for label in {box.label for box in image.boxes})
        return cls(
            images=len(images),
            images_without_objects=sum(not image.boxes for image in images),
            boxes=boxes.total(),
            difficult=sum(box.difficult for image in images for box in image.boxes),
            crowd=sum(box.crowd for image in images for box in image.boxes),
            per_class={name: {"images": having[name], "boxes": boxes[name]} for name in categories},
        )


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that an audit has to say.

    Attributes:
        parts: counts by name of part.
        findings: errors first, then warnings, then notes.
        left_out: what of the source is in no part, and why.
        images: all that could be read; what follows counts their positions.
        members: positions of the images by part, each where it is judged.
        twins: images that show the same.
        strangers: the most alike pairs that were taken for different scenes.
        missing: labels that copies and other frames of a strip have.
        shifts: every comparison of two parts, the surest difference first.
    """

    parts: Mapping[str, Part]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...] = ()
    images: tuple[Image, ...] = ()
    members: Mapping[str, Sequence[int]] = field(default_factory=dict)
    twins: tuple[Twins, ...] = ()
    strangers: tuple[Link, ...] = ()
    missing: tuple[Missing, ...] = ()
    shifts: tuple[Shift, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a conversion."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``schema``, ``parts``, ``counts`` of findings by kind, and lists of all the others."""
        return {
            "schema": SCHEMA,
            "parts": {
                name: {
                    "images": part.images,
                    "images_without_objects": part.images_without_objects,
                    "boxes": part.boxes,
                    "difficult": part.difficult,
                    "crowd": part.crowd,
                    "per_class": {label: dict(counts) for label, counts in part.per_class.items()},
                }
                for name, part in self.parts.items()
            },
            "counts": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [finding.as_dict() for finding in self.findings],
            "left_out": [item.as_dict() for item in self.left_out],
            "shifts": [shift.as_dict() for shift in self.shifts],
            "duplicates": [self._pair(link) for group in self.twins for link in group.links],
            "strangers": [self._pair(link) for link in self.strangers],
        }

    def _pair(self, link: Link) -> dict[str, Any]:
        paths = [str(self.images[i].path) for i in (link.first, link.second)]
        return {"images": paths, "likeness": round(link.likeness, 4), "exact": link.exact, "turned": link.turn > 0}
