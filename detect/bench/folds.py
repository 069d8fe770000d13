"""The parts that a bench trains on and judges by, and which of their images show the same scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audit import find_twins, fingerprints, group_ids
from ..conversion.grouping import named_groups
from ..conversion.strips import frames_by_strip, scenes
from ..data import read_dataset
from ..errors import DataError
from ..formats import coco
from ..formats.roots import remember
from ..records import Dataset, Image
from ..split import into_folds

_SEED = 0  # of the division; the folds are the same for every system and seed


@dataclass(frozen=True, slots=True)
class Part:
    """COCO files to train on and to be judged by; ``fold`` counts from 1, None without cross-validation."""

    fold: int | None
    train: Path
    val: Path


def write_folds(train: Path, val: Path, count: int, folder: Path, *, group_pattern: str | None = None) -> list[Part]:
    """Divide training and validation data together into folds, each judged by a run that trains on the others.

    Classes are spread evenly; near-duplicates, the frames of one strip and what a pattern groups stay together.

    Args:
        train, val: COCO files with the same categories.
        count: number of folds.
        folder: gets ``fold1_train.json``, ``fold1_val.json``, ...; what is there must be the same.
        group_pattern: see ``scene_ids``.

    Raises:
        ConfigError: the pattern is no regular expression.
        DataError: data that can't be read or divided, a path that the pattern doesn't match, or other folds in the
            folder.
    """
    first = read_dataset(train, role="data.train")
    second = read_dataset(val, role="data.val", categories=first.categories)
    images = [*first.images, *second.images]
    labels = [{box.label for box in image.boxes} for image in images]
    positions = into_folds(labels, count, groups=scene_ids(images, group_pattern), seed=_SEED)
    parts = {name: Dataset(tuple(images[i] for i in members), first.categories) for name, members in positions.items()}
    there = sorted(folder.glob("fold*.json"))
    if there:
        _check_same(parts, there, folder)
    else:
        coco.write(parts, folder)
    remember((image.path for image in images), folder)
    return [Part(j, folder / f"fold{j}_train.json", folder / f"fold{j}_val.json") for j in range(1, count + 1)]


def scene_ids(images: Sequence[Image], group_pattern: str | None = None) -> list[int]:
    """A number an image; near-duplicates and frames of one strip share theirs, and images of one coil by their names.

    Args:
        images: one at least.
        group_pattern: images whose paths share what this regular expression finds belong together, as
            ``conversion.grouping.named_groups`` says.

    Raises:
        ConfigError: it is no regular expression.
        DataError: it doesn't match all paths, or an image can't be read.
    """
    named = named_groups(images, group_pattern) if group_pattern is not None else []
    prints = []
    for seen in fingerprints([image.path for image in images]):
        if isinstance(seen, DataError):
            raise seen
        prints.append(seen)
    return group_ids(len(images), scenes(find_twins(prints), images), [*frames_by_strip(images).values(), *named])


def _check_same(parts: dict[str, Dataset], there: Sequence[Path], folder: Path) -> None:
    """A division half written by an interrupted call counts as another one, too."""
    same = {path.stem for path in there} == set(parts)
    if not same or any(json.loads(path.read_text("utf-8")) != coco.to_dict(parts[path.stem], folder) for path in there):
        found = "the folds there were made of other data, in another number or of other groups"
        raise DataError(found, where=folder, fix="choose another --out, or remove the folder and the runs beside it")
