"""Steps that can't be learned from: their batch saved and drawn, the training stopped or the step skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import save_tensors
from ..data import Batch, DetectionDataset
from ..distributed import Team
from ..drawing import Mark, class_colours, contact_sheet, draw_marks
from ..errors import DivergenceError
from ..images import Pixels, write_image
from ..whole import whole_file

_KEPT = 20  # batches a run, so that skipping doesn't fill the disk
_SHEET_SIDE = 400  # pixels that an image's longer side has on the sheet, at least


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in a training a step stands: both count from 1."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


class BadSteps:
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
        team: the processes whose shares make up a batch; all of them meet a bad step together.
        action: "stop" or "skip".
        in_a_row: so many steps are skipped one after another, the next stops the training.
        say: gets a line for each skipped step.
    """

    def __init__(
        self,
        folder: Path,
        dataset: DetectionDataset,
        team: Team,
        *,
        action: Literal["stop", "skip"],
        in_a_row: int,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.dataset, self.team = folder / "bad_steps", dataset, team
        self.action, self.in_a_row, self._say = action, in_a_row, say
        self.row = 0  # bad steps since the last good one

    def meet(self, reason: str, batch: Batch, moment: Moment) -> None:
        """Save the batch and go on without it, if that was asked for.

        Raises:
            DivergenceError: the training has to stop.
        """
        shares = self.team.gathered((batch.images, batch.targets, *self._files(batch)))
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
        place = self._save(content, moment) if self.team.leads else ""
        names = ", ".join(_named(file, mixed) for file, mixed in zip(files, others))
        found = f"{reason} in {moment} on {names}; the batch is {place}"
        self.row += 1
        if self.action == "skip" and self.row <= self.in_a_row:
            self._say(f"skipped a step: {found}")
            return
        if self.action == "skip":
            found = f"{self.row} steps in a row can't be learned from, the last: {found}"
        cure = "look at these images and their boxes, run 'detect audit' over the labels, or lower train.lr"
        skip = "" if self.action == "skip" else "; train.on_bad_step=skip goes on without such a batch"
        raise DivergenceError(found, fix=cure + skip)

    def learned(self) -> None:
        """A step that was taken ends the row of bad ones."""
        self.row = 0

    def _files(self, batch: Batch) -> tuple[list[str], list[list[str]]]:
        path = self.dataset.path
        return [str(path(i)) for i in batch.indices], [[str(path(i)) for i in mixed] for mixed in batch.mixed_in]

    def _save(self, content: dict[str, Any], moment: Moment) -> str:
        """Where the batch is now, in words."""
        path = self.folder / f"epoch{moment.epoch}_step{moment.step}.pt"
        if not path.exists() and len(list(self.folder.glob("*.pt"))) >= _KEPT:
            return f"not saved, as {self.folder} holds {_KEPT} already"
        try:
            with whole_file(path) as file:
                save_tensors(content, file)
            write_image(path.with_suffix(".png"), _sheet(content))
        except OSError as error:
            return f"not saved ({error.strerror})"
        return f"in {path}, drawn in {path.with_suffix('.png').name}"


def _named(file: str, mixed: list[str]) -> str:
    name = Path(file).name
    return f"{name} (with {', '.join(Path(other).name for other in mixed)})" if mixed else name


def _sheet(content: dict[str, Any]) -> Pixels:
    """All images of a batch with their boxes and names."""
    categories = content["categories"]
    colours = class_colours(categories)
    pictures = []
    for image, target, file in zip(content["images"], content["targets"], content["files"]):
        height, width = image.shape[-2:]
        marks = [Mark((0, 0, width, height), Path(file).name, (160, 160, 160))]
        for xyxy, label in zip(target["boxes"].tolist(), target["labels"].tolist()):
            name = categories[label - 1]
            marks.append(Mark(tuple(xyxy), name, colours[name]))
        scale = -(-_SHEET_SIDE // max(width, height))
        pictures.append(draw_marks(_pixels(image), marks, scale=scale))
    return contact_sheet(pictures, columns=4)


def _pixels(image: Tensor) -> Pixels:
    planes = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))
