"""``detect pre-annotate``: detections as pre-annotations for an annotation tool; ``infer --to`` shares it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .audit import TARGET_NAMES
from .common import UsageError, Verb, display_path, read_json, read_results, runs_of
from .evaluate import DEFAULT_THRESHOLD, above_thresholds, matching_thresholds, resolve_thresholds

if TYPE_CHECKING:
    from ..inference.thresholds import Thresholds
    from ..structures import Detections, Image
    from .evaluate import ScoreThresholds


def add_pre_annotation_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add ``--to`` and ``--scores``."""
    parser.add_argument(
        "--to",
        dest="target",
        choices=TARGET_NAMES,
        required=required,
        help="write the detections as pre-annotations in this format, to --out",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="with --to yolo: write the score as a sixth column, which many tools refuse",
    )


def check_pre_annotation_arguments(args: argparse.Namespace) -> None:
    """Check that the options fit together and the target is free, before the detector runs."""
    if args.scores and args.target != "yolo":
        raise UsageError("--scores needs --to yolo", fix="leave it out: the other formats hold scores anyway")
    if args.target is None:
        return
    if args.out is None:
        raise UsageError(f"--to {args.target} needs a folder", fix="name one with --out")
    from ..datasets.formats import check_not_overwriting

    check_not_overwriting(args.target, args.out)


class PreAnnotationWriter:
    """Collects images with their detections, writes them at the end, and prints what was written."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.left_out = 0

    def add(self, path: Path, width: int, height: int, found: Detections) -> None:
        """Add one image and its detections."""
        from ..datasets.formats import pre_annotate

        image = pre_annotate(path, width, height, found)
        self.images.append(image)
        self.left_out += len(found) - len(image.boxes)

    def write(
        self,
        categories: Sequence[str],
        args: argparse.Namespace,
        thresholds: ScoreThresholds,
        *,
        source: str,
        to: TextIO,
    ) -> None:
        """Write the collected images.

        Args:
            categories: of the detector.
            args: with target, out and scores.
            thresholds: of the detections.
            source: origin of the detections, a word or a path.
            to: stream for the summary.
        """
        from ..datasets.formats import write_pre_annotations

        scores = f"score >= {thresholds:g}" if isinstance(thresholds, float) else "score >= threshold of the class"
        description = f"Pre-annotations: detections of {source}, {scores}"
        place, findings = write_pre_annotations(
            self.images, tuple(categories), args.target, args.out, description=description, scores=args.scores
        )
        boxes, some = sum(len(image.boxes) for image in self.images), sum(bool(image.boxes) for image in self.images)
        images = f"{some:,} of {len(self.images):,} images"
        print(
            f"wrote {display_path(place)}: {boxes:,} pre-annotation{'s' * (boxes != 1)} on {images}, {scores}", file=to
        )
        if self.left_out:
            print(f"left out, as they have no area inside their image: {self.left_out:,}", file=to)
        for finding in findings:
            print(f"{finding.kind}: {finding.message}", file=to)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("detections", type=Path, metavar="RUN", help="evaluated run, or a JSON file of COCO results")
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO file of the images (default: those evaluated on)"
    )
    add_pre_annotation_arguments(parser, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help=f"lowest score to write (default: as the run's thresholds.json says, else {DEFAULT_THRESHOLD})",
    )


def _run(args: argparse.Namespace) -> int:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold is {args.threshold}", fix="give a score from 0 to 1")
    check_pre_annotation_arguments(args)
    runs = runs_of(args.detections)
    if len(runs) > 1:
        raise UsageError(f"{args.detections} holds {len(runs)} runs", fix="name one of them, or its detections.json")
    data = args.data or runs[0].labels
    if data is None:
        raise UsageError("the images of these detections are unknown", fix="name their COCO file with --data")
    chosen = _thresholds(runs[0].detections, args.threshold)
    thresholds = resolve_thresholds(chosen, args.threshold)
    writer = PreAnnotationWriter()
    found, images = _detections(runs[0].detections, data)
    for image, each in zip(images, found):
        scored = each if chosen is None else chosen.calibrated(each)  # as by infer, whatever the threshold
        writer.add(image.path, image.width, image.height, above_thresholds(scored, thresholds))
    writer.write(
        found[0].categories if found else (), args, thresholds, source=display_path(runs[0].detections), to=sys.stdout
    )
    return 0


def _detections(detections: Path, data: Path) -> tuple[list[Detections], Sequence[Image]]:
    """COCO results as detections of each image of a COCO file, best first, and these images.

    Raises:
        DataError: an unreadable file, results of other images, or a missing image.
    """
    import numpy as np

    from ..datasets import coco
    from ..datasets.reading import clean_name
    from ..evaluation.records import check_detections, check_truth, rows_by_image
    from ..structures import Detections, xywh_to_xyxy

    images, truth = coco.read(data).images, coco.load(data)
    labels = check_truth(truth)
    found = check_detections(
        read_results(detections, (image.id for image in labels.images), labels.category_ids), labels
    )
    categories = tuple(clean_name(name) for name in labels.categories)
    rows_of = dict(zip((image.id for image in labels.images), rows_by_image(found.image, len(labels.images))))
    by_image = []
    for item in truth["images"]:
        rows = rows_of[item["id"]]
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        boxes_xyxy = xywh_to_xyxy(found.boxes_xywh[rows]).astype(np.float32)
        scores, labels_of = found.scores[rows].astype(np.float32), found.category[rows] + 1
        by_image.append(Detections(boxes_xyxy, scores, labels_of, categories))
    return by_image, images


def _thresholds(detections: Path, threshold: float | None) -> Thresholds | None:
    """The thresholds for these detections."""
    from ..inference.thresholds import thresholds_for_weights

    report = detections.with_name("report.json")
    content = read_json(report) if report.is_file() else None
    meta = content.get("meta") if isinstance(content, dict) else None
    if isinstance(meta, dict) and meta.get("weights"):
        judged = Path(str(meta["weights"]))  # relative to the folder of the evaluation; the run may have moved since
        for weights in (judged, *(folder / judged.name for folder in list(detections.resolve().parents)[:2])):
            if weights.is_file():
                return matching_thresholds(weights, threshold)
    found = thresholds_for_weights(detections)
    # thresholds without a checksum of weights were chosen for these detections themselves
    return found if found is not None and found.weights_sha256 is None else None


PRE_ANNOTATE = Verb(
    summary="Write existing detections as pre-annotations for an annotation tool.",
    details=(
        "The detections are those of an evaluated run, or COCO results of any detector. All images of their COCO file\n"
        "are written, also those without a detection. Pascal-VOC, YOLO and LabelMe get copies of the images. For\n"
        "images without detections yet: detect infer IMAGES --to FORMAT."
    ),
    examples=[
        "pre-annotate runs/neu --to coco --out pre_annotations",
        "pre-annotate theirs.json --data data/neu/val.json --threshold 0.3 --to labelme --out pre_annotations",
    ],
    add_arguments=_add_arguments,
    run=_run,
)
