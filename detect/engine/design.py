"""What the data decides about a detector: its categories, normalisation and anchors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Detector
from ..config import ModelConfig
from ..data import MOST, DetectionDataset
from ..models import Shapes, best_possible_recall, default_anchors, fit_anchors, proposal_strides

_WORTH_KEEPING = 0.03  # anchors that weights know may reach this share of boxes less than anchors fitted to these


def design_detector(
    model: ModelConfig,
    dataset: DetectionDataset,
    *,
    seed: int,
    say: Callable[[str], None],
    window: int | None = None,
    known: Shapes | None = None,
) -> Detector:
    """Fit a detector's description to the training data.

    Args:
        model: widths and settings; its anchors are taken if given, else fitted to the boxes at input size.
        dataset: the training images.
        seed: of the fit.
        say: gets one line on how well the anchors cover the boxes, beside torchvision's.
        window: side in pixels of the parts that the images are seen in; None: they are seen whole.
        known: anchors that the weights to start from have learned to move; kept if they serve these boxes nearly as
            well as fitted ones.
    """
    levels = len(proposal_strides(model, dataset.channels))
    boxes_wh = dataset.boxes_wh() * dataset.resize_factors(model.input_size)[:, None]
    if model.anchors.shapes is not None:
        shapes, origin = [list(level) for level in model.anchors.shapes], "given"
    else:
        shapes = fit_anchors(boxes_wh, levels, model.anchors.per_level, seed=seed)
        origin = "fitted" if len(boxes_wh) else "by default"
        if known is not None and _serve(known, shapes, boxes_wh):
            shapes, origin = known, "kept"
    if len(boxes_wh):
        ours, default = (best_possible_recall(boxes_wh, each) for each in (shapes, default_anchors(levels)))
        text = f"best possible recall at IoU 0.5 is {ours:.3f}, with torchvision's default {default:.3f}"
    else:
        text = "there are no boxes to fit them to"
    say(f"anchors {origin}: {text}")
    mean, std = dataset.normalisation()
    white = None if dataset.brightest is None else dataset.max_value or MOST
    side = trained_side(dataset, window, model.input_size)
    return Detector(model, dataset.categories, dataset.channels, tuple(mean), tuple(std), shapes, white, side)


def _serve(known: Shapes, fitted: Shapes, boxes_wh: NDArray[np.floating[Any]]) -> bool:
    if [len(level) for level in known] != [len(level) for level in fitted]:
        return False
    if not len(boxes_wh):
        return True
    reached, possible = (best_possible_recall(boxes_wh, each) for each in (known, fitted))
    return reached >= possible - _WORTH_KEEPING


def trained_side(dataset: DetectionDataset, window: int | None, input_size: int | None) -> int:
    """Side in pixels of the squares in which larger images look like what was trained on.

    That is the longer side of the largest image, or a window if that is less. Images whose shorter side is brought to
    ``input_size`` are most like a square of their shorter side.
    """
    sizes_wh = dataset.images.sizes_wh
    if input_size is not None:
        return int(np.median(sizes_wh.min(axis=1)))
    return int(min(sizes_wh.max(), window or sizes_wh.max()))
