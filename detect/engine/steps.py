"""One training step: forward, backward and weight update; detection and handling of steps with bad losses."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from ..config.schema import TrainConfig
from ..data.dataset import DetectionDataset
from ..data.loader import Batch
from ..errors import ConfigError, DivergenceError
from ..fileio import atomic_write
from ..images import Pixels, write_image
from ..models.checkpoint import save_tensors
from ..models.distributed import World
from ..models.faster_rcnn import StripDetector
from ..visualize import StyledBox, class_colours, contact_sheet, draw_styled_boxes
from .optim import ModelEma

_WINDOW_STEPS = 100  # steps whose losses give the median
_MIN_STEPS = 10  # steps before the median is used
_MIN_MEDIAN = 1.0  # the loss of a random guess: where losses are tiny, a single wrong prediction is no explosion


class LossMonitor:
    """Compares each step's loss with the median loss of the last 100 steps.

    The median is robust to a single exploding loss and follows the slow decrease of the loss. The gradient norm is not
    used: it is clipped, and differs by a factor of ten between good steps.

    Args:
        max_ratio: a loss above ``max_ratio`` times the median is a fault, where a median below 1 counts as 1; None:
            only a loss that is not finite is a fault.
        before: losses of the last steps, for a resumed training.
    """

    def __init__(self, max_ratio: float | None, before: Iterable[float] = ()) -> None:
        self.max_ratio = max_ratio
        self._recent: deque[float] = deque(before, maxlen=_WINDOW_STEPS)

    def fault(self, losses: Mapping[str, float]) -> str | None:
        """Describe what is wrong with a step's losses; None if they are good."""
        not_finite = [name for name, value in losses.items() if not math.isfinite(value)]
        if not_finite:
            return f"{', '.join(not_finite)} is not finite"
        total = sum(losses.values())
        if self.max_ratio is None or len(self._recent) < _MIN_STEPS:
            return None
        reference = max(median(self._recent), _MIN_MEDIAN)
        if total <= self.max_ratio * reference:
            return None
        largest = max(losses, key=lambda name: losses[name])
        return f"the loss is {total:.4g}, {total / reference:.0f} times the recent median (largest part: {largest})"

    def record(self, losses: Mapping[str, float]) -> None:
        """Add the loss of a good step."""
        self._recent.append(sum(losses.values()))

    def state(self) -> list[float]:
        """The losses of the last steps, for the checkpoint."""
        return list(self._recent)


_MAX_SAVED_BATCHES = 20  # batches per run, so that skipped steps don't fill the disk
_MIN_SHEET_SIDE = 400  # pixels, minimum length of an image's longer side on the contact sheet


@dataclass(frozen=True, slots=True)
class StepIndex:
    """Position of a step in the training; epoch and step count from 1."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


class BadStepHandler:
    """Stops the training or skips the step after bad losses, and saves the batch in the run's folder ``bad_steps``.

    ``torch.load("runs/mine/bad_steps/epoch3_step17.pt")`` reads a saved batch, a dict of

        reason, epoch, step: as in the message.
        images: per image a FloatTensor[channels, height, width], 0 to 1, the network's input.
        targets: per image a dict of boxes FloatTensor[N, 4] (xyxy, pixels) and labels Int64Tensor[N] (1-based).
        files: the path of each image.
        others: per image the paths of the images that a mosaic mixed into it.
        categories: names of the labels, starting with label 1.

    A PNG of the same name shows the images with their boxes.

    Args:
        folder: the run folder.
        dataset: the training images.
        world: the processes that share each batch; all of them handle a bad step together.
        action: "stop" or "skip".
        max_consecutive: number of consecutive steps that may be skipped; one more stops the training.
        say: called with a line for each skipped step.
    """

    def __init__(
        self,
        folder: Path,
        dataset: DetectionDataset,
        world: World,
        *,
        action: Literal["stop", "skip"],
        max_consecutive: int,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.dataset, self.world = folder / "bad_steps", dataset, world
        self.action, self.max_consecutive, self._say = action, max_consecutive, say
        self.consecutive = 0  # bad steps since the last good one

    def handle(self, reason: str, batch: Batch, index: StepIndex) -> None:
        """Save the batch, and skip it if ``action`` is "skip".

        Raises:
            DivergenceError: ``action`` is "stop", or more than ``max_consecutive`` steps in a row are bad.
        """
        shares = self.world.all_gather((batch.images, batch.targets, *self._files(batch)))
        images, targets, files, others = (list(chain.from_iterable(parts)) for parts in zip(*shares))
        content = {
            "reason": reason,
            "epoch": index.epoch,
            "step": index.step,
            "images": images,
            "targets": targets,
            "files": files,
            "others": others,
            "categories": self.dataset.categories,
        }
        location = self._save(content, index) if self.world.is_main_process else ""
        names = ", ".join(_image_names(file, mixed) for file, mixed in zip(files, others))
        message = f"{reason} in {index} on {names}; the batch is {location}"
        self.consecutive += 1
        if self.action == "skip" and self.consecutive <= self.max_consecutive:
            self._say(f"skipped a step: {message}")
            return
        if self.action == "skip":
            message = f"{self.consecutive} steps in a row are bad, the last: {message}"
        fix = "check these images and their boxes, run 'detect audit' on the labels, or lower train.lr"
        skip = "" if self.action == "skip" else "; train.on_bad_step=skip leaves out such a batch"
        raise DivergenceError(message, fix=fix + skip)

    def reset(self) -> None:
        """Reset the count of consecutive bad steps after a good one."""
        self.consecutive = 0

    def _files(self, batch: Batch) -> tuple[list[str], list[list[str]]]:
        path = self.dataset.path
        return [str(path(i)) for i in batch.indices], [[str(path(i)) for i in mixed] for mixed in batch.mixed_in]

    def _save(self, content: dict[str, Any], index: StepIndex) -> str:
        """Save the batch; returns where it is, for the message."""
        path = self.folder / f"epoch{index.epoch}_step{index.step}.pt"
        if not path.exists() and len(list(self.folder.glob("*.pt"))) >= _MAX_SAVED_BATCHES:
            return f"not saved: {self.folder} already holds {_MAX_SAVED_BATCHES}"
        try:
            with atomic_write(path) as file:
                save_tensors(content, file)
            write_image(path.with_suffix(".png"), _batch_sheet(content))
        except OSError as error:
            return f"not saved ({error.strerror})"
        return f"in {path}, drawn in {path.with_suffix('.png').name}"


def _image_names(file: str, mixed: list[str]) -> str:
    name = Path(file).name
    return f"{name} (with {', '.join(Path(other).name for other in mixed)})" if mixed else name


def _batch_sheet(content: dict[str, Any]) -> Pixels:
    """Draw all images of a batch with their boxes and names."""
    categories = content["categories"]
    colours = class_colours(categories)
    drawings = []
    for image, target, file in zip(content["images"], content["targets"], content["files"]):
        height, width = image.shape[-2:]
        marks = [StyledBox((0, 0, width, height), Path(file).name, (160, 160, 160))]
        for xyxy, label in zip(target["boxes"].tolist(), target["labels"].tolist()):
            name = categories[label - 1]
            marks.append(StyledBox(tuple(xyxy), name, colours[name]))
        scale = math.ceil(_MIN_SHEET_SIDE / max(width, height))
        drawings.append(draw_styled_boxes(_to_uint8(image), marks, scale=scale))
    return contact_sheet(drawings, columns=4)


def _to_uint8(image: Tensor) -> Pixels:
    planes = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


class BadStepError(Exception):
    """A loss or the gradient is not usable; the message says which and why."""


class Stepper:
    """A model in training with its optimizer and the exponential moving average (EMA) of its weights.

    Args:
        model: the detector to train, on its device.
        eval_model: a detector of the same structure; ``averaged_model`` loads the EMA weights into it.
        optimizer: for the parameters of ``model``.
        settings: EMA decay and reach, maximum gradient norm, and maximum loss ratio.
        precision: "float32", or "bfloat16" for autocast.
        device: of ``model``.
        world: the processes that train together, each on its share of every batch.
    """

    def __init__(
        self,
        model: FasterRCNN,
        eval_model: FasterRCNN,
        optimizer: torch.optim.Optimizer,
        *,
        settings: TrainConfig,
        precision: str,
        device: torch.device,
        world: World,
    ) -> None:
        self.model, self.eval_model, self.optimizer = model.train(), eval_model.eval(), optimizer
        self.ema = ModelEma(model, settings.ema_decay, settings.ema_reach)
        self.clip_norm, self.precision, self.device = settings.clip_norm, precision, device
        self.loss_monitor = LossMonitor(settings.max_loss_ratio)
        self.world = world
        self._ddp_model = world.wrap_ddp(self.model, find_unused_parameters=isinstance(model, StripDetector))

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Train on one batch at a learning rate; returns each loss, averaged over the processes.

        Raises:
            BadStepError: a loss or the gradient is not finite, or the loss is too large; weights and normalisation
                statistics are as before the step.
            ConfigError: the batch is too small for batch normalisation.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        losses = self._losses(batch.to(self.device))
        values = self.world.reduce_mean({name: float(value.detach()) for name, value in losses.items()})
        fault = self.loss_monitor.fault(values) or self._backward(losses)
        if fault is not None:
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, before in zip(self.model.buffers(), statistics):
                buffer.copy_(before)
            raise BadStepError(fault)
        self.ema.update(self.model)
        self.loss_monitor.record(values)
        return values

    def _backward(self, losses: dict[str, Tensor]) -> str | None:
        """Update the weights, or describe what is wrong with the gradient."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm or float("inf"))
        if not torch.isfinite(norm):  # the step would make every weight NaN
            return "the gradient is not finite"
        self.optimizer.step()
        return None

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                losses: dict[str, Tensor] = self._ddp_model(
                    batch.images, _targets_with_seeds(batch), **self._clip_inputs(batch)
                )
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            message = "a batch is too small for batch normalisation: a layer has a single value per channel"
            fix = "increase it or model.roi.batch_per_image, or give the backbone fewer stages for images this small"
            raise ConfigError(message, where="train.batch_size", fix=fix) from None
        return losses

    def _clip_inputs(self, batch: Batch) -> dict[str, Any]:
        """Extra inputs for a detector with memory; other detectors process the frames of clips as single images."""
        if batch.clip_length == 1 or not isinstance(self.model, StripDetector):
            return {}
        return {"clip_length": batch.clip_length, "motion_xy": batch.motion_xy}

    def averaged_model(self) -> FasterRCNN:
        """The detector with the EMA weights, in evaluation mode."""
        self.eval_model.load_state_dict(self.ema.weights)
        return self.eval_model

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs, besides the EMA weights, to resume the training."""
        return {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema_updates": self.ema.updates,
            "losses_before": self.loss_monitor.state(),
        }

    def restore(self, state: dict[str, Any], averaged: dict[str, Tensor]) -> None:
        """Restore a checkpoint's ``state`` and EMA weights."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.weights = {name: value.to(self.device) for name, value in averaged.items()}
        self.ema.updates = state["ema_updates"]
        self.loss_monitor = LossMonitor(self.loss_monitor.max_ratio, state.get("losses_before", ()))


def _targets_with_seeds(batch: Batch) -> list[dict[str, Tensor]]:
    """Add to each image's targets the seed of its random sampling, which stays on the CPU."""
    return [{**target, "seed": torch.tensor(seed)} for target, seed in zip(batch.targets, batch.seeds)]
