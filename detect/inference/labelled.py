"""A trained network over a data set: frames in the order of time, large images in tiles, the rest in batches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.progress import Progress
from torchvision.models.detection import FasterRCNN

from ..data import DetectionDataset
from ..errors import ConfigError
from ..models import StripDetector
from ..prediction import detect_dataset, detect_images
from ..records import Detections, Image
from ..streaming import detect_in_time
from .tiling import Look, Tiling, detect_tiled, tiling_for


def looks(model: FasterRCNN, categories: tuple[str, ...], max_value: int | None) -> Look:
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


def in_time(model: FasterRCNN, images: Iterable[Image], every: int = 1) -> bool:
    """Whether the images are frames that this detector sees one after another, each of them whole."""
    return (isinstance(model, StripDetector) or every > 1) and all(image.frame is not None for image in images)


def detect_labelled(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    trained: int | None,
    tile: int | None = None,
    overlap: int | None = None,
    every: int = 1,
) -> Iterator[tuple[int, Detections]]:
    """Position and detections of each image of a data set, in no order; scores are the network's own.

    Args:
        model: in evaluation mode.
        dataset: pixels; labels aren't looked at.
        categories: the model's category names.
        trained, tile, overlap: which images are seen in tiles, as for ``tiling_for``.
        every: each how many frames a key frame is seen, as for ``detect_in_time``.

    Raises:
        ConfigError: tiles that can't be, or tiles of frames that are seen in the order of time.
    """
    if in_time(model, dataset.images, every):
        if tile:
            reason = "frames that are seen in the order of time are seen whole"
            raise ConfigError(reason, where="tile", fix="leave it out")
        yield from detect_in_time(model, dataset, categories, every=every)
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
        look, nms_iou = looks(model, categories, dataset.max_value), model.roi_heads.nms_thresh
        yield position, detect_tiled(look, [pixels], size_wh, tiling, categories, nms_iou=nms_iou)


def in_order(found: Iterable[tuple[int, Detections]], total: int, *, progress: bool) -> list[Detections]:
    """The detections of all ``total`` images by position, with a bar on terminals if ``progress`` asks for one."""
    seen: dict[int, Detections] = {}
    hidden = not (progress and sys.stderr.isatty())
    with Progress(transient=True, disable=hidden, console=Console(stderr=True)) as bar:
        task = bar.add_task("detecting", total=total)
        for position, detections in found:
            seen[position] = detections
            bar.advance(task)
    return [seen[position] for position in range(total)]
