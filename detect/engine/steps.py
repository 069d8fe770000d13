"""One step of training: a batch in, its losses out, the weights updated; and steps with unusable losses."""

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

_WINDOW_STEPS = 100  # steps
_MIN_STEPS = 10  # of them, before a median says anything
_MIN_MEDIAN = 1.0  # a guess costs as much: where losses are tiny, one that is wrong for once is still no explosion


class LossMonitor:
    """Holds each step's loss against the median of the steps before it.

    The median doesn't move when a single loss explodes, and follows the slow fall of a training. The gradient's norm
    is no such measure: it is clipped, and differs tenfold between steps that are all right.

    Args:
        max_ratio: a loss of so many medians is a fault, with a median under 1 counted as 1; None: only what is no
            finite number.
        before: losses of the steps before, where a training goes on.
    """

    def __init__(self, max_ratio: float | None, before: Iterable[float] = ()) -> None:
        self.max_ratio = max_ratio
        self._recent: deque[float] = deque(before, maxlen=_WINDOW_STEPS)

    def fault(self, losses: Mapping[str, float]) -> str | None:
        """What is wrong with a step's losses, in words; None if nothing is."""
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if broken:
            return f"{', '.join(broken)} is no finite number"
        total = sum(losses.values())
        if self.max_ratio is None or len(self._recent) < _MIN_STEPS:
            return None
        usual = max(median(self._recent), _MIN_MEDIAN)
        if total <= self.max_ratio * usual:
            return None
        largest = max(losses, key=lambda name: losses[name])
        return f"the loss is {total:.4g}, {total / usual:.0f} times what is usual (most of it {largest})"

    def record(self, losses: Mapping[str, float]) -> None:
        """Remember a step that was taken."""
        self._recent.append(sum(losses.values()))

    def state(self) -> list[float]:
        """The losses remembered, for a training that goes on."""
        return list(self._recent)


_MAX_SAVED_BATCHES = 20  # batches a run, so that skipping doesn't fill the disk
_SHEET_SIDE = 400  # pixels that an image's longer side has on the sheet, at least


@dataclass(frozen=True, slots=True)
class StepIndex:
    """Where in a training a step stands: both count from 1."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


class BadStepHandler:
    """Decides what follows a bad step, and keeps its batch in the folder ``bad_steps`` of the run.

    A saved batch is read by ``torch.load("runs/mine/bad_steps/epoch3_step17.pt")``, a dict of

        reason, epoch, step: as in the message.
        images: FloatTensor[channels, height, width] each, 0 to 1, as the network got them.
        targets: a dict each of boxes FloatTensor[N, 4] (xyxy, pixels) and labels Int64Tensor[N] (1-based).
        files: the path of each image.
        others: the paths of what was mixed into each image by a mosaic.
        categories: the labels' names, the first of label 1.

    The picture beside it shows the same images with their boxes.

    Args:
        folder: the run folder.
        dataset: the training images.
        world: the processes whose shares make up a batch; all of them meet a bad step together.
        action: "stop" or "skip".
        max_consecutive: so many steps are skipped one after another, the next stops the training.
        say: gets a line for each skipped step.
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

    def handle(self, reason: str, batch: Batch, moment: StepIndex) -> None:
        """Save the batch and go on without it, if that was asked for.

        Raises:
            DivergenceError: the training has to stop.
        """
        shares = self.world.all_gather((batch.images, batch.targets, *self._files(batch)))
        images, targets, files, others = (list(chain.from_iterable(parts)) for parts in zip(*shares))
        content = {
            "reason": reason,
            "epoch": moment.epoch,
            "step": moment.step,
            "images": images,
            "targets": targets,
            "files": files,
            "others": others,
            "categories": self.dataset.categories,
        }
        place = self._save(content, moment) if self.world.is_main_process else ""
        names = ", ".join(_image_names(file, mixed) for file, mixed in zip(files, others))
        found = f"{reason} in {moment} on {names}; the batch is {place}"
        self.consecutive += 1
        if self.action == "skip" and self.consecutive <= self.max_consecutive:
            self._say(f"skipped a step: {found}")
            return
        if self.action == "skip":
            found = f"{self.consecutive} steps in a row can't be learned from, the last: {found}"
        cure = "look at these images and their boxes, run 'detect audit' over the labels, or lower train.lr"
        skip = "" if self.action == "skip" else "; train.on_bad_step=skip goes on without such a batch"
        raise DivergenceError(found, fix=cure + skip)

    def reset(self) -> None:
        """A step that was taken ends the row of bad ones."""
        self.consecutive = 0

    def _files(self, batch: Batch) -> tuple[list[str], list[list[str]]]:
        path = self.dataset.path
        return [str(path(i)) for i in batch.indices], [[str(path(i)) for i in mixed] for mixed in batch.mixed_in]

    def _save(self, content: dict[str, Any], moment: StepIndex) -> str:
        """Where the batch is now, in words."""
        path = self.folder / f"epoch{moment.epoch}_step{moment.step}.pt"
        if not path.exists() and len(list(self.folder.glob("*.pt"))) >= _MAX_SAVED_BATCHES:
            return f"not saved, as {self.folder} holds {_MAX_SAVED_BATCHES} already"
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
    """All images of a batch with their boxes and names."""
    categories = content["categories"]
    colours = class_colours(categories)
    pictures = []
    for image, target, file in zip(content["images"], content["targets"], content["files"]):
        height, width = image.shape[-2:]
        marks = [StyledBox((0, 0, width, height), Path(file).name, (160, 160, 160))]
        for xyxy, label in zip(target["boxes"].tolist(), target["labels"].tolist()):
            name = categories[label - 1]
            marks.append(StyledBox(tuple(xyxy), name, colours[name]))
        scale = -(-_SHEET_SIDE // max(width, height))
        pictures.append(draw_styled_boxes(_to_uint8(image), marks, scale=scale))
    return contact_sheet(pictures, columns=4)


def _to_uint8(image: Tensor) -> Pixels:
    planes = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


class BadStepError(Exception):
    """A loss or the gradient that can't be learned from; the message says which and why."""


class Stepper:
    """A model in training with its optimizer and its averaged twin.

    Args:
        model: the detector that learns, on its device.
        eval_model: a detector of the same parts, which ``averaged_model`` fills and returns.
        optimizer: of ``model``'s parameters.
        settings: of the weight average, of the largest gradient, and of when a loss is absurd.
        precision: "float32", or "bfloat16" for autocast.
        device: where ``model`` is.
        world: the processes that learn together, each from its share of every batch.
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
        self.watch = LossMonitor(settings.max_loss_ratio)
        self.world = world
        self._learner = world.wrap_ddp(self.model, find_unused_parameters=isinstance(model, StripDetector))

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Learn from one batch at a learning rate; returns each loss, averaged over the group.

        Raises:
            BadStepError: a loss or the gradient is no finite number, or the loss is absurd; weights and statistics are
                as before the step.
            ConfigError: the batch is too small to be normalised.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        losses = self._losses(batch.to(self.device))
        values = self.world.reduce_mean({name: float(value.detach()) for name, value in losses.items()})
        fault = self.watch.fault(values) or self._backward(losses)
        if fault is not None:
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, before in zip(self.model.buffers(), statistics):
                buffer.copy_(before)
            raise BadStepError(fault)
        self.ema.update(self.model)
        self.watch.record(values)
        return values

    def _backward(self, losses: dict[str, Tensor]) -> str | None:
        """Move the weights down the gradient, unless something is wrong with it: what, in words."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm or float("inf"))
        if not torch.isfinite(norm):  # one such step would spoil every weight
            return "the gradient is no finite number"
        self.optimizer.step()
        return None

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                losses: dict[str, Tensor] = self._learner(
                    batch.images, _targets_with_seeds(batch), **self._clip_inputs(batch)
                )
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            found = "a batch is too small to be normalised: some layer gets a single value a channel"
            fix = "raise it, or model.roi.batch_per_image, or give the backbone fewer stages for images this small"
            raise ConfigError(found, where="train.batch_size", fix=fix) from None
        return losses

    def _clip_inputs(self, batch: Batch) -> dict[str, Any]:
        """What a detector with memory has to know of a batch besides its images; others see clips as stills."""
        if batch.clip_length == 1 or not isinstance(self.model, StripDetector):
            return {}
        return {"clip_length": batch.clip_length, "motion_xy": batch.motion_xy}

    def averaged_model(self) -> FasterRCNN:
        """The detector with averaged weights, ready to be judged."""
        self.eval_model.load_state_dict(self.ema.weights)
        return self.eval_model

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs besides the averaged weights to go on from here."""
        return {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema_updates": self.ema.updates,
            "losses_before": self.watch.state(),
        }

    def restore(self, state: dict[str, Any], averaged: dict[str, Tensor]) -> None:
        """Go on from a checkpoint's ``state`` and averaged weights."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.weights = {name: value.to(self.device) for name, value in averaged.items()}
        self.ema.updates = state["ema_updates"]
        self.watch = LossMonitor(self.watch.max_ratio, state.get("losses_before", ()))


def _targets_with_seeds(batch: Batch) -> list[dict[str, Tensor]]:
    """The targets with the seed of what is drawn for each image, which stays on the CPU."""
    return [{**target, "seed": torch.tensor(seed)} for target, seed in zip(batch.targets, batch.seeds)]
