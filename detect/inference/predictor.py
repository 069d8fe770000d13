"""``Predictor``: loads a trained detector and returns detections for an image, a strip, a stream or a data set."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain
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
from .tiling import StripFiles, Tiling, detect_tiled, strip_tiling, tiling_for


def _detect_in_tiles(
    model: FasterRCNN,
    blocks: Iterable[Pixels],
    size_wh: tuple[int, int],
    tiling: Tiling,
    categories: tuple[str, ...],
    max_value: int | None,
) -> Detections:
    detect = partial(detect_images, model, categories=categories, max_value=max_value)
    return detect_tiled(detect, blocks, size_wh, tiling, categories, nms_iou=model.roi_heads.nms_thresh)


def tilings(
    sizes_wh: Iterable[Sequence[int]], *, trained: int | None, tile: int | None = None, overlap: int | None = None
) -> dict[int, Tiling]:
    """Map the position of each image that is processed in tiles to its tiling.

    Args:
        sizes_wh: width and height of each image, pixels.
        trained, tile, overlap: as for ``tiling_for``.

    Raises:
        ConfigError: the tile side or the overlap is out of range.
    """
    tiling_of_image = (tiling_for(*wh, trained=trained, tile=tile, overlap=overlap) for wh in sizes_wh)
    return {position: tiling for position, tiling in enumerate(tiling_of_image) if tiling is not None}


def needs_frame_order(model: FasterRCNN, images: Iterable[Image], key_frame_interval: int = 1) -> bool:
    """Return whether the detector must process these images as frames in time order, each frame without tiles."""
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
    """Yield position and detections of each image of a data set, in any order, with uncalibrated scores.

    Args:
        model: in evaluation mode.
        dataset: supplies pixels; its labels are not used.
        categories: the model's category names.
        trained, tile, overlap: which images are processed in tiles, as for ``tiling_for``.
        key_frame_interval: frames from one key frame to the next, as for ``detect_in_frame_order``.

    Raises:
        ConfigError: the tile side or the overlap is out of range, or tiles are requested for frames in time order.
    """
    if needs_frame_order(model, dataset.images, key_frame_interval):
        if tile:
            message = "frames that are processed in time order can't be split into tiles"
            raise ConfigError(message, where="tile", fix="leave it out")
        yield from detect_in_frame_order(model, dataset, categories, key_frame_interval=key_frame_interval)
        return
    tiled = tilings(dataset.images.sizes_wh.tolist(), trained=trained, tile=tile, overlap=overlap)
    untiled = [position for position in range(len(dataset)) if position not in tiled]
    batches = detect_dataset(model, dataset, categories, positions=untiled)
    yield from zip(untiled, chain.from_iterable(batches))
    for position, tiling in tiled.items():
        pixels = dataset.pixels(position)
        size_wh = (int(pixels.shape[1]), int(pixels.shape[0]))
        yield position, _detect_in_tiles(model, [pixels], size_wh, tiling, categories, dataset.max_value)


def collect_in_order(results: Iterable[tuple[int, Detections]], total: int, *, progress: bool) -> list[Detections]:
    """Collect the detections of ``total`` images by position; ``progress`` shows a bar if stderr is a terminal."""
    by_position: dict[int, Detections] = {}
    hidden = not (progress and sys.stderr.isatty())
    with Progress(transient=True, disable=hidden, console=Console(stderr=True)) as bar:
        task = bar.add_task("detecting", total=total)
        for position, detections in results:
            by_position[position] = detections
            bar.advance(task)
    return [by_position[position] for position in range(total)]


class Predictor:
    """A detector ready for inference; create it with ``Predictor.load``.

    If ``thresholds`` contain a calibration, a call, ``predict_batch``, ``strip``, ``stream`` and ``detect_dataset``
    return calibrated scores. With ``calibrated=False`` all of them return uncalibrated scores.

    Attributes:
        categories: names of the categories that it detects.
        weights_path: the file that it was loaded from.
        epoch: the training epoch of its weights.
        max_value: gray value of white in 16-bit images, as in training unless ``load`` got another one; None: trained
            on 8 bits, 16-bit images use 65535.
        trained_max_value: ``max_value`` of the training.
        side: side in pixels of the training images, which is the default tile side; None: the checkpoint has no such
            entry.
        thresholds: chosen by ``detect evaluate --costs`` for these weights.
        calibrated: whether the calibration of ``thresholds`` is applied.
        brightest: the largest gray value of all 16-bit images so far; None before the first one.
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
        """Whether the detections of a frame depend on earlier frames."""
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
            path: folder or file; ``released`` for the model that comes with the library.
            device: "cpu", "cuda", ...; None: a GPU if there is one.
            calibrated: apply the calibration in the run's thresholds.json, if it has one; False: return uncalibrated
                scores, which evaluation and the fit of a calibration need.
            max_value: gray value of white in 16-bit images, 255 to 65535, if it differs from training: 4095 for a
                12-bit camera; None: as in training.

        Raises:
            CheckpointError: the path has no checkpoint, or one that this library didn't write.
            ConfigError: ``max_value`` is out of range.
        """
        if max_value is not None and not MIN_MAX_VALUE <= max_value <= MAX_UINT16:
            message = f"white is {max_value}"
            raise ConfigError(message, where="max_value", fix=f"give {MIN_MAX_VALUE} to {MAX_UINT16}: 4095 for 12 bits")
        file = find_checkpoint(Path(path))
        predictor = cls(load_checkpoint(file), file, device=device or "auto", calibrated=calibrated)
        predictor.max_value = predictor.max_value if max_value is None else max_value
        return predictor

    @cached_property
    def thresholds(self) -> Thresholds | None:
        """From thresholds.json in the folder of the weights; None if the file is missing or made for other weights.

        ``predictor.thresholds.apply(predictor(image))`` is what ``detect infer`` shows.

        Raises:
            DataError: thresholds.json was not written by this version.
        """
        thresholds = thresholds_for_weights(self.weights_path)
        return thresholds if thresholds is not None and thresholds.match_weights(self.weights_path) else None

    def _calibrate(self, detections: Detections) -> Detections:
        thresholds = self.thresholds if self.calibrated else None
        return detections if thresholds is None else thresholds.calibrated(detections)

    def tiling_for(
        self, width: int, height: int, *, tile: int | None = None, overlap: int | None = None
    ) -> Tiling | None:
        """Return the tiles for an image of this size; None if it is processed without tiles.

        Args:
            width, height: of the image, pixels.
            tile: tile side in pixels, used for images larger than it; 0: no tiles for any size; None: the side of the
                training images, if known, for images more than twice as wide or as high.
            overlap: of neighbouring tiles in pixels; None: a quarter of the tile side.

        Raises:
            ConfigError: the tile side is below 32 pixels, or the overlap is below 16 pixels or above half of the side.
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
        """Return detections with a score of at least ``threshold``, best first; see the class for their calibration.

        Args:
            image: a path, or uint8 / uint16 pixels, [height, width] gray or [height, width, 3] RGB.
            threshold: 0 to 1, for all categories; 0 returns all detections.
            tile, overlap: tiles for large images, as for ``tiling_for``.

        Raises:
            DataError: the image can't be read, the array has another shape or dtype, a gray value exceeds
                ``max_value``, or thresholds.json is damaged.
            ConfigError: the tile side or the overlap is out of range.
        """
        where = image if isinstance(image, (str, Path)) else None
        pixels = check_bit_depth(as_pixels(image) if where is None else read_image(Path(where)), self.max_value, where)
        channels = as_channels(self._track_brightest(pixels), self._channels)
        size_wh = (int(channels.shape[1]), int(channels.shape[0]))
        tiling = self.tiling_for(*size_wh, tile=tile, overlap=overlap)
        if tiling is None:
            (detections,) = detect_images(self._model, [channels], self.categories, max_value=self.max_value)
        else:
            detections = self._detect_in_tiles([channels], size_wh, tiling)
        return self._calibrate(detections).above(threshold)

    def predict_batch(self, images: Sequence[Pixels]) -> list[Detections]:
        """Return the detections of several images, as a call returns them; images of one size share a forward pass.

        Args:
            images: uint8 or uint16 pixels, [height, width] gray or [height, width, 3] RGB. Memory use grows with the
                number of images that share a forward pass.

        Raises:
            DataError: an array has another shape or dtype, a gray value exceeds ``max_value``, or thresholds.json is
                damaged.
        """
        detections: dict[int, Detections] = {}
        positions_by_size: dict[tuple[int, ...], list[int]] = {}
        arrays = [as_pixels(image) for image in images]
        for i, image in enumerate(arrays):
            if self.tiling_for(image.shape[1], image.shape[0]) is None:
                positions_by_size.setdefault((*image.shape[:2], image.dtype.itemsize), []).append(i)
            else:
                detections[i] = self(image)
        for positions in positions_by_size.values():
            batch = [check_bit_depth(arrays[i], self.max_value) for i in positions]
            channels = [as_channels(self._track_brightest(pixels), self._channels) for pixels in batch]
            outputs = detect_images(self._model, channels, self.categories, max_value=self.max_value)
            detections |= zip(positions, map(self._calibrate, outputs))
        return [detections[i] for i in range(len(arrays))]

    def strip(
        self,
        files: Sequence[str | Path] | StripFiles,
        *,
        threshold: float = 0.0,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Detections:
        """Return the detections of a long strip stored in several files, in pixels of the strip.

        The tile grid covers the strip as one image, so it doesn't depend on where the strip is cut into files. One
        file and one row of tiles are in memory at a time.

        Args:
            files: in order from the top of the strip; all with the same width and bit depth.
            threshold: as in a call.
            tile: tile side in pixels; None: the side of the training images.
            overlap: of neighbouring tiles in pixels; None: a quarter of the tile side.

        Raises:
            DataError: a file can't be read, differs from the first one in width or bit depth, or thresholds.json is
                damaged.
            ConfigError: the tile side or the overlap is out of range, or no tile side is known.
        """
        strip = files if isinstance(files, StripFiles) else StripFiles.of([Path(each) for each in files])
        blocks = (self._track_brightest(pixels) for pixels in strip.blocks(self._channels, self.max_value))
        tiling = self.strip_tiling(tile=tile, overlap=overlap)
        detections = self._detect_in_tiles(blocks, (strip.width, strip.height), tiling)
        return self._calibrate(detections).above(threshold)

    def strip_tiling(self, *, tile: int | None = None, overlap: int | None = None) -> Tiling:
        """Return the tiling for strips of any size.

        Raises:
            ConfigError: as ``strip``.
        """
        return strip_tiling(trained=self.side, tile=tile, overlap=overlap)

    def tilings(self, dataset: Dataset, *, tile: int | None = None, overlap: int | None = None) -> dict[int, Tiling]:
        """Map the position of each image that ``detect_dataset`` processes in tiles to its tiling."""
        if needs_frame_order(self._model, dataset.images):
            return {}
        sizes_wh = [(image.width, image.height) for image in dataset.images]
        return tilings(sizes_wh, trained=self.side, tile=tile, overlap=overlap)

    def _detect_in_tiles(self, blocks: Iterable[Pixels], size_wh: tuple[int, int], tiling: Tiling) -> Detections:
        return _detect_in_tiles(self._model, blocks, size_wh, tiling, self.categories, self.max_value)

    def _track_brightest(self, pixels: Pixels) -> Pixels:
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
        """Return COCO results for a labelled data set: image_id is the position + 1, categories are matched by name.

        A detector with memory processes the frames of strips in time order. See the class for the calibration of
        scores; no score threshold is applied.

        Args:
            dataset: images and the categories to match.
            progress: show a progress bar on terminals.
            key_frame_interval: frames from one key frame to the next, as in ``stream``.
            tile, overlap: tiles for large images, as for ``tiling_for``.

        Raises:
            DataError: the data set lacks a category of the detector, or thresholds.json is damaged.
            ConfigError: the tile side or the overlap is out of range, or tiles are requested for frames in time order.
        """
        ids = dataset.category_ids()
        unknown = [name for name in self.categories if name not in ids]
        if unknown:
            message = f"the detector finds {', '.join(unknown)}, the data set has {', '.join(dataset.categories)}"
            fix = "evaluate it on data with the categories of its training"
            raise DataError(message, where=self.weights_path, fix=fix)
        images = DetectionDataset(dataset, channels=self._channels, cache=False, max_value=self.max_value)
        results = detect_labelled(
            self._model,
            images,
            self.categories,
            trained=self.side,
            tile=tile,
            overlap=overlap,
            key_frame_interval=key_frame_interval,
        )
        detections = collect_in_order(results, len(images), progress=progress)
        self._record_brightest(images.brightest)
        return coco_results([self._calibrate(each) for each in detections], ids)

    def _record_brightest(self, brightest: int | None) -> None:
        if brightest is not None:
            self.brightest = max(self.brightest or 0, brightest)

    def stream(self, *, key_frame_interval: int = 1, non_key_frames: NonKeyFrameMode | None = None) -> Stream:
        """Return a ``detect.inference.stream.Stream``, which takes the frames of a camera over moving strips.

        See the class for the calibration of scores; no score threshold is applied.

        Args:
            key_frame_interval: frames from one key frame to the next; the full network runs on all of a key frame.
            non_key_frames: how the other frames are processed. "new_region": the full network runs on the surface that
                has newly come into view; "light": the light network runs on the whole frame. None: "light" if the
                detector has a light network, else "new_region".

        Raises:
            DataError: ``key_frame_interval`` is below 1, or thresholds.json is damaged.
            ConfigError: "light" is requested and the detector has no light network.
        """
        if key_frame_interval < 1:
            message = f"the interval is {key_frame_interval} frames"
            raise DataError(message, where="key_frame_interval", fix="give 1 or more")
        thresholds = self.thresholds if self.calibrated else None
        return Stream(
            self._model,
            self.categories,
            key_frame_interval=key_frame_interval,
            non_key_frames=non_key_frames,
            channels=self._channels,
            max_value=self.max_value,
            calibrate=None if thresholds is None else thresholds.calibrated,
        )
