"""What the page's script works on: every judged image with its labels and detections, as short lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..boxes import xywh_to_xyxy
from ..evaluation import Evaluated
from ..evaluation.ap import IOU_50
from ..evaluation.confusion import IOU_THRESHOLD
from .pictures import Album

_MOST_DETECTIONS = 60_000  # some 3 MB; the weakest of more are left out
_ABSENT, _IGNORED = -1, -2  # as in script/counting.js


def pack(
    evaluated: Evaluated,
    album: Album,
    threshold: float,
    error_of: NDArray[np.int64] | None = None,
    errors: Sequence[str] = (),
) -> dict[str, Any]:
    """Plain JSON values for script/counting.js.

    Args:
        evaluated: what was judged.
        album: the pictures in the page.
        threshold: score that the page opens with.
        error_of: int64[M], for each column of the matches the position in ``errors`` of what is wrong with it, -1 for
            nothing.
        errors: names of the kinds of error.

    Returns:
        ``classes``, ``errors``, ``threshold``, ``least`` (lowest score that is packed), ``iou``, and ``images``: lists
        of file, width, height, position of the picture or None, labels ([x1, y1, x2, y2, class, 1 if crowd]) and
        detections, best first ([x1, y1, x2, y2, class, score, position of the matched label or -1 for none or -2 for
        a crowd, position of the error]).
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    scores = found.scores[matches.order]
    columns = np.argsort(-scores, kind="stable")
    least = float(scores[columns[_MOST_DETECTIONS - 1]]) if len(columns) > _MOST_DETECTIONS else 0.0
    columns = columns[:_MOST_DETECTIONS]
    labels_of: list[list[list[float]]] = [[] for _ in truth.images]
    place = np.zeros(len(truth.image), np.int64)  # of a label among those of its image
    true_xyxy = xywh_to_xyxy(truth.boxes_xywh).round(2).tolist()
    for label, (image, category, crowd) in enumerate(zip(truth.image, truth.category, truth.crowd)):
        place[label] = len(labels_of[image])
        labels_of[image].append([*true_xyxy[label], int(category), *([1] if crowd else [])])
    found_of: list[list[list[float | None]]] = [[] for _ in truth.images]
    found_xyxy = xywh_to_xyxy(found.boxes_xywh).round(2).tolist()
    for column in columns.tolist():
        row, label = int(matches.order[column]), int(matches.truth_of[IOU_50, column])
        matched = _IGNORED if matches.ignored[IOU_50, column] else _ABSENT if label < 0 else int(place[label])
        error = None if error_of is None or error_of[column] < 0 else int(error_of[column])
        packed = [*found_xyxy[row], int(found.category[row]), round(float(scores[column]), 5), matched]
        found_of[found.image[row]].append([*packed, *([] if error is None else [error])])
    images = []
    for number, image in enumerate(truth.images):
        picture = album.of.get(number)
        width, height = album.size(number) or _size(image.width, image.height, labels_of[number], found_of[number])
        images.append([image.file_name, width, height, picture, labels_of[number], found_of[number]])
    return {
        "classes": list(truth.categories),
        "errors": list(errors),
        "threshold": int(threshold * 1e5) / 1e5,  # not above the score that it was read from
        "least": least,
        "iou": IOU_THRESHOLD,
        "images": images,
    }


def as_script(packed: dict[str, Any]) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(packed, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _size(
    width: int | None, height: int | None, labels: Sequence[Sequence[float]], found: Sequence[Sequence[Any]]
) -> tuple[float, float]:
    """As the labels tell it, else just around the boxes."""
    if width and height:
        return width, height
    boxes = [*labels, *found]
    return max(1.0, *(box[2] for box in boxes), 1.0), max(1.0, *(box[3] for box in boxes), 1.0)
