"""Judging a network on the validation part while it trains, each process of a team its share of the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchvision.models.detection import FasterRCNN

from ..data import DetectionDataset
from ..distributed import Team
from ..evaluation import average_precision
from ..formats import coco
from ..inference.labelled import detect_labelled
from ..prediction import coco_results
from ..records import Dataset, Image


class Validator:
    """COCO average precision over one data set.

    Args:
        dataset: records with the categories of the training.
        channels: of the detector.
        cache: keep decoded images in memory.
        max_value: white of 16-bit images; None: 65535.
        team: the processes that judge together.

    Attributes:
        images: those that this process looks at.
        total: how many images all of them look at.
    """

    def __init__(
        self, dataset: Dataset, *, channels: int, cache: bool, max_value: int | None = None, team: Team
    ) -> None:
        self.team, self.total = team, len(dataset.images)
        self._truth = coco.to_dict(dataset, Path())
        self._ids = dataset.category_ids()
        self._positions = shares(dataset.images, team.size)[team.rank]
        own = [dataset.images[i] for i in self._positions]
        if any(image.frame is None for image in dataset.images):  # then every image is seen alone, strip or not
            own = [replace(image, frame=None) for image in own]
        self.images = DetectionDataset(
            replace(dataset, images=tuple(own)), channels=channels, cache=cache, max_value=max_value
        )

    def __call__(self, model: FasterRCNN, *, side: int | None = None) -> dict[str, Any]:
        """AP, AP50, AP75 and AP50 a class, as fractions, on every process; the model's mode is put back afterwards.

        Args:
            model: of any mode.
            side: in pixels of what it was trained on; much larger images are seen in tiles, as by ``detect infer``.
        """
        training = model.training
        model.eval()
        seen = detect_labelled(model, self.images, self.images.categories, trained=side)
        own = {self._positions[i]: found for i, found in seen}
        model.train(training)
        found = {position: each for shares in self.team.gathered(own) for position, each in shares.items()}
        judged: dict[str, Any] = self.team.told(
            average_precision(self._truth, coco_results([found[i] for i in range(self.total)], self._ids))
            if self.team.leads
            else None
        )
        return judged


def shares(images: Sequence[Image], size: int) -> list[list[int]]:
    """Positions that each of ``size`` processes judges: every image once, strips whole, as evenly as may be."""
    together: dict[object, list[int]] = defaultdict(list)
    in_time = all(image.frame is not None for image in images)
    for i, image in enumerate(images):
        together[image.frame.strip if in_time and image.frame is not None else i].append(i)
    dealt: list[list[int]] = [[] for _ in range(size)]
    for positions in sorted(together.values(), key=len, reverse=True):
        min(dealt, key=len).extend(positions)
    return [sorted(positions) for positions in dealt]
