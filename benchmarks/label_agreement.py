"""Accuracy of labels: agreement of two annotations of the same images.

python benchmarks/label_agreement.py first.json second.json
python benchmarks/label_agreement.py labels.json --pair 31 35
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.datasets import coco
from detect.errors import DataError
from detect.evaluation.localisation import EDGES
from detect.evaluation.records import GroundTruth, ImageId, check_truth, rows_by_image
from detect.structures import Array, area, elementwise_iou, intersection, iou, xywh_to_xyxy

_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


def label_agreement(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Agreement of two label files on their common images.

    Images are paired by id, classes by name; the arguments aren't changed. In each image the boxes of a class are
    matched one to one, highest IoU first, down to an IoU of 0.5, so the result doesn't depend on the order of the
    files. Crowd boxes don't count, nor does an unmatched box with at least half of its area in a crowd region of its
    class in the other file.

    Args:
        first, second: COCO data sets.

    Returns:
        ``images``, the number of common images; ``overall`` and ``per_class`` (name -> the same keys):

        - ``boxes``: [number in the first, in the second]; ``matched``: number of pairs; ``matched_share``: [share of
          the first's boxes, of the second's];
        - ``f1``: 2 matched / (boxes of both), the F1 at IoU 0.5 of one file evaluated with the other as truth: the
          score of a second annotator as a detector. A detector that has learned the mean of many annotators can exceed
          it slightly;
        - ``f1_by_iou``: the F1 per IoU threshold, {"0.50": ..., "0.95": ...};
        - ``mean_iou`` of the pairs;
        - ``edge_difference_px``: mean of second minus first per edge, y downwards; ``edge_sd_px``: the standard
          deviation of that difference (n - 1); ``annotator_sd_px``: that / sqrt(2), the standard deviation of one
          annotator if both are equally accurate and their errors independent. A detector without errors shows the same
          deviation when evaluated with such labels;
        - ``other_class``: unmatched boxes that match a box of another class in the other file at an IoU of 0.5 or more.

        None where nothing can be measured: a share without boxes, a standard deviation of fewer than two pairs.

    Raises:
        DataError: no COCO data sets, no common image, or an id with different file names in the two files.
    """
    a, b = check_truth(first), check_truth(second)
    index_of = {image.id: i for i, image in enumerate(b.images)}
    common = [(i, index_of[image.id]) for i, image in enumerate(a.images) if image.id in index_of]
    if not common:
        fix = "give two annotations of the same images, under the same ids"
        raise DataError("the two label files have no image id in common", fix=fix)
    for i, j in common:
        names = [each.file_name for each in (a.images[i], b.images[j])]
        if PurePath(names[0]).name != PurePath(names[1]).name:
            message = f"image {a.images[i].id!r} is {names[0]!r} in the first file and {names[1]!r} in the second"
            raise DataError(message, fix="give each image the same id in both")
    return _agreement(a, b, common)


def duplicate_label_agreement(truth: dict[str, Any], pairs: Sequence[tuple[ImageId, ImageId]]) -> dict[str, Any]:
    """Agreement of the labels of duplicate images within one data set, as ``label_agreement``.

    Args:
        truth: a COCO data set.
        pairs: (first id, second id) of images with the same pixels.

    Raises:
        DataError: no COCO data set, no pair, an unknown id, or an image paired with itself.
    """
    labels = check_truth(truth)
    index_of = {image.id: i for i, image in enumerate(labels.images)}
    if not pairs:
        raise DataError("there is no pair of images", fix="name images with the same pixels")
    for pair in pairs:
        unknown = [image for image in pair if image not in index_of]
        if unknown:
            raise DataError(f"image {unknown[0]!r} is not in the labels", where="pairs", fix="give ids of its images")
        if pair[0] == pair[1]:
            raise DataError(
                f"image {pair[0]!r} is paired with itself", where="pairs", fix="give the id of the duplicate"
            )
    return _agreement(labels, labels, [(index_of[i], index_of[j]) for i, j in pairs])


@dataclass(frozen=True, slots=True, eq=False)
class _Annotation:
    """Labels of one file, their corners, and their classes as indices into the common list of names."""

    truth: GroundTruth
    boxes_xyxy: Array
    category: NDArray[np.int64]

    @classmethod
    def of(cls, truth: GroundTruth, names: list[str]) -> _Annotation:
        indices = np.array([names.index(name) for name in truth.categories], dtype=np.int64)
        return cls(truth, xywh_to_xyxy(truth.boxes_xywh), indices[truth.category])


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """Rows of labels: matched pairs int64[P, 2]; per file, rows that count and rows matched with another class."""

    partners: NDArray[np.int64]
    counted: tuple[NDArray[np.int64], NDArray[np.int64]]
    renamed: tuple[NDArray[np.int64], NDArray[np.int64]]


def _agreement(first: GroundTruth, second: GroundTruth, images: list[tuple[int, int]]) -> dict[str, Any]:
    names = list(dict.fromkeys([*first.categories, *second.categories]))
    a, b = _Annotation.of(first, names), _Annotation.of(second, names)
    rows_of = [rows_by_image(truth.image, len(truth.images)) for truth in (first, second)]
    parts = [_compare_image(a, rows_of[0][i], b, rows_of[1][j]) for i, j in images]
    compared = _Comparison(
        np.concatenate([part.partners for part in parts]),
        (np.concatenate([part.counted[0] for part in parts]), np.concatenate([part.counted[1] for part in parts])),
        (np.concatenate([part.renamed[0] for part in parts]), np.concatenate([part.renamed[1] for part in parts])),
    )
    per_class = {name: _measure(a, b, compared, k) for k, name in enumerate(names)}
    return {"images": len(images), "overall": _measure(a, b, compared, None), "per_class": per_class}


def _compare_image(a: _Annotation, rows_a: NDArray[np.int64], b: _Annotation, rows_b: NDArray[np.int64]) -> _Comparison:
    boxes_a, boxes_b = a.boxes_xyxy[rows_a], b.boxes_xyxy[rows_b]
    crowd_a, crowd_b = a.truth.crowd[rows_a], b.truth.crowd[rows_b]
    same = a.category[rows_a][:, None] == b.category[rows_b][None, :]
    overlaps = np.where(crowd_a[:, None] | crowd_b[None, :], 0, iou(boxes_a, boxes_b))
    i, j = _match(np.where(same, overlaps, 0))
    rest = np.where(same, 0, overlaps)
    rest[i] = rest[:, j] = 0
    renamed_i, renamed_j = _match(rest)

    shared = np.where(same, intersection(boxes_a, boxes_b), 0)
    counted_a = ~crowd_a & ~_inside(shared, area(boxes_a), crowd_b)
    counted_b = ~crowd_b & ~_inside(shared.T, area(boxes_b), crowd_a)
    counted_a[i] = counted_b[j] = True
    return _Comparison(
        np.stack([rows_a[i], rows_b[j]], axis=1),
        (rows_a[counted_a], rows_b[counted_b]),
        (rows_a[renamed_i], rows_b[renamed_j]),
    )


def _match(overlaps: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Greedy one-to-one matching, highest IoU first, as rows and columns."""
    rows, columns = np.nonzero(overlaps >= _IOUS[0])
    free_rows, free_columns = (np.ones(side, dtype=bool) for side in overlaps.shape)
    matched = []
    for k in np.argsort(-overlaps[rows, columns], kind="stable"):
        if free_rows[rows[k]] and free_columns[columns[k]]:
            free_rows[rows[k]] = free_columns[columns[k]] = False
            matched.append(k)
    return rows[matched], columns[matched]


def _inside(shared: NDArray[Any], areas: NDArray[Any], crowd: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Boxes (rows) with at least half of their area in one of the crowd regions (columns)."""
    return np.asarray(((shared > 0) & (shared >= areas[:, None] / 2) & crowd[None, :]).any(axis=1))


def _measure(a: _Annotation, b: _Annotation, compared: _Comparison, category: int | None) -> dict[str, Any]:
    def of_class(side: _Annotation, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.ones(len(rows), dtype=bool) if category is None else side.category[rows] == category

    pairs = compared.partners[of_class(a, compared.partners[:, 0])]
    boxes = [int(of_class(side, rows).sum()) for side, rows in zip((a, b), compared.counted)]
    a_xyxy, b_xyxy = a.boxes_xyxy[pairs[:, 0]], b.boxes_xyxy[pairs[:, 1]]
    ious, differences = elementwise_iou(a_xyxy, b_xyxy), b_xyxy - a_xyxy
    sd = differences.std(axis=0, ddof=1).tolist() if len(differences) > 1 else [None] * 4
    # With greedy matching, the pairs above a higher threshold are those that this threshold alone would give.
    f1 = {f"{t:.2f}": 2 * int((ious >= t).sum()) / sum(boxes) if sum(boxes) else None for t in _IOUS}
    return {
        "boxes": boxes,
        "matched": len(pairs),
        "matched_share": [len(pairs) / count if count else None for count in boxes],
        "f1": f1["0.50"],
        "f1_by_iou": f1,
        "mean_iou": float(ious.mean()) if len(ious) else None,
        "edge_difference_px": dict(zip(EDGES, differences.mean(axis=0).tolist() if len(differences) else [None] * 4)),
        "edge_sd_px": dict(zip(EDGES, sd)),
        "annotator_sd_px": dict(zip(EDGES, [None if each is None else each / 2**0.5 for each in sd])),
        "other_class": sum(int(of_class(side, rows).sum()) for side, rows in zip((a, b), compared.renamed)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the agreement as JSON.

    Returns:
        0, or 2 after an error in the labels.
    """
    parser = argparse.ArgumentParser(description="Compare two annotations of the same images.")
    parser.add_argument("labels", type=Path, nargs="+", help="one or two COCO files")
    pair_help = "two ids of images with the same pixels in one file"
    parser.add_argument("--pair", type=int, nargs=2, action="append", metavar="ID", help=pair_help)
    args = parser.parse_args(arguments)
    if len(args.labels) != (1 if args.pair else 2):
        parser.error("give two files, or one with --pair")
    try:
        truths = [coco.load(path, read_images=False) for path in args.labels]
        result = duplicate_label_agreement(truths[0], args.pair) if args.pair else label_agreement(*truths)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
