"""Mistakes that can be judged but most likely should not be: said beside the numbers, not refused."""

from __future__ import annotations

import numpy as np

from .records import Evaluated

_MARGIN = 1.05  # detectors reach a little beyond the border; two corners taken for x, y, width, height do so by far


def suspicions(evaluated: Evaluated) -> list[str]:
    """Sentences for the user; empty if nothing looks wrong."""
    truth, found = evaluated.truth, evaluated.found
    if not len(found.scores):
        return ["There is not one detection: was the right file given, and was the detector's threshold very high?"]
    said = []
    boxes = found.boxes_xywh
    if (boxes <= 1).all() and (truth.boxes_xywh.max(initial=0) > 1):
        said.append("All detected boxes lie within 1 x 1 pixels: are they fractions of the image instead of pixels?")
    sizes = np.array([(i.width or np.inf, i.height or np.inf) for i in truth.images], dtype=np.float64)
    outside = ((boxes[:, :2] + boxes[:, 2:]) > sizes[found.image] * _MARGIN).any(axis=1)
    if outside.mean() > 0.2:
        said.append(
            f"{outside.sum()} of the {len(boxes)} detected boxes reach far beyond their image: are they two corners "
            "(x1, y1, x2, y2) instead of x, y, width, height, or of images of another size?"
        )
    crowded = len(found.scores) - len(evaluated.matches.order)
    if crowded:
        said.append(f"{crowded} detections are not judged: COCO counts the best 100 an image and category.")
    return said
