"""What a training starts from: weights, and what the data decides about a detector."""

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

_MAX_RECALL_LOSS = 0.03  # anchors that weights know may reach this share of boxes less than anchors fitted to these


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
        if known is not None and _covers_boxes(known, shapes, boxes_wh):
            shapes, origin = known, "kept"
    if len(boxes_wh):
        ours, default = (best_possible_recall(boxes_wh, each) for each in (shapes, default_anchors(levels)))
        text = f"best possible recall at IoU 0.5 is {ours:.3f}, with torchvision's default {default:.3f}"
    else:
        text = "there are no boxes to fit them to"
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
    reached, possible = (best_possible_recall(boxes_wh, each) for each in (known, fitted))
    return reached >= possible - _MAX_RECALL_LOSS


def training_size(dataset: DetectionDataset, window: int | None, input_size: int | None) -> int:
    """Side in pixels of the squares in which larger images look like what was trained on.

    That is the longer side of the largest image, or a window if that is less. Images whose shorter side is brought to
    ``input_size`` are most like a square of their shorter side.
    """
    sizes_wh = dataset.images.sizes_wh
    if input_size is not None:
        return int(np.median(sizes_wh.min(axis=1)))
    return int(min(sizes_wh.max(), window or sizes_wh.max()))


_MIN_MATCHED_SHARE = 0.5  # share of the parameters that have to fit: less is another network, and most likely a mistake
_CLASS_PARAMETERS = ("predictor.score.weight", "predictor.score.bias")  # a row for background, then one a class


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What a detector has from another one.

    Attributes:
        share: of its parameters, 0 to 1.
        categories: those that the other one knew too, whose scores go on from what it had learned.
    """

    share: float
    categories: tuple[str, ...]

    def in_words(self, where: Path) -> str:
        """One line; ``where`` is the other one's path."""
        known = ", ".join(self.categories) or "none of its categories"
        return f"weights: {self.share:.1%} of the parameters are those of {where}, which knew {known}"


def init_detector(
    config: Config, dataset: DetectionDataset, *, say: Callable[[str], None]
) -> tuple[DetectorSpec, FasterRCNN]:
    """The detector that fits the data, and its network with the weights that ``config.train.init`` or chance gives it.

    Args:
        config: the resolved configuration.
        dataset: the training images.
        say: gets a line on the anchors, and one on the weights that were taken over.

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
    """Replace weights by those of a trained detector wherever name and shape agree, running statistics included.

    The outputs for classes are taken over class by class, by name, that for background always.

    Args:
        model: changed in place.
        categories: that it is to find, id 1 first.
        source: the trained detector.
        where: its path, for messages.

    Raises:
        ConfigError: less than half of the parameters fit; the model is as it was.
    """
    known = source.detector.categories
    rows = [(0, 0), *((i + 1, known.index(name) + 1) for i, name in enumerate(categories) if name in known)]
    fitting, taken = {}, 0
    parameters = {name for name, _ in model.named_parameters()}
    for name, mine in model.state_dict().items():
        theirs = source.weights.get(name)
        if theirs is None:
            continue
        if name.endswith(_CLASS_PARAMETERS) and theirs.shape == (len(known) + 1, *mine.shape[1:]):
            fitting[name], share = _copy_class_rows(mine, theirs, rows), len(rows) / len(mine)
        elif theirs.shape == mine.shape:
            fitting[name], share = theirs, 1.0
        else:
            continue
        if name in parameters:
            taken += round(mine.numel() * share)
    share = taken / sum(parameter.numel() for parameter in model.parameters())
    if share < _MIN_MATCHED_SHARE:
        message = f"only {share:.0%} of this network's parameters have a counterpart of the same shape there"
        fix = "leave out keys of the model section, which then come from there, or start without train.init"
        raise ConfigError(message, where=where, fix=fix)
    model.load_state_dict(fitting, strict=False)
    return LoadedWeights(share, tuple(name for name in categories if name in known))


def _copy_class_rows(mine: Tensor, theirs: Tensor, rows: list[tuple[int, int]]) -> Tensor:
    mixed = mine.clone()
    for own, other in rows:
        mixed[own] = theirs[other]
    return mixed
