"""A trained detector behind one call: an image or its path in, detections out."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from torchvision.models.detection import FasterRCNN

from ..checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from ..data import DetectionDataset, as_channels, check_depth
from ..errors import DataError
from ..images import Pixels, read_image
from ..prediction import coco_results, detect_images, resolve_device
from ..records import Dataset, Detections
from ..streaming import Between, Stream, detect_in_time
from ..thresholds import Thresholds, thresholds_beside


class Predictor:
    """A detector ready for use; make it with ``Predictor.load``.

    Attributes:
        categories: names that it finds.
        weights_path: the file that it was loaded from.
        epoch: the training epoch of its weights.
        max_value: white of 16-bit images, as in its training; None: it was trained on 8 bits, and takes it as 65535.
        thresholds: what ``detect evaluate --costs`` chose for these weights.
        brightest: the largest gray value of all 16-bit images given so far; None while there was none.
    """

    def __init__(self, checkpoint: Checkpoint, weights_path: Path, *, device: str = "auto") -> None:
        self.weights_path = weights_path
        self.epoch = checkpoint.epoch
        self.categories = checkpoint.detector.categories
        self.max_value = checkpoint.detector.max_value
        self.brightest: int | None = None
        self._channels = checkpoint.detector.channels
        self._model: FasterRCNN = checkpoint.load_model().to(resolve_device(device))

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Predictor:
        """Load a run folder (its best checkpoint, else its last), a checkpoint file, or ``released``.

        Args:
            path: folder or file; the word ``released`` for the model that comes with the library.
            device: "cpu", "cuda", ...; None takes a GPU if there is one.

        Raises:
            CheckpointError: nothing there, or nothing that this library wrote.
        """
        found = find_checkpoint(Path(path))
        return cls(load_checkpoint(found), found, device=device or "auto")

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """From the thresholds.json beside the weights; None where there is none, or one for other weights.

        ``predictor.thresholds.kept(predictor(image))`` is what ``detect infer`` shows.

        Raises:
            DataError: a thresholds.json that this version didn't write.
        """
        beside = thresholds_beside(self.weights_path)
        return beside if beside is not None and beside.are_for(self.weights_path) else None

    def __call__(self, image: str | Path | Pixels, *, threshold: float = 0.0) -> Detections:
        """Detections with a score of at least ``threshold``, best first; calibrated where ``thresholds`` say how.

        Args:
            image: a path, or uint8 / uint16 pixels, [height, width] gray or [height, width, 3] RGB.
            threshold: 0 to 1, of all categories; 0 gives all that the detector reports.

        Raises:
            DataError: no readable image, an array of another kind, gray values beyond ``max_value``, or a damaged
                thresholds.json.
        """
        where = image if isinstance(image, (str, Path)) else None
        pixels = check_depth(_pixels(image), self.max_value, where)
        if pixels.dtype == np.uint16:
            self._saw(int(pixels.max()))
        channels = as_channels(pixels, self._channels)
        (found,) = detect_images(self._model, [channels], self.categories, max_value=self.max_value)
        return (found if self.thresholds is None else self.thresholds.calibrated(found)).above(threshold)

    def detect_dataset(self, dataset: Dataset, *, progress: bool = False, every: int = 1) -> list[dict[str, object]]:
        """COCO results over a labelled data set: image_id is the position + 1, categories are matched by name.

        A detector with memory sees the frames of strips in the order of time. Scores are those of the network, neither
        calibrated nor cut.

        Args:
            dataset: images and the categories to match.
            progress: show a bar on terminals.
            every: each how many frames a key frame is seen by the full network, as in ``stream``.

        Raises:
            DataError: the detector knows a category that the data set lacks.
        """
        ids = dataset.category_ids()
        unknown = [name for name in self.categories if name not in ids]
        if unknown:
            found = f"the detector finds {', '.join(unknown)}, the data set has {', '.join(dataset.categories)}"
            raise DataError(found, where=self.weights_path, fix="judge it on data with the categories of its training")
        images = DetectionDataset(dataset, channels=self._channels, cache=False, max_value=self.max_value)
        seen: dict[int, Detections] = {}
        hidden = not (progress and sys.stderr.isatty())
        with Progress(transient=True, disable=hidden, console=Console(stderr=True)) as bar:
            task = bar.add_task("detecting", total=len(images))
            for position, detections in detect_in_time(self._model, images, self.categories, every=every):
                seen[position] = detections
                bar.advance(task)
        self._saw(images.brightest)
        return coco_results([seen[i] for i in range(len(seen))], ids)

    def _saw(self, brightest: int | None) -> None:
        if brightest is not None:
            self.brightest = max(self.brightest or 0, brightest)

    def stream(self, *, every: int = 1, between: Between | None = None) -> Stream:
        """A camera over moving strips, whose frames are given one by one; see ``detect.streaming.Stream``.

        Scores are those of the network; ``thresholds`` can calibrate and cut what it gives.

        Args:
            every: each how many frames a key frame is seen, all of it, by the full network.
            between: "incoming": in the others it looks at the surface that has come in; "light": the light network
                looks at all of it. None: by the light network where the detector has one.

        Raises:
            DataError: ``every`` is below 1.
            ConfigError: a light network is asked for, and there is none.
        """
        if every < 1:
            raise DataError(f"a key frame every {every} frames was asked for", where="every", fix="give 1 or more")
        return Stream(
            self._model,
            self.categories,
            every=every,
            between=between,
            channels=self._channels,
            max_value=self.max_value,
        )


def _pixels(image: str | Path | Pixels) -> Pixels:
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim != 2 and pixels.shape[2:] != (3,)) or not pixels.size:
        found = f"an array of {pixels.dtype} with shape {pixels.shape} is no image"
        raise DataError(found, fix="give uint8 or uint16 of shape [height, width] or [height, width, 3]")
    return pixels
