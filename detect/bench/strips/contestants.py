"""The trained systems of a comparison: run folders, or folders with a run for each seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...checkpoint import Checkpoint, load_checkpoint
from ...errors import CheckpointError, ConfigError, DataError
from ...records import Dataset
from ...released import WEIGHTS, is_released

_SEED = re.compile(r"seed(\d+)")


@dataclass(frozen=True, slots=True)
class Trained:
    """A run of a system: its last checkpoint, since choosing an epoch by its score would favour noisy scores."""

    weights: Path
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Contestant:
    """A system: its name in the tables, and its runs, by seed."""

    name: str
    runs: tuple[Trained, ...]


def read_contestants(folders: Sequence[Path], dataset: Dataset) -> list[Contestant]:
    """Load each system's runs.

    Args:
        folders: run folders, the word ``released``, or folders of ``detect bench train`` with seed0, seed1, ... in
            them. Systems are called after them, with the folder above where two have one name.
        dataset: what they will be judged on.

    Raises:
        ConfigError: the same folder twice.
        CheckpointError: a folder without runs, or a run without a readable last checkpoint.
        DataError: a run that was trained to find other categories.
    """
    real = [folder.resolve() for folder in folders]
    twice = next((folder for i, folder in enumerate(folders) if real[i] in real[:i]), None)
    if twice is not None:
        raise ConfigError("the same run is given twice", where=twice, fix="name each once")
    stems = [folder.name for folder in real]
    names = [f"{f.parent.name}/{f.name}" if stems.count(f.name) > 1 else f.name for f in real]
    return [
        Contestant(name, tuple(_load(run, dataset) for run in _runs(folder))) for name, folder in zip(names, folders)
    ]


def _runs(folder: Path) -> list[Path]:
    if is_released(folder):
        return [WEIGHTS]
    if (folder / "last.pt").is_file():
        return [folder]
    seeds = {int(m[1]): path for path in folder.glob("seed*") if (m := _SEED.fullmatch(path.name)) and path.is_dir()}
    if not seeds:
        found = "no run: there is neither last.pt nor a folder seed0 in it"
        raise CheckpointError(found, where=folder, fix="give the folder of a run, or of a system of 'bench train'")
    return [seeds[seed] for seed in sorted(seeds)]


def _load(run: Path, dataset: Dataset) -> Trained:
    weights = run if run.is_file() else run / "last.pt"
    if not weights.is_file():
        raise CheckpointError("the run has no last.pt yet", where=run, fix="train it, or take the folder away")
    checkpoint = load_checkpoint(weights)
    known = checkpoint.detector.categories
    if set(known) != set(dataset.categories):
        found = f"the detector finds {', '.join(known)}, the data have {', '.join(dataset.categories)}"
        raise DataError(found, where=weights, fix="judge it on data with the categories of its training")
    return Trained(weights, checkpoint)
