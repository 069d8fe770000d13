"""A trained detector behind one call: an image, a strip or a data set in, detections out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from torchvision.models.detection import FasterRCNN

from ..data.dataset import MAX_UINT16, MIN_MAX_VALUE, DetectionDataset, as_channels, check_bit_depth
from ..errors import ConfigError, DataError
from ..images import Pixels, as_pixels, read_image
from ..models.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from ..models.distributed import resolve_device
from ..models.faster_rcnn import StripDetector
from ..structures import Dataset, Detections, Image
from .detection import coco_results, detect_dataset, detect_images
from .stream import NonKeyFrameMode, Stream, detect_in_frame_order
from .thresholds import Thresholds, thresholds_for_weights
from .tiling import DetectFn, StripFiles, Tiling, detect_tiled, strip_tiling, tiling_for


def tile_detector(model: FasterRCNN, categories: tuple[str, ...], max_value: int | None) -> DetectFn:
    """The network as tiles need it: pictures in, detections out."""
    return partial(detect_images, model, categories=categories, max_value=max_value)


def tilings(
    sizes_wh: Iterable[Sequence[int]], *, trained: int | None, tile: int | None = None, overlap: int | None = None
) -> dict[int, Tiling]:
    """Position of each image that is seen in tiles -> these.

    Args:
        sizes_wh: of the images in pixels.
        trained, tile, overlap: as for ``tiling_for``.

    Raises:
        ConfigError: tiles that can't be.
    """
    found = (tiling_for(*wh, trained=trained, tile=tile, overlap=overlap) for wh in sizes_wh)
    return {position: each for position, each in enumerate(found) if each is not None}


def needs_frame_order(model: FasterRCNN, images: Iterable[Image], key_frame_interval: int = 1) -> bool:
    """Whether the images are frames that this detector sees one after another, each of them whole."""
    return (isinstance(model, StripDetector) or key_frame_interval > 1) and all(
        image.frame is not None for image in images
    )


def detect_labelled(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    trained: int | None,
    tile: int | None = None,
    overlap: int | None = None,
    key_frame_interval: int = 1,
) -> Iterator[tuple[int, Detections]]:
    """Position and detections of each image of a data set, in no order; scores are the network's own.

    Args:
        model: in evaluation mode.
        dataset: pixels; labels aren't looked at.
        categories: the model's category names.
        trained, tile, overlap: which images are seen in tiles, as for ``tiling_for``.
        key_frame_interval: each how many frames a key frame is seen, as for ``detect_in_frame_order``.

    Raises:
        ConfigError: tiles that can't be, or tiles of frames that are seen in the order of time.
    """
    if needs_frame_order(model, dataset.images, key_frame_interval):
        if tile:
            reason = "frames that are seen in the order of time are seen whole"
            raise ConfigError(reason, where="tile", fix="leave it out")
        yield from detect_in_frame_order(model, dataset, categories, key_frame_interval=key_frame_interval)
        return
    tiled = tilings(dataset.images.sizes_wh.tolist(), trained=trained, tile=tile, overlap=overlap)
    whole = [position for position in range(len(dataset)) if position not in tiled]
    done = iter(whole)
    for batch in detect_dataset(model, dataset, categories, positions=whole):
        for found in batch:
            yield next(done), found
    for position, tiling in tiled.items():
        pixels = dataset.pixels(position)
        size_wh = (int(pixels.shape[1]), int(pixels.shape[0]))
        detect, nms_iou = tile_detector(model, categories, dataset.max_value), model.roi_heads.nms_thresh
        yield position, detect_tiled(detect, [pixels], size_wh, tiling, categories, nms_iou=nms_iou)


def collect_in_order(found: Iterable[tuple[int, Detections]], total: int, *, progress: bool) -> list[Detections]:
    """The detections of all ``total`` images by position, with a bar on terminals if ``progress`` asks for one."""
    seen: dict[int, Detections] = {}
    hidden = not (progress and sys.stderr.isatty())
    with Progress(transient=True, disable=hidden, console=Console(stderr=True)) as bar:
        task = bar.add_task("detecting", total=total)
        for position, detections in found:
            seen[position] = detections
            bar.advance(task)
    return [seen[position] for position in range(total)]


class Predictor:
    """A detector ready for use; make it with ``Predictor.load``.

    All that it gives has calibrated scores where ``thresholds`` hold a calibration: a call, ``predict_batch``,
    ``strip``, ``stream`` and ``detect_dataset``. With ``calibrated=False`` all have the network's own scores.

    Attributes:
        categories: names that it finds.
        weights_path: the file that it was loaded from.
        epoch: the training epoch of its weights.
        max_value: white of 16-bit images, as in its training unless ``load`` was given another; None: it was trained on
            8 bits, and takes it as 65535.
        trained_max_value: as in its training.
        side: in pixels of what it was trained on, and so of tiles; None: a checkpoint that doesn't tell.
        thresholds: what ``detect evaluate --costs`` chose for these weights.
        calibrated: whether their calibration is applied.
        brightest: the largest gray value of all 16-bit images given so far; None while there was none.
    """

    def __init__(
        self, checkpoint: Checkpoint, weights_path: Path, *, device: str = "auto", calibrated: bool = True
    ) -> None:
        self.weights_path, self.calibrated = weights_path, calibrated
        self.epoch = checkpoint.epoch
        self.categories = checkpoint.detector.categories
        self.max_value = self.trained_max_value = checkpoint.detector.max_value
        self.side = checkpoint.detector.side
        self.brightest: int | None = None
        self._channels = checkpoint.detector.channels
        self._model: FasterRCNN = checkpoint.load_model().to(resolve_device(device))

    @property
    def stateful(self) -> bool:
        """Whether what it sees depends on the frames before."""
        return isinstance(self._model, StripDetector)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        calibrated: bool = True,
        max_value: int | None = None,
    ) -> Predictor:
        """Load a run folder (its best checkpoint, else its last), a checkpoint file, or ``released``.

        Args:
            path: folder or file; the word ``released`` for the model that comes with the library.
            device: "cpu", "cuda", ...; None takes a GPU if there is one.
            calibrated: apply the calibration of the run's thresholds.json, if it has one; False: scores are the
                network's own, as whoever judges a detector or fits a calibration needs them.
            max_value: white of 16-bit images, 255 to 65535, where it isn't that of the training: 4095 for a camera of
                12 bits; None: as in training.

        Raises:
            CheckpointError: nothing there, or nothing that this library wrote.
            ConfigError: a white that none can be.
        """
        if max_value is not None and not MIN_MAX_VALUE <= max_value <= MAX_UINT16:
            found = f"white is {max_value}"
            raise ConfigError(found, where="max_value", fix=f"give {MIN_MAX_VALUE} to {MAX_UINT16}: 4095 for 12 bits")
        file = find_checkpoint(Path(path))
        predictor = cls(load_checkpoint(file), file, device=device or "auto", calibrated=calibrated)
        predictor.max_value = predictor.max_value if max_value is None else max_value
        return predictor

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """From the thresholds.json beside the weights; None where there is none, or one for other weights.

        ``predictor.thresholds.apply(predictor(image))`` is what ``detect infer`` shows.

        Raises:
            DataError: a thresholds.json that this version didn't write.
        """
        beside = thresholds_for_weights(self.weights_path)
        return beside if beside is not None and beside.match_weights(self.weights_path) else None

    def _calibrate(self, found: Detections) -> Detections:
        chosen = self.thresholds if self.calibrated else None
        return found if chosen is None else chosen.calibrated(found)

    def tiling_for(
        self, width: int, height: int, *, tile: int | None = None, overlap: int | None = None
    ) -> Tiling | None:
        """The tiles that an image of so many pixels is seen in; None where it is seen whole.

        Args:
            width, height: of the image in pixels.
            tile: side in pixels, of images larger than it; 0: none, whatever the size; None: what was trained on, if
                that is known, for images more than twice as wide or as high.
            overlap: of neighbouring tiles in pixels; None: a quarter of a tile.

        Raises:
            ConfigError: tiles below 32 pixels, or an overlap below 16 or above half of a tile.
        """
        return tiling_for(width, height, trained=self.side, tile=tile, overlap=overlap)

    def __call__(
        self,
        image: str | Path | Pixels,
        *,
        threshold: float = 0.0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Detections:
        """Detections with a score of at least ``threshold``, calibrated or not as the class says, best first.

        Args:
            image: a path, or uint8 / uint16 pixels, [height, width] gray or [height, width, 3] RGB.
            threshold: 0 to 1, of all categories; 0 gives all that the detector reports.
            tile, overlap: how large images are seen in tiles, as for ``tiling_for``.

        Raises:
            DataError: no readable image, an array of another kind, gray values beyond ``max_value``, or a damaged
                thresholds.json.
            ConfigError: tiles that can't be.
        """
        where = image if isinstance(image, (str, Path)) else None
        pixels = check_bit_depth(as_pixels(image) if where is None else read_image(Path(where)), self.max_value, where)
        channels = as_channels(self._seen(pixels), self._channels)
        size_wh = (int(channels.shape[1]), int(channels.shape[0]))
        tiling = self.tiling_for(*size_wh, tile=tile, overlap=overlap)
        if tiling is None:
            (found,) = detect_images(self._model, [channels], self.categories, max_value=self.max_value)
        else:
            found = self._detect_tiled([channels], size_wh, tiling)
        return self._calibrate(found).above(threshold)

    def predict_batch(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detections of several images, each as a call would give them; those of one size share a pass.

        Args:
            images: uint8 or uint16 pixels, [height, width] gray or [height, width, 3] RGB. The memory that they need
                grows with how many share a pass.

        Raises:
            DataError: an array of another kind, gray values beyond ``max_value``, or a damaged thresholds.json.
        """
        found: dict[int, Detections] = {}
        whole: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            if self.tiling_for(image.shape[1], image.shape[0]) is None:
                whole.setdefault((*image.shape[:2], image.dtype.itemsize), []).append(i)
            else:
                found[i] = self(image)
        for places in whole.values():
            pictures = [check_bit_depth(as_pixels(images[i]), self.max_value) for i in places]
            channels = [as_channels(self._seen(each), self._channels) for each in pictures]
            each = detect_images(self._model, channels, self.categories, max_value=self.max_value)
            found |= zip(places, map(self._calibrate, each))
        return [found[i] for i in range(len(images))]

    def strip(
        self,
        files: Sequence[str | Path] | StripFiles,
        *,
        threshold: float = 0.0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Detections:
        """Detections of a long strip that lies in several files, in pixels of the strip.

        Tiles lie on the strip as if it were one image, so they are the same wherever it is cut into files. One file
        and a row of tiles are in memory at a time.

        Args:
            files: in order, each beginning below the one before; all of one width and depth.
            threshold: as in a call.
            tile: side of a tile in pixels; None: what was trained on.
            overlap: of neighbouring tiles in pixels; None: a quarter of a tile.

        Raises:
            DataError: files that can't be read or don't belong together, or a damaged thresholds.json.
            ConfigError: tiles that can't be, or no word on their side.
        """
        strip = files if isinstance(files, StripFiles) else StripFiles.of([Path(each) for each in files])
        blocks = (self._seen(pixels) for pixels in strip.blocks(self._channels, self.max_value))
        tiling = self.strip_tiling(tile=tile, overlap=overlap)
        found = self._detect_tiled(blocks, (strip.width, strip.height), tiling)
        return self._calibrate(found).above(threshold)

    def strip_tiling(self, *, tile: int | None = None, overlap: int | None = None) -> Tiling:
        """The tiles that strips are seen in, whatever their size.

        Raises:
            ConfigError: as ``strip``.
        """
        return strip_tiling(trained=self.side, tile=tile, overlap=overlap)

    def tilings(self, dataset: Dataset, *, tile: int | None = None, overlap: int | None = None) -> dict[int, Tiling]:
        """Position of each image that ``detect_dataset`` sees in tiles -> these."""
        if needs_frame_order(self._model, dataset.images):
            return {}
        sizes_wh = [(image.width, image.height) for image in dataset.images]
        return tilings(sizes_wh, trained=self.side, tile=tile, overlap=overlap)

    def _detect_tiled(self, blocks: Iterable[Pixels], size_wh: tuple[int, int], tiling: Tiling) -> Detections:
        detect, nms_iou = tile_detector(self._model, self.categories, self.max_value), self._model.roi_heads.nms_thresh
        return detect_tiled(detect, blocks, size_wh, tiling, self.categories, nms_iou=nms_iou)

    def _seen(self, pixels: Pixels) -> Pixels:
        if pixels.dtype == np.uint16:
            self._record_brightest(int(pixels.max()))
        return pixels

    def detect_dataset(
        self,
        dataset: Dataset,
        *,
        progress: bool = False,
        key_frame_interval: int = 1,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> list[dict[str, object]]:
        """COCO results over a labelled data set: image_id is the position + 1, categories are matched by name.

        A detector with memory sees the frames of strips in the order of time. Scores are calibrated or not as the
        class says; nothing is cut.

        Args:
            dataset: images and the categories to match.
            progress: show a bar on terminals.
            key_frame_interval: each how many frames a key frame is seen by the full network, as in ``stream``.
            tile, overlap: how large images are seen in tiles, as for ``tiling_for``.

        Raises:
            DataError: the detector knows a category that the data set lacks, or a damaged thresholds.json.
            ConfigError: tiles that can't be, or tiles of frames that are seen in the order of time.
        """
        ids = dataset.category_ids()
        unknown = [name for name in self.categories if name not in ids]
        if unknown:
            differ = f"the detector finds {', '.join(unknown)}, the data set has {', '.join(dataset.categories)}"
            raise DataError(differ, where=self.weights_path, fix="judge it on data with the categories of its training")
        images = DetectionDataset(dataset, channels=self._channels, cache=False, max_value=self.max_value)
        each = detect_labelled(
            self._model,
            images,
            self.categories,
            trained=self.side,
            tile=tile,
            overlap=overlap,
            key_frame_interval=key_frame_interval,
        )
        found = collect_in_order(each, len(images), progress=progress)
        self._record_brightest(images.brightest)
        return coco_results([self._calibrate(each) for each in found], ids)

    def _record_brightest(self, brightest: int | None) -> None:
        if brightest is not None:
            self.brightest = max(self.brightest or 0, brightest)

    def stream(self, *, key_frame_interval: int = 1, non_key_frames: NonKeyFrameMode | None = None) -> Stream:
        """A camera over moving strips, whose frames are given one by one; see ``detect.streaming.Stream``.

        Scores are calibrated or not as the class says; nothing is cut.

        Args:
            key_frame_interval: each how many frames a key frame is seen, all of it, by the full network.
            non_key_frames: what happens in the others. "new_region": the full network runs on the surface that has come
                in; "light": the light network runs on the whole frame. None: "light" where the detector has one.

        Raises:
            DataError: ``key_frame_interval`` is below 1, or a damaged thresholds.json.
            ConfigError: a light network is asked for, and there is none.
        """
        if key_frame_interval < 1:
            raise DataError(
                f"a key frame every {key_frame_interval} frames was asked for",
                where="key_frame_interval",
                fix="give 1 or more",
            )
        chosen = self.thresholds if self.calibrated else None
        return Stream(
            self._model,
            self.categories,
            key_frame_interval=key_frame_interval,
            non_key_frames=non_key_frames,
            channels=self._channels,
            max_value=self.max_value,
            calibrate=None if chosen is None else chosen.calibrated,
        )
