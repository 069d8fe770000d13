"""Judging a network on the validation part while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchvision.models.detection import FasterRCNN

from ..data import DetectionDataset
from ..evaluation import average_precision
from ..formats import coco
from ..inference.labelled import detect_labelled
from ..prediction import coco_results
from ..records import Dataset


class Validator:
    """COCO average precision over one data set.

    Args:
        dataset: records with the categories of the training.
        channels: of the detector.
        cache: keep decoded images in memory.
        max_value: white of 16-bit images; None: 65535.
    """

    def __init__(self, dataset: Dataset, *, channels: int, cache: bool, max_value: int | None = None) -> None:
        self._truth = coco.to_dict(dataset, Path())
        self._ids = dataset.category_ids()
        self.images = DetectionDataset(dataset, channels=channels, cache=cache, max_value=max_value)

    def __call__(self, model: FasterRCNN, *, side: int | None = None) -> dict[str, Any]:
        """AP, AP50, AP75 and AP50 a class, as fractions; the model's mode is put back afterwards.

        Args:
            model: of any mode.
            side: in pixels of what it was trained on; much larger images are seen in tiles, as by ``detect infer``.
        """
        training = model.training
        model.eval()
        found = dict(detect_labelled(model, self.images, self.images.categories, trained=side))
        model.train(training)
        return average_precision(self._truth, coco_results([found[i] for i in range(len(found))], self._ids))
