"""The data of a training run: read, check and cache it; build the training loader and the validator."""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN

from ..config.schema import Config, DataConfig
from ..data.clips import ClipLoader
from ..data.dataset import DetectionDataset, read_dataset
from ..data.loader import SeededLoader, TrainingLoader, explain_out_of_memory
from ..data.transforms import Augment, RandomWindows
from ..datasets import coco
from ..datasets.audit import SHORT, check_boxes
from ..datasets.convert import audit_sources
from ..errors import ConfigError, DataError
from ..evaluation.summary import average_precision
from ..fileio import free_bytes
from ..inference.detection import coco_results
from ..inference.predictor import detect_labelled
from ..models.distributed import World
from ..structures import Dataset, Detections, Image

_MEMORY_SHARE = 0.5  # share of the free memory used for images if the configuration gives no limit
_GB = 1e9


def cache_budget(cache_gb: float | None, processes: int) -> float | None:
    """Return the memory for the images of one process, bytes; None if the free memory is unknown.

    Args:
        cache_gb: limit for all processes, GB; None: half of the free memory.
        processes: number of processes that keep images.
    """
    if cache_gb is not None:
        return cache_gb * _GB / processes
    free = free_bytes()
    return None if free is None else _MEMORY_SHARE * free / processes


def fill_caches(
    datasets: Sequence[DetectionDataset],
    max_bytes: float | None,
    *,
    say: Callable[[str], None],
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Read all images once and keep as many as fit into memory.

    Args:
        datasets: each with its own cache; earlier ones have priority.
        max_bytes: bytes for all; 0: keep none, None: no limit.
        say: called with a line before reading, and with one per data set if not all of its images are kept.
        shard: (rank, size) of this process among those that read the first of ``datasets``.
    """
    needed = sum(each.decoded_bytes() for each in datasets)
    if max_bytes == 0:
        say(f"decoded images take {_format_bytes(needed)}; they are read again for each use (data.cache)")
    elif max_bytes is None or needed <= max_bytes:
        limit = "" if max_bytes is None else f", the limit is {_format_bytes(max_bytes)}"
        say(f"decoded images take {_format_bytes(needed)} of memory{limit}")
    else:
        limit = _format_bytes(max_bytes)
        say(f"decoded images take {_format_bytes(needed)}, more than the limit of {limit} (data.cache_gb)")
    use_cache = max_bytes != 0
    for number, each in enumerate(datasets):
        kept = each.preload(max_bytes, shard=shard if number == 0 else (0, 1))
        max_bytes = None if max_bytes is None else max_bytes - each.cached_bytes
        if use_cache and kept < len(each):
            say(f"{kept:,} of {len(each):,} images are kept in memory, the others are read again for each use")


def _format_bytes(size: float) -> str:
    return f"{size / _GB:.2f} GB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


_MAX_AUDITED_IMAGES = 20_000  # the search for duplicates among more images would delay each start by minutes


def check_labels(dataset: Dataset, path: Path) -> None:
    """Check that no box is outside its image, empty or inverted.

    Raises:
        DataError: names the first error and the number of errors.
    """
    errors = [
        finding
        for image in dataset.images
        if image.boxes
        for _, finding in check_boxes(image, path, None)
        if finding.severity == "error"
    ]
    if errors:
        number = f"{len(errors):,} error{'s' if len(errors) > 1 else ''}"
        message = f"{number} in the labels, the first is: {errors[0].message}"
        raise DataError(message, where=path, fix=f"'{_audit_command(path)}' lists all of them")


def audit_warnings(train: Path, val: Path | None, images: int, *, offset_known: bool = False) -> list[str]:
    """Return the warnings of an audit, counted by kind, in at most two lines; an empty list without warnings.

    Args:
        train, val: COCO JSON files, compared with each other.
        images: number of images in both.
        offset_known: the configuration corrects a label offset, so that warnings about it are left out.
    """
    others: list[str | Path] = [] if val is None else ["--against", val]
    command = _audit_command(train, *others)
    if images > _MAX_AUDITED_IMAGES:
        return [f"{images:,} images are too many to compare at every start: '{command}' finds duplicates and more"]
    report = audit_sources([train], source="coco", against=[] if val is None else [val])
    kinds = Counter(finding.kind for finding in report.findings if finding.severity == "warning")
    if offset_known:
        del kinds[SHORT]
    if not kinds:
        return []
    lines = [
        f"check this: {kinds.total():,} warnings in the data ({_format_counts(kinds.most_common())}); see '{command}'"
    ]
    leaks = kinds["duplicate across parts"]
    if leaks:
        scenes = "1 scene is" if leaks == 1 else f"{leaks:,} scenes are"
        lines.append(f"check this: {scenes} in both training and validation data: scores will be too high")
    return lines


def _audit_command(*arguments: str | Path) -> str:
    return shlex.join(["detect", "audit", *map(str, arguments)])


def _format_counts(kinds: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{kind}: {number:,}" for kind, number in kinds)


class Validator:
    """Computes COCO average precision on one data set.

    Args:
        dataset: records with the categories of the training data.
        channels: of the detector.
        cache: keep decoded images in memory.
        max_value: gray value of white in 16-bit images; None: 65535.
        world: the processes that share the validation.

    Attributes:
        images: those of this process.
        total: number of images of all processes.
    """

    def __init__(
        self, dataset: Dataset, *, channels: int, cache: bool, max_value: int | None = None, world: World
    ) -> None:
        self.world, self.total = world, len(dataset.images)
        self._truth = coco.to_dict(dataset, Path())
        self._ids = dataset.category_ids()
        self._positions = split_by_process(dataset.images, world.size)[world.rank]
        own = [dataset.images[i] for i in self._positions]
        if any(image.frame is None for image in dataset.images):  # then no image is processed as a frame of a strip
            own = [replace(image, frame=None) for image in own]
        self.images = DetectionDataset(
            replace(dataset, images=tuple(own)), channels=channels, cache=cache, max_value=max_value
        )

    def __call__(self, model: FasterRCNN, *, side: int | None = None) -> dict[str, Any]:
        """Return AP, AP50, AP75 and AP50 per class, 0 to 1, on every process; restores the model's mode.

        Args:
            model: in training or evaluation mode.
            side: side in pixels of the training images; much larger images are processed in tiles, as by
                ``detect infer``.
        """
        training = model.training
        model.eval()
        results = detect_labelled(model, self.images, self.images.categories, trained=side)
        own = {self._positions[i]: detections for i, detections in results}
        model.train(training)
        by_position: dict[int, Detections] = {}
        for share in self.world.all_gather(own):
            by_position |= share
        metrics: dict[str, Any] | None = None
        if self.world.is_main_process:
            detections_per_image = [by_position[i] for i in range(self.total)]
            metrics = average_precision(self._truth, coco_results(detections_per_image, self._ids))
        broadcast: dict[str, Any] = self.world.broadcast(metrics)
        return broadcast


def split_by_process(images: Sequence[Image], size: int) -> list[list[int]]:
    """Split image positions over ``size`` processes: every image once, strips undivided, as evenly as possible."""
    groups: dict[object, list[int]] = defaultdict(list)
    all_frames = all(image.frame is not None for image in images)
    for i, image in enumerate(images):
        groups[image.frame.strip if all_frames and image.frame is not None else i].append(i)
    shares: list[list[int]] = [[] for _ in range(size)]
    for positions in sorted(groups.values(), key=len, reverse=True):
        min(shares, key=len).extend(positions)
    return [sorted(positions) for positions in shares]


def read_data(
    data: DataConfig, *, world: World, say: Callable[[str], None]
) -> tuple[DetectionDataset, Validator | None]:
    """Read the training images and, if there are validation images, build the validator.

    Args:
        data: files, channels and cache settings.
        world: the processes that share the training, each with its own images in memory.
        say: called with a line on the memory use of the images before they are read.

    Raises:
        DataError: labels or images can't be used. Every image is read once at the start, so that none fails during an
            epoch; an image that isn't kept in memory is read by one process of the group.
        OutOfMemoryError: the images don't fit into memory.
    """
    records = read_dataset(data.train, role="data.train", only=data.train_images)
    check_labels(records, data.train)
    if not data.allow_empty and not any(image.boxes for image in records.images):
        message = f"none of the {len(records.images):,} images of data.train has a box, so there is nothing to learn"
        fix = "check that the conversion found the labels, or set data.allow_empty=true"
        raise DataError(message, where=data.train, fix=fix)
    images = DetectionDataset(records, channels=data.channels, cache=data.cache, max_value=data.max_value)
    validator = None
    if data.val is not None:
        held_out = read_dataset(data.val, role="data.val", categories=records.categories)
        check_labels(held_out, data.val)
        validator = Validator(held_out, channels=data.channels, cache=data.cache, max_value=data.max_value, world=world)
    datasets = [images, *([validator.images] if validator else [])]
    max_bytes = cache_budget(data.cache_gb, world.size) if data.cache else 0.0
    with explain_out_of_memory("reading the images", "set data.cache=false, which reads them again in every epoch"):
        fill_caches(datasets, max_bytes, say=say, shard=(world.rank, world.size))
    images.brightest = max((each for each in world.all_gather(images.brightest) if each is not None), default=None)
    return images, validator


def check_batch_config(config: Config, world: World) -> None:
    """Check that the settings of memory, clips, windows, batch size and processes fit together.

    Raises:
        ConfigError: a detector with memory trains on single images, a batch can't hold complete clips or equal shares
            per process, or windows are combined with clips or with ``model.input_size``.
    """
    length, batch_size = config.clips.length, config.train.batch_size
    if config.model.memory is not None and length == 1:
        message = "memory is trained on clips of frames, and clips have a single frame"
        raise ConfigError(message, where="clips.length", fix="set it to 4 or so, or leave model.memory out")
    if batch_size % length:
        message = f"batches of {batch_size} images can't hold whole clips of {length} frames"
        raise ConfigError(message, where="train.batch_size", fix=f"make it a multiple of {length}")
    if config.data.window is not None and length > 1:
        message = "clips need whole frames and can't be combined with windows of images"
        raise ConfigError(message, where="data.window", fix="leave it out, or set clips.length=1")
    if config.data.window is not None and config.model.input_size is not None:
        message = "windows and whole images would be resized by different factors"
        raise ConfigError(message, where="model.input_size", fix="leave it out where data.window is set")
    world.check_batch_size(batch_size // length)


def training_loader(config: Config, dataset: DetectionDataset, *, device: torch.device, world: World) -> SeededLoader:
    """Build the loader of this process's share of the training batches.

    Args:
        config: the sections data, clips, augment and train are used.
        dataset: the training images.
        device: destination of the batches.
        world: the processes that share each batch.

    Raises:
        DataError: clips are requested and the images are not frames of strips, or there are fewer images or clips than
            processes.
        ConfigError: mosaic or transpose is requested for clips; transpose for images that are not square, or for
            classes that the data lacks.
    """
    spare = min(8, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
    workers = spare if config.data.workers == "auto" else config.data.workers
    seed, shard, pin = config.train.seed, (world.rank, world.size), device.type == "cuda"
    clips, augment = config.clips, _augment(config, dataset)
    items_per_batch = config.train.batch_size // clips.length  # clips, or images
    if clips.length > 1:
        return ClipLoader(
            dataset,
            length=clips.length,
            pan=clips.pan,
            degraded=clips.degraded,
            augment=augment,
            batch_size=items_per_batch,
            seed=seed,
            shard=shard,
            workers=workers,
            pin=pin,
        )
    images: DetectionDataset | RandomWindows = dataset
    if config.data.window is not None:  # the windows apply the crops, and keep defects complete
        images = RandomWindows(dataset, config.data.window, crop=config.augment.crop, crop_min=config.augment.crop_min)
        augment = replace(augment, crop=0.0)
    return TrainingLoader(
        images,
        augment=augment,
        plain=replace(augment, mosaic=0.0),
        plain_from=config.train.epochs - config.augment.mosaic_off_epochs + 1,
        batch_size=items_per_batch,
        seed=seed,
        shard=shard,
        workers=workers,
        pin=pin,
    )


def memory_hint(config: Config) -> str:
    """Name the settings that decide the memory use of a training step, with their values, in the order of effect."""
    model = config.model
    size = "image size" if model.input_size is None else str(model.input_size)
    return (
        f"lower train.batch_size (it is {config.train.batch_size}), model.input_size ({size}), "
        f"model.roi.batch_per_image ({model.roi.batch_per_image}) or model.rpn.proposals_train "
        f"({model.rpn.proposals_train}), and start again"
    )


def _augment(config: Config, dataset: DetectionDataset) -> Augment:
    labels = _transpose_labels(config, dataset) if config.augment.transpose else None
    return Augment(
        **config.augment.model_dump(exclude={"mosaic_off_epochs", "transpose_classes"}), transpose_labels=labels
    )


def _transpose_labels(config: Config, dataset: DetectionDataset) -> frozenset[int] | None:
    """Check that transpose is possible; returns the ids of the classes that may be transposed, None for all."""
    names = config.augment.transpose_classes
    unknown = [name for name in names if name not in dataset.categories]
    if unknown:
        message = f"the data has no class {unknown[0]!r}"
        fix = f"choose from {', '.join(dataset.categories)}"
        raise ConfigError(message, where="augment.transpose_classes", fix=fix)
    if config.clips.length > 1:
        message = "a strip moves in one direction, so its frames can't be transposed"
        raise ConfigError(message, where="augment.transpose", fix="set it to 0")
    sizes_wh = dataset.images.sizes_wh
    if config.data.window is not None:
        sizes_wh = np.minimum(sizes_wh, config.data.window)
    oblong = np.flatnonzero(sizes_wh[:, 0] != sizes_wh[:, 1])
    if len(oblong):
        width, height = dataset.images.sizes_wh[oblong[0]].tolist()
        message = (
            f"only square images can be transposed, and {dataset.path(int(oblong[0]))} has {width} x {height} pixels"
        )
        raise ConfigError(
            message, where="augment.transpose", fix="set it to 0, or train on a smaller, square data.window"
        )
    return frozenset(dataset.categories.index(name) + 1 for name in names) or None
