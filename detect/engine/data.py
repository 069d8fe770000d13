"""The data of a run: read, checked and cached before anything is built, then drawn in batches."""

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
from ..structures import Dataset, Image

_MEMORY_SHARE = 0.5  # of the free memory, where the configuration gives no limit
_GB = 1e9


def cache_budget(cache_gb: float | None, processes: int) -> float | None:
    """Bytes for the images of one process; None where nobody knows how much is free.

    Args:
        cache_gb: the limit for all processes; None: half of what is free.
        processes: that keep images each.
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
    """Read all images once and keep those that there is room for.

    Args:
        datasets: each with its own cache; the first ones are kept first.
        max_bytes: bytes for all; 0: none is kept, None: no limit.
        say: gets a line before anything is read, and one if not all are kept.
        shard: (rank, size) of this process among those that read the first of ``datasets``.
    """
    needed = sum(each.decoded_bytes() for each in datasets)
    if max_bytes == 0:
        say(f"decoded images take {_format_bytes(needed)}; they are read anew each time (data.cache)")
    elif max_bytes is None or needed <= max_bytes:
        limit = "" if max_bytes is None else f", of {_format_bytes(max_bytes)} for them"
        say(f"decoded images take {_format_bytes(needed)} of memory{limit}")
    else:
        limit = _format_bytes(max_bytes)
        say(f"decoded images take {_format_bytes(needed)}, more than the {limit} for them (data.cache_gb)")
    wanted = max_bytes != 0
    for number, each in enumerate(datasets):
        kept = each.preload(max_bytes, shard=shard if number == 0 else (0, 1))
        max_bytes = None if max_bytes is None else max_bytes - each.kept_bytes
        if wanted and kept < len(each):
            say(f"{kept:,} of {len(each):,} images are kept in memory, the others are read anew each time")


def _format_bytes(size: float) -> str:
    return f"{size / _GB:.2f} GB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


_MAX_AUDITED_IMAGES = 20_000  # images; looking for copies among more takes minutes, and so each start would


def check_labels(dataset: Dataset, path: Path) -> None:
    """Refuse labels that nothing right can be learned from: boxes outside their image, empty or inverted ones.

    Raises:
        DataError: the first of them, and how many there are.
    """
    wrong = [
        finding
        for image in dataset.images
        if image.boxes
        for _, finding in check_boxes(image, path, None)
        if finding.severity == "error"
    ]
    if wrong:
        message = f"{len(wrong):,} error{'s' if len(wrong) > 1 else ''} in the labels, the first is: {wrong[0].message}"
        raise DataError(message, where=path, fix=f"'{_audit_command(path)}' lists all of them")


def audit_warnings(train: Path, val: Path | None, images: int, *, offset_known: bool = False) -> list[str]:
    """What an audit warns of, counted by kind, in at most two lines; none where it has nothing to say.

    Args:
        train, val: COCO JSON files, held against each other.
        images: of both.
        offset_known: the training knows that labels lie beside what they mark, so that needs no word.
    """
    others: list[str | Path] = [] if val is None else ["--against", val]
    again = _audit_command(train, *others)
    if images > _MAX_AUDITED_IMAGES:
        return [f"{images:,} images are too many to compare at every start: '{again}' looks for copies and more"]
    report = audit_sources([train], source="coco", against=[] if val is None else [val])
    kinds = Counter(finding.kind for finding in report.findings if finding.severity == "warning")
    if offset_known:
        del kinds[SHORT]
    if not kinds:
        return []
    lines = [
        f"check this: {kinds.total():,} warnings in the data ({_format_counts(kinds.most_common())}); see '{again}'"
    ]
    leaks = kinds["duplicate across parts"]
    if leaks:
        scenes = "1 scene stands" if leaks == 1 else f"{leaks:,} scenes stand"
        lines.append(f"check this: {scenes} in training and validation: scores will look better than they are")
    return lines


def _audit_command(*arguments: str | Path) -> str:
    return shlex.join(["detect", "audit", *map(str, arguments)])


def _format_counts(kinds: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{kind}: {number:,}" for kind, number in kinds)


class Validator:
    """COCO average precision over one data set.

    Args:
        dataset: records with the categories of the training.
        channels: of the detector.
        cache: keep decoded images in memory.
        max_value: white of 16-bit images; None: 65535.
        world: the processes that judge together.

    Attributes:
        images: those that this process looks at.
        total: how many images all of them look at.
    """

    def __init__(
        self, dataset: Dataset, *, channels: int, cache: bool, max_value: int | None = None, world: World
    ) -> None:
        self.world, self.total = world, len(dataset.images)
        self._truth = coco.to_dict(dataset, Path())
        self._ids = dataset.category_ids()
        self._positions = split_by_process(dataset.images, world.size)[world.rank]
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
        found = {position: each for shares in self.world.all_gather(own) for position, each in shares.items()}
        judged: dict[str, Any] = self.world.broadcast(
            average_precision(self._truth, coco_results([found[i] for i in range(self.total)], self._ids))
            if self.world.is_main_process
            else None
        )
        return judged


def split_by_process(images: Sequence[Image], size: int) -> list[list[int]]:
    """Positions that each of ``size`` processes judges: every image once, strips whole, as evenly as may be."""
    together: dict[object, list[int]] = defaultdict(list)
    in_time = all(image.frame is not None for image in images)
    for i, image in enumerate(images):
        together[image.frame.strip if in_time and image.frame is not None else i].append(i)
    dealt: list[list[int]] = [[] for _ in range(size)]
    for positions in sorted(together.values(), key=len, reverse=True):
        min(dealt, key=len).extend(positions)
    return [sorted(positions) for positions in dealt]


def read_data(
    data: DataConfig, *, world: World, say: Callable[[str], None]
) -> tuple[DetectionDataset, Validator | None]:
    """The training images and, if there are any to judge on, what judges.

    Args:
        data: its files, channels and cache.
        world: the processes that share the training, each with its own images in memory.
        say: gets a line on what the images take in memory, before they are read.

    Raises:
        DataError: labels or images that can't be used; every image is read once, so that none fails in mid-epoch;
            one that isn't kept in memory by one process of the group.
        OutOfMemoryError: the images don't fit.
    """
    records = read_dataset(data.train, role="data.train", only=data.train_images)
    check_labels(records, data.train)
    if not data.allow_empty and not any(image.boxes for image in records.images):
        message = f"none of the {len(records.images):,} images of data.train has a box, so there is no object to learn"
        fix = "check that the labels were found when they were converted, or set data.allow_empty=true"
        raise DataError(message, where=data.train, fix=fix)
    images = DetectionDataset(records, channels=data.channels, cache=data.cache, max_value=data.max_value)
    validator = None
    if data.val is not None:
        held_out = read_dataset(data.val, role="data.val", categories=records.categories)
        check_labels(held_out, data.val)
        validator = Validator(held_out, channels=data.channels, cache=data.cache, max_value=data.max_value, world=world)
    room = cache_budget(data.cache_gb, world.size) if data.cache else 0.0
    with explain_out_of_memory("reading the images", "set data.cache=false, which reads them anew in every epoch"):
        fill_caches([images, *([validator.images] if validator else [])], room, say=say, shard=(world.rank, world.size))
    images.brightest = max((each for each in world.all_gather(images.brightest) if each is not None), default=None)
    return images, validator


def check_batch_config(config: Config, world: World) -> None:
    """Refuse a memory that has nothing to learn from, batches of broken clips or uneven shares, windows of clips.

    Raises:
        ConfigError: any of these.
    """
    length, batch_size = config.clips.length, config.train.batch_size
    if config.model.memory is not None and length == 1:
        message = "memory learns from clips of frames, and single images are asked for"
        raise ConfigError(message, where="clips.length", fix="set it to 4 or so, or leave model.memory out")
    if batch_size % length:
        message = f"batches of {batch_size} images can't hold whole clips of {length} frames"
        raise ConfigError(message, where="train.batch_size", fix=f"make it a multiple of {length}")
    if config.data.window is not None and length > 1:
        message = "clips are whole frames, and windows of images are asked for"
        raise ConfigError(message, where="data.window", fix="leave it out, or set clips.length=1")
    if config.data.window is not None and config.model.input_size is not None:
        message = "windows and whole images would be resized by different factors"
        raise ConfigError(message, where="model.input_size", fix="leave it out where data.window is set")
    world.check_batch_size(batch_size // length)


def training_loader(config: Config, dataset: DetectionDataset, *, device: torch.device, world: World) -> SeededLoader:
    """Batches of this process.

    Args:
        config: its sections data, clips, augment and train are looked at.
        dataset: the training images.
        device: what the batches go to.
        world: the processes that share each batch.

    Raises:
        DataError: clips are asked for, and the images are in no order; or fewer images or clips than processes.
        ConfigError: a mosaic of clips, or a turn of clips, of images that aren't square or of classes not in the data.
    """
    spare = min(8, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
    workers = spare if config.data.workers == "auto" else config.data.workers
    seed, shard, pin = config.train.seed, (world.rank, world.size), device.type == "cuda"
    clips, augment = config.clips, _augment(config, dataset)
    at_once = config.train.batch_size // clips.length
    if clips.length > 1:
        return ClipLoader(
            dataset,
            length=clips.length,
            pan=clips.pan,
            degraded=clips.degraded,
            augment=augment,
            batch_size=at_once,
            seed=seed,
            shard=shard,
            workers=workers,
            pin=pin,
        )
    images: DetectionDataset | RandomWindows = dataset
    if config.data.window is not None:  # crops are drawn with the windows, which keep defects whole
        images = RandomWindows(dataset, config.data.window, crop=config.augment.crop, crop_min=config.augment.crop_min)
        augment = replace(augment, crop=0.0)
    return TrainingLoader(
        images,
        augment=augment,
        plain=replace(augment, mosaic=0.0),
        plain_from=config.train.epochs - config.augment.mosaic_off_epochs + 1,
        batch_size=at_once,
        seed=seed,
        shard=shard,
        workers=workers,
        pin=pin,
    )


def memory_hint(config: Config) -> str:
    """The settings that decide how much memory a training step takes, with their values, the strongest first."""
    model = config.model
    size = "the images' own" if model.input_size is None else str(model.input_size)
    return (
        f"lower train.batch_size (it is {config.train.batch_size}), model.input_size ({size}), "
        f"model.roi.batch_per_image ({model.roi.batch_per_image}) or model.rpn.proposals_train "
        f"({model.rpn.proposals_train}), and start anew"
    )


def _augment(config: Config, dataset: DetectionDataset) -> Augment:
    labels = _transpose_labels(config, dataset) if config.augment.transpose else None
    return Augment(
        **config.augment.model_dump(exclude={"mosaic_off_epochs", "transpose_classes"}), transpose_labels=labels
    )


def _transpose_labels(config: Config, dataset: DetectionDataset) -> frozenset[int] | None:
    """Ids of the classes that may be turned, None for all, where these images can be turned at all."""
    names = config.augment.transpose_classes
    unknown = [name for name in names if name not in dataset.categories]
    if unknown:
        message = f"there is no class {unknown[0]!r} in the data"
        fix = f"choose among {', '.join(dataset.categories)}"
        raise ConfigError(message, where="augment.transpose_classes", fix=fix)
    if config.clips.length > 1:
        message = "a strip moves in one direction, and its frames can't be turned"
        raise ConfigError(message, where="augment.transpose", fix="set it to 0")
    sizes_wh = dataset.images.sizes_wh
    if config.data.window is not None:
        sizes_wh = np.minimum(sizes_wh, config.data.window)
    oblong = np.flatnonzero(sizes_wh[:, 0] != sizes_wh[:, 1])
    if len(oblong):
        width, height = dataset.images.sizes_wh[oblong[0]].tolist()
        message = f"only square images can be turned, and {dataset.path(int(oblong[0]))} has {width} x {height} pixels"
        raise ConfigError(
            message, where="augment.transpose", fix="set it to 0, or learn from smaller, square data.window"
        )
    return frozenset(dataset.categories.index(name) + 1 for name in names) or None
