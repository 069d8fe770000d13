"""Checkpoints: weights with everything that inference needs; written atomically, read without running code."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from ..config.schema import MemoryConfig, ModelConfig
from ..data.dataset import MAX_UINT16
from ..errors import CheckpointError, ConfigError
from ..fileio import atomic_write
from ..images import MOST_PIXELS
from ..released import WEIGHTS, is_released
from .anchors import AnchorShapes
from .faster_rcnn import build_detector, use_high_precision_stem
from .fpn import build_pyramid
from .roi_heads import BoxHead
from .safe_load import load_tensors

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """Description of a detector without its weights.

    Attributes:
        model: widths and settings of its parts.
        categories: names in the order of their ids, from 1 on.
        channels: 1 for gray, 3 for RGB.
        mean, std: normalisation per channel, in 0 to 1.
        shapes: anchors, [level][anchor](width, height) in pixels.
        max_value: gray value of white in the 16-bit training images; None: 8-bit images.
        side: size of the training images in pixels: side of the windows, or the longer side of the largest image;
            None: unknown.
    """

    model: ModelConfig
    categories: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shapes: AnchorShapes
    max_value: int | None = None
    side: int | None = None

    def build(self) -> FasterRCNN:
        """The network with random weights."""
        detector = build_detector(
            self.model,
            classes=len(self.categories),
            channels=self.channels,
            mean=self.mean,
            std=self.std,
            shapes=self.shapes,
        )
        if self.max_value is not None:
            use_high_precision_stem(detector)
        return detector


@dataclass(slots=True)
class Checkpoint:
    """Content of one checkpoint file.

    Attributes:
        detector: description of the network.
        weights: its state dict for inference.
        epoch: the epoch after which it was written.
        metrics: validation metrics of that epoch; empty without validation.
        training: further state for resuming; None in files for inference only.
    """

    detector: DetectorSpec
    weights: dict[str, Tensor]
    epoch: int
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None

    def load_model(self) -> FasterRCNN:
        """The network with these weights, in evaluation mode.

        Raises:
            CheckpointError: the weights don't fit the network that ``detector`` describes.
        """
        self.check_size()
        try:
            model = self.detector.build()
            model.load_state_dict(self.weights)
        except (RuntimeError, ConfigError):
            raise _mismatch_error() from None
        return model.eval()

    def check_size(self) -> None:
        """Compare the size of the described network with the weights, before memory is allocated for it.

        Raises:
            CheckpointError: the described network has more parameters than the file.
        """
        num_stored = sum(weight.numel() for weight in self.weights.values())
        try:
            num_described = count_parameters(self.detector.model, self.detector.channels, layers=len(self.weights))
        except (RuntimeError, ConfigError):
            raise _mismatch_error() from None
        if num_described > num_stored:
            raise _mismatch_error()


def _mismatch_error() -> CheckpointError:
    message = "the checkpoint's weights don't fit the network that it describes"
    return CheckpointError(message, fix="use the version of detect that wrote it")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically and durably: after a crash or power cut, either the previous or this one exists.

    Raises:
        CheckpointError: the disk is full or can't be written; the previous checkpoint is unchanged.
    """
    content = {
        "schema": SCHEMA,
        "detector": {**asdict(checkpoint.detector), "model": checkpoint.detector.model.model_dump(mode="json")},
        "weights": checkpoint.weights,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    try:
        with atomic_write(path, lasting=True) as file:
            save_tensors(content, file)
    except OSError as error:
        fix = "free some space or fix the permissions; the previous checkpoint is unchanged; continue with --resume"
        raise CheckpointError(f"can't write the checkpoint ({error.strerror})", where=path, fix=fix) from None


def save_tensors(content: Any, file: BinaryIO) -> None:
    """``torch.save`` into an open file.

    Raises:
        OSError, KeyboardInterrupt: for example the disk is full or Ctrl-C was pressed; torch reports both as a
            RuntimeError of its archive writer.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, (OSError, KeyboardInterrupt)):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path, *, map_location: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint file, best.pt (else last.pt) of a run folder, or the ``released`` checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, from another program, or contains more than plain values and tensors.
    """
    path = find_checkpoint(path)
    try:
        content = load_tensors(path, map_location=map_location)
    except OSError as error:
        raise CheckpointError(f"can't read it ({error.strerror})", where=path, fix="check its permissions") from None
    try:
        if not isinstance(content, dict):
            raise TypeError
        if not isinstance(content["schema"], int):
            raise TypeError
        if content["schema"] != SCHEMA:
            message = f"the checkpoint has schema {content['schema']}, this version reads {SCHEMA}"
            raise CheckpointError(message, where=path, fix="use the version of detect that wrote it")
        spec = content["detector"]
        detector = DetectorSpec(
            model=ModelConfig.model_validate(spec["model"]),
            categories=tuple(spec["categories"]),
            channels=int(spec["channels"]),
            mean=tuple(spec["mean"]),
            std=tuple(spec["std"]),
            shapes=[[(float(w), float(h)) for w, h in level] for level in spec["shapes"]],
            max_value=None if spec.get("max_value") is None else int(spec["max_value"]),
            side=None if spec.get("side") is None else int(spec["side"]),
        )
        weights, metrics, training = (content[key] for key in ("weights", "metrics", "training"))
        if not _is_valid(detector, weights) or not isinstance(metrics, dict):
            raise TypeError
        return Checkpoint(detector, weights, int(content["epoch"]), metrics, training)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError, ValidationError):
        message = "the file is no checkpoint of this library"
        raise CheckpointError(
            message, where=path, fix="give a run folder or a file written by 'detect train'"
        ) from None


def _is_valid(detector: DetectorSpec, weights: Any) -> bool:
    """Whether names, numbers and weights have valid types and ranges."""
    numbers = [*detector.mean, *detector.std, *(side for level in detector.shapes for shape in level for side in shape)]
    return (
        detector.channels in (1, 3)
        and len(detector.mean) == len(detector.std) == detector.channels
        and all(isinstance(each, (int, float)) and math.isfinite(each) for each in numbers)
        and all(isinstance(name, str) and name.strip() for name in detector.categories)
        and len(set(detector.categories)) == len(detector.categories)
        and (detector.max_value is None or 0 < detector.max_value <= MAX_UINT16)
        and (detector.side is None or 0 < detector.side <= MOST_PIXELS)
        and isinstance(weights, dict)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    )


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file of a path: a file itself, best.pt or else last.pt of a run folder, or the ``released`` one.

    Raises:
        CheckpointError: there is no such file.
    """
    if is_released(path):
        return WEIGHTS
    if path.is_file():
        return path
    if path.is_dir():
        for name in ("best.pt", "last.pt"):
            if (path / name).is_file():
                return path / name
        message = "the folder holds neither best.pt nor last.pt"
        raise CheckpointError(message, where=path, fix="train a run there, or give another folder")
    raise CheckpointError("no such run or checkpoint", where=path, fix="give a run folder or a .pt file")


def count_parameters(model: ModelConfig, channels: int, *, layers: int) -> float:
    """Number of parameters of backbones, pyramids and box heads, whose sizes the configuration sets.

    Args:
        model: the description, from an untrusted file.
        channels: of the images.
        layers: maximum number of layers; if one key asks for more, the result is infinite.

    Raises:
        ConfigError: parts that don't fit together.
    """
    if _max_depth(model) > layers:
        return math.inf
    light = model.memory.light if isinstance(model.memory, MemoryConfig) else None
    with torch.device("meta"):  # allocates no memory
        pyramids = [build_pyramid(model, channels)]
        if light is not None:
            pyramids.append(build_pyramid(model.model_copy(update={"backbone": light, "scan": None}), channels))
        roi = model.roi
        sizes = {"convs": roi.convs, "conv_width": roi.conv_width, "fc_width": roi.fc_width}
        head = BoxHead(model.fpn.channels, roi.pool, **sizes, dropout=0.0)
    parts: list[nn.Module] = [*pyramids, *[head] * roi.stages]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _max_depth(model: ModelConfig) -> int:
    """Maximum number of layers that a single key asks for."""
    backbones: list[Any] = [model.backbone, *([model.memory.light] if model.memory and model.memory.light else [])]
    depths: list[int] = [depth for each in backbones for depth in getattr(each, "depths", ())]
    return max([model.roi.convs, model.rpn.convs, *depths])
