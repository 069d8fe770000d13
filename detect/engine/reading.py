"""The data of a run, read and checked before anything is built: what is wrong with it is named at once."""

from __future__ import annotations

from collections.abc import Callable

from ..config import DataConfig
from ..data import DetectionDataset, read_dataset, shortage_told
from ..distributed import Team
from ..errors import DataError
from .caching import cache_room, fill
from .soundness import refuse_errors
from .validation import Validator


def read_data(data: DataConfig, *, team: Team, say: Callable[[str], None]) -> tuple[DetectionDataset, Validator | None]:
    """The training images and, if there are any to judge on, what judges.

    Args:
        data: its files, channels and cache.
        team: the processes that share the training, each with its own images in memory.
        say: gets a line on what the images take in memory, before they are read.

    Raises:
        DataError: labels or images that can't be used; every image is read once, so that none fails in mid-epoch;
            one that isn't kept in memory by one process of the team.
        MemoryShortageError: the images don't fit.
    """
    records = read_dataset(data.train, role="data.train", only=data.train_images)
    refuse_errors(records, data.train)
    if not data.allow_empty and not any(image.boxes for image in records.images):
        found = f"none of the {len(records.images):,} images of data.train has a box, so there is no object to learn"
        fix = "check that the labels were found when they were converted, or set data.allow_empty=true"
        raise DataError(found, where=data.train, fix=fix)
    images = DetectionDataset(records, channels=data.channels, cache=data.cache, max_value=data.max_value)
    validator = None
    if data.val is not None:
        held_out = read_dataset(data.val, role="data.val", categories=records.categories)
        refuse_errors(held_out, data.val)
        validator = Validator(held_out, channels=data.channels, cache=data.cache, max_value=data.max_value, team=team)
    room = cache_room(data.cache_gb, team.size) if data.cache else 0.0
    with shortage_told("reading the images", "set data.cache=false, which reads them anew in every epoch"):
        fill([images, *([validator.images] if validator else [])], room, say=say, share=(team.rank, team.size))
    images.brightest = max((each for each in team.gathered(images.brightest) if each is not None), default=None)
    return images, validator
