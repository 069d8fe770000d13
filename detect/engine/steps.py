"""One step of training: a batch in, its losses out, the weights and their average moved on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from ..config import TrainConfig
from ..data import Batch
from ..distributed import Team
from ..errors import ConfigError
from ..models import StripDetector
from .ema import Ema
from .loss_watch import LossWatch


class BadStepError(Exception):
    """A loss or the gradient that can't be learned from; the message says which and why."""


class Stepper:
    """A model in training with its optimizer and its averaged twin.

    Args:
        model: the detector that learns, on its device.
        judged: a detector of the same parts, which ``averaged`` fills and returns.
        optimizer: of ``model``'s parameters.
        settings: of the weight average, of the largest gradient, and of when a loss is absurd.
        precision: "float32", or "bfloat16" for autocast.
        device: where ``model`` is.
        team: the processes that learn together, each from its share of every batch.
    """

    def __init__(
        self,
        model: FasterRCNN,
        judged: FasterRCNN,
        optimizer: torch.optim.Optimizer,
        *,
        settings: TrainConfig,
        precision: str,
        device: torch.device,
        team: Team,
    ) -> None:
        self.model, self.judged, self.optimizer = model.train(), judged.eval(), optimizer
        self.ema = Ema(model, settings.ema_decay, settings.ema_reach)
        self.clip_norm, self.precision, self.device = settings.clip_norm, precision, device
        self.watch = LossWatch(settings.absurd_loss)
        self.team, self._learner = team, team.wrapped(self.model, rests=isinstance(model, StripDetector))

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Learn from one batch at a learning rate; returns each loss, averaged over the team.

        Raises:
            BadStepError: a loss or the gradient is no finite number, or the loss is absurd; weights and statistics are
                as before the step.
            ConfigError: the batch is too small to be normalised.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        losses = self._losses(batch.to(self.device))
        values = self.team.mean({name: float(value.detach()) for name, value in losses.items()})
        fault = self.watch.fault(values) or self._descend(losses)
        if fault is not None:
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, before in zip(self.model.buffers(), statistics):
                buffer.copy_(before)
            raise BadStepError(fault)
        self.ema.update(self.model)
        self.watch.learned(values)
        return values

    def _descend(self, losses: dict[str, Tensor]) -> str | None:
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
                losses: dict[str, Tensor] = self._learner(batch.images, _drawn(batch), **self._time(batch))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            found = "a batch is too small to be normalised: some layer gets a single value a channel"
            fix = "raise it, or model.roi.batch_per_image, or give the backbone fewer stages for images this small"
            raise ConfigError(found, where="train.batch_size", fix=fix) from None
        return losses

    def _time(self, batch: Batch) -> dict[str, Any]:
        """What a detector with memory has to know of a batch besides its images; others see clips as stills."""
        if batch.clip_length == 1 or not isinstance(self.model, StripDetector):
            return {}
        return {"clip_length": batch.clip_length, "motion_xy": batch.motion_xy}

    def averaged(self) -> FasterRCNN:
        """The detector with averaged weights, ready to be judged."""
        self.judged.load_state_dict(self.ema.weights)
        return self.judged

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
        self.watch = LossWatch(self.watch.absurd, state.get("losses_before", ()))


def _drawn(batch: Batch) -> list[dict[str, Tensor]]:
    """The targets with the seed of what is drawn for each image, which stays on the CPU."""
    return [{**target, "seed": torch.tensor(seed)} for target, seed in zip(batch.targets, batch.seeds)]
