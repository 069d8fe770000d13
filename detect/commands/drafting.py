"""What ``infer`` and ``drafts`` share: the options of draft labels, and what is said when they are written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .audit import TARGET_NAMES
from .console import shown
from .verb import UsageError

if TYPE_CHECKING:
    from ..records import Detections, Image
    from .operating import Lowest


def add_draft_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--to`` and ``--scores``."""
    parser.add_argument(
        "--to",
        dest="target",
        choices=TARGET_NAMES,
        required=required,
        help="write the detections as draft labels in this format, to --out",
    )
    parser.add_argument(
        "--scores", action="store_true", help="with --to yolo: the score as a sixth column, which many tools refuse"
    )


def check_draft_arguments(args: argparse.Namespace) -> None:
    """Refuse options that don't fit together, and a place that is taken, before anything is detected."""
    if args.scores and args.target != "yolo":
        raise UsageError("--scores has a meaning with --to yolo only", fix="leave it out: other formats keep scores")
    if args.target is None:
        return
    if args.out is None:
        raise UsageError(f"--to {args.target} needs a folder", fix="name one with --out")
    from ..conversion.drafts import refuse_taken

    refuse_taken(args.target, args.out)


class Drafts:
    """Gathers images with their detections, writes them at the end, and says so."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.left_out = 0

    def add(self, path: Path, width: int, height: int, found: Detections) -> None:
        """One image, and those of its detections that are to be drafts."""
        from ..conversion.drafts import draft

        image = draft(path, width, height, found)
        self.images.append(image)
        self.left_out += len(found) - len(image.boxes)

    def write(
        self, categories: Sequence[str], args: argparse.Namespace, lowest: Lowest, *, source: str, to: TextIO
    ) -> None:
        """Write what was gathered.

        Args:
            categories: all that the detector knows.
            args: with target, out and scores.
            lowest: score from which on a detection was taken.
            source: where the detections come from, in a word or a path.
            to: where it is said.
        """
        from ..conversion.drafts import write_drafts

        scores = f"scores from {lowest:g} on" if isinstance(lowest, float) else "scores from each class's threshold on"
        description = f"Draft labels: detections of {source}, {scores}"
        place, findings = write_drafts(
            self.images, tuple(categories), args.target, args.out, description=description, scores=args.scores
        )
        boxes, some = sum(len(image.boxes) for image in self.images), sum(bool(image.boxes) for image in self.images)
        images = f"{some:,} of {len(self.images):,} images"
        print(f"wrote {shown(place)}: {boxes:,} draft{'s' * (boxes != 1)} on {images}, {scores}", file=to)
        if self.left_out:
            print(f"left out, as they have no area inside their image: {self.left_out:,}", file=to)
        for finding in findings:
            print(f"{finding.kind}: {finding.message}", file=to)
