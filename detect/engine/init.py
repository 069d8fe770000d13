"""The start of a training run: the detector's description, fitted to the data, and its initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from ..config.schema import Config, ModelConfig
from ..data.dataset import MAX_UINT16, DetectionDataset
from ..errors import ConfigError
from ..models.anchors import AnchorShapes, best_possible_recall, default_anchors, fit_anchors
from ..models.backbones import load_pretrained
from ..models.checkpoint import Checkpoint, DetectorSpec, load_checkpoint
from ..models.faster_rcnn import proposal_strides

_MAX_RECALL_LOSS = 0.03  # anchors of the initial weights are kept if their recall is at most this much lower


def fit_detector_spec(
    model: ModelConfig,
    dataset: DetectionDataset,
    *,
    seed: int,
    say: Callable[[str], None],
    window: int | None = None,
    known: AnchorShapes | None = None,
) -> DetectorSpec:
    """Fit a detector's description to the training data.

    Args:
        model: widths and settings; its anchor shapes are used if given, else fitted to the boxes at input size.
        dataset: the training images.
        seed: of the fit.
        say: called with one line on how well the anchors, and torchvision's default anchors, cover the boxes.
        window: side in pixels of the training windows; None: whole images.
        known: anchors of the initial weights; kept if their recall is nearly as high as that of fitted anchors.
    """
    levels = len(proposal_strides(model, dataset.channels))
    boxes_wh = dataset.boxes_wh() * dataset.resize_factors(model.input_size)[:, None]
    if model.anchors.shapes is not None:
        shapes, origin = [list(level) for level in model.anchors.shapes], "given"
    else:
        shapes = fit_anchors(boxes_wh, levels, model.anchors.per_level, seed=seed)
        origin = "fitted" if len(boxes_wh) else "by default"
        if known is not None and _covers_boxes(known, shapes, boxes_wh):
            shapes, origin = known, "kept"
    if len(boxes_wh):
        ours, default = (best_possible_recall(boxes_wh, each) for each in (shapes, default_anchors(levels)))
        text = f"best possible recall at IoU 0.5 is {ours:.3f}, with torchvision's default {default:.3f}"
    else:
        text = "the data has no boxes to fit them to"
    say(f"anchors {origin}: {text}")
    mean, std = dataset.normalisation()
    white = None if dataset.brightest is None else dataset.max_value or MAX_UINT16
    side = training_size(dataset, window, model.input_size)
    return DetectorSpec(model, dataset.categories, dataset.channels, tuple(mean), tuple(std), shapes, white, side)


def _covers_boxes(known: AnchorShapes, fitted: AnchorShapes, boxes_wh: NDArray[np.floating[Any]]) -> bool:
    if [len(level) for level in known] != [len(level) for level in fitted]:
        return False
    if not len(boxes_wh):
        return True
    known_recall, fitted_recall = (best_possible_recall(boxes_wh, each) for each in (known, fitted))
    return known_recall >= fitted_recall - _MAX_RECALL_LOSS


def training_size(dataset: DetectionDataset, window: int | None, input_size: int | None) -> int:
    """Return the tile side, pixels, at which tiles of larger images resemble the training images.

    Without ``input_size``, this is the longer side of the largest image, or the window if that is smaller. With
    ``input_size``, images are resized by their shorter side, so it is the median of the shorter sides.
    """
    sizes_wh = dataset.images.sizes_wh
    if input_size is not None:
        return int(np.median(sizes_wh.min(axis=1)))
    return int(min(sizes_wh.max(), window or sizes_wh.max()))


_MIN_MATCHED_SHARE = 0.5  # minimum share of matching parameters; below it the weights are of another network
_CLASS_PARAMETERS = ("predictor.score.weight", "predictor.score.bias")  # one row for background, then one per class


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """The parameters loaded from another detector.

    Attributes:
        share: share of the model's parameters that were loaded, 0 to 1.
        categories: names that both detectors have; the score parameters of these classes were loaded.
    """

    share: float
    categories: tuple[str, ...]

    def in_words(self, where: Path) -> str:
        """Return one line of text; ``where`` is the path of the other detector."""
        common = ", ".join(self.categories) or "none"
        return f"weights: {self.share:.1%} of the parameters are from {where}; common categories: {common}"


def init_detector(
    config: Config, dataset: DetectionDataset, *, say: Callable[[str], None]
) -> tuple[DetectorSpec, FasterRCNN]:
    """Build the detector for the data; its weights come from ``config.train.init``, or are random.

    Args:
        config: the resolved configuration.
        dataset: the training images.
        say: called with a line on the anchors, and one on loaded weights.

    Raises:
        ConfigError: see ``load_matching_weights``.
    """
    start = config.train.init
    source = None if start is None else load_checkpoint(start)
    detector = fit_detector_spec(
        config.model,
        dataset,
        window=config.data.window,
        seed=config.train.seed,
        say=say,
        known=None if source is None else source.detector.shapes,
    )
    model = detector.build()
    load_pretrained(model.backbone.body, config.model.backbone)
    if start is not None and source is not None:
        say(load_matching_weights(model, detector.categories, source, where=start).in_words(start))
    return detector, model


@torch.no_grad()
def load_matching_weights(
    model: FasterRCNN, categories: tuple[str, ...], source: Checkpoint, *, where: Path
) -> LoadedWeights:
    """Load the weights of a trained detector where name and shape match, including running statistics.

    The parameters of the class scores are loaded per class, by category name; those of the background always.

    Args:
        model: changed in place.
        categories: of ``model``, id 1 first.
        source: the trained detector.
        where: its path, for messages.

    Raises:
        ConfigError: less than half of the parameters match; the model is unchanged.
    """
    known = source.detector.categories
    rows = [(0, 0), *((i + 1, known.index(name) + 1) for i, name in enumerate(categories) if name in known)]
    matching, loaded = {}, 0
    parameters = {name for name, _ in model.named_parameters()}
    for name, own in model.state_dict().items():
        other = source.weights.get(name)
        if other is None:
            continue
        if name.endswith(_CLASS_PARAMETERS) and other.shape == (len(known) + 1, *own.shape[1:]):
            matching[name], share = _copy_class_rows(own, other, rows), len(rows) / len(own)
        elif other.shape == own.shape:
            matching[name], share = other, 1.0
        else:
            continue
        if name in parameters:
            loaded += round(own.numel() * share)
    share = loaded / sum(parameter.numel() for parameter in model.parameters())
    if share < _MIN_MATCHED_SHARE:
        message = f"only {share:.0%} of the network's parameters match the checkpoint in name and shape"
        fix = "remove keys of the model section, whose values then come from the checkpoint, or leave out train.init"
        raise ConfigError(message, where=where, fix=fix)
    model.load_state_dict(matching, strict=False)
    return LoadedWeights(share, tuple(name for name in categories if name in known))


def _copy_class_rows(own: Tensor, other: Tensor, rows: list[tuple[int, int]]) -> Tensor:
    merged = own.clone()
    for own_row, other_row in rows:
        merged[own_row] = other[other_row]
    return merged
