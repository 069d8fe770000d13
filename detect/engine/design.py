"""What the data decides about a detector: its categories, normalisation and anchors."""

from __future__ import annotations

from collections.abc import Callable

from ..checkpoint import Detector
from ..config import ModelConfig
from ..data import MOST, DetectionDataset
from ..models import best_possible_recall, default_anchors, fit_anchors, proposal_strides


def design_detector(
    model: ModelConfig, dataset: DetectionDataset, *, seed: int, say: Callable[[str], None]
) -> Detector:
    """Fit a detector's description to the training data.

    Args:
        model: widths and settings; its anchors are taken if given, else fitted to the boxes at input size.
        dataset: the training images.
        seed: of the fit.
        say: gets one line on how well the anchors cover the boxes, beside torchvision's.
    """
    levels = len(proposal_strides(model, dataset.channels))
    boxes_wh = dataset.boxes_wh() * dataset.resize_factors(model.input_size)[:, None]
    if model.anchors.shapes is not None:
        shapes, origin = [list(level) for level in model.anchors.shapes], "given"
    else:
        shapes = fit_anchors(boxes_wh, levels, model.anchors.per_level, seed=seed)
        origin = "fitted" if len(boxes_wh) else "by default"
    if len(boxes_wh):
        ours, default = (best_possible_recall(boxes_wh, each) for each in (shapes, default_anchors(levels)))
        text = f"best possible recall at IoU 0.5 is {ours:.3f}, with torchvision's default {default:.3f}"
    else:
        text = "there are no boxes to fit them to"
    say(f"anchors {origin}: {text}")
    mean, std = dataset.normalisation()
    white = None if dataset.brightest is None else dataset.max_value or MOST
    return Detector(model, dataset.categories, dataset.channels, tuple(mean), tuple(std), shapes, white)
