"""The batches that a configuration asks for: single images, or clips of moving strips."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

from ..config import Config
from ..data import Augment, ClipLoader, DetectionDataset, SeededLoader, TrainingLoader, Windows
from ..distributed import Team
from ..errors import ConfigError


def check_batches(config: Config, team: Team) -> None:
    """Refuse a memory that has nothing to learn from, batches of broken clips or uneven shares, windows of clips.

    Raises:
        ConfigError: any of these.
    """
    length, batch_size = config.clips.length, config.train.batch_size
    if config.model.memory is not None and length == 1:
        found = "memory learns from clips of frames, and single images are asked for"
        raise ConfigError(found, where="clips.length", fix="set it to 4 or so, or leave model.memory out")
    if batch_size % length:
        found = f"batches of {batch_size} images can't hold whole clips of {length} frames"
        raise ConfigError(found, where="train.batch_size", fix=f"make it a multiple of {length}")
    if config.data.window is not None and length > 1:
        found = "clips are whole frames, and windows of images are asked for"
        raise ConfigError(found, where="data.window", fix="leave it out, or set clips.length=1")
    if config.data.window is not None and config.model.input_size is not None:
        found = "windows and whole images would be resized by different factors"
        raise ConfigError(found, where="model.input_size", fix="leave it out where data.window is set")
    team.check_shares(batch_size // length)


def training_loader(config: Config, dataset: DetectionDataset, *, device: torch.device, team: Team) -> SeededLoader:
    """Batches of this process.

    Args:
        config: its sections data, clips, augment and train are looked at.
        dataset: the training images.
        device: what the batches go to.
        team: the processes that share each batch.

    Raises:
        DataError: clips are asked for, and the images are in no order; or fewer images or clips than processes.
        ConfigError: a mosaic of clips, or a turn of clips, of images that aren't square or of classes not in the data.
    """
    spare = min(8, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
    workers = spare if config.data.workers == "auto" else config.data.workers
    seed, share, pin = config.train.seed, (team.rank, team.size), device.type == "cuda"
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
            share=share,
            workers=workers,
            pin=pin,
        )
    images: DetectionDataset | Windows = dataset
    if config.data.window is not None:  # crops are drawn with the windows, which keep defects whole
        images = Windows(dataset, config.data.window, crop=config.augment.crop, crop_min=config.augment.crop_min)
        augment = replace(augment, crop=0.0)
    return TrainingLoader(
        images,
        augment=augment,
        plain=replace(augment, mosaic=0.0),
        plain_from=config.train.epochs - config.augment.mosaic_off_epochs + 1,
        batch_size=at_once,
        seed=seed,
        share=share,
        workers=workers,
        pin=pin,
    )


def step_needs(config: Config) -> str:
    """The settings that decide how much memory a training step takes, with their values, the strongest first."""
    model = config.model
    size = "the images' own" if model.input_size is None else str(model.input_size)
    return (
        f"lower train.batch_size (it is {config.train.batch_size}), model.input_size ({size}), "
        f"model.roi.batch_per_image ({model.roi.batch_per_image}) or model.rpn.proposals_train "
        f"({model.rpn.proposals_train}), and start anew"
    )


def _augment(config: Config, dataset: DetectionDataset) -> Augment:
    labels = _turn_labels(config, dataset) if config.augment.turn else None
    return Augment(**config.augment.model_dump(exclude={"mosaic_off_epochs", "turn_classes"}), turn_labels=labels)


def _turn_labels(config: Config, dataset: DetectionDataset) -> frozenset[int] | None:
    """Ids of the classes that may be turned, None for all, where these images can be turned at all."""
    names = config.augment.turn_classes
    unknown = [name for name in names if name not in dataset.categories]
    if unknown:
        found = f"there is no class {unknown[0]!r} in the data"
        fix = f"choose among {', '.join(dataset.categories)}"
        raise ConfigError(found, where="augment.turn_classes", fix=fix)
    if config.clips.length > 1:
        found = "a strip moves in one direction, and its frames can't be turned"
        raise ConfigError(found, where="augment.turn", fix="set it to 0")
    sizes_wh = dataset.images.sizes_wh
    if config.data.window is not None:
        sizes_wh = np.minimum(sizes_wh, config.data.window)
    oblong = np.flatnonzero(sizes_wh[:, 0] != sizes_wh[:, 1])
    if len(oblong):
        width, height = dataset.images.sizes_wh[oblong[0]].tolist()
        found = f"only square images can be turned, and {dataset.path(int(oblong[0]))} has {width} x {height} pixels"
        raise ConfigError(found, where="augment.turn", fix="set it to 0, or learn from smaller, square data.window")
    return frozenset(dataset.categories.index(name) + 1 for name in names) or None
