"""Which runs a bench consists of: every system with every seed, on every fold, on equal terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.loading import differing_keys, flatten_keys, load_config, parse_config
from ..config.schema import Config
from ..data.dataset import read_dataset
from ..datasets import coco
from ..datasets.convert import drop_strip_overlaps, frames_by_strip
from ..datasets.duplicates import find_duplicates, fingerprints, group_ids
from ..datasets.paths import remember
from ..datasets.split import named_groups, split_into_folds
from ..errors import ConfigError, DataError
from ..structures import Dataset, Image

_SHARED = ("data", "train", "augment")


def check_equal_terms(configs: Mapping[str, Config], vary: Sequence[str] = ()) -> None:
    """Refuse systems that differ in more than their model.

    Args:
        configs: by name; the first is what the others are held against.
        vary: dotted keys, or sections, that may differ.

    Raises:
        ConfigError: keys that differ, an unknown key in ``vary``, no validation data, early stopping, which would let
            the score decide how long each trains, or several processes a training.
    """
    known = [key for key, _ in flatten_keys(Config().model_dump(mode="json"))]
    for key in vary:
        if not any(_within(each, key) for each in known):
            raise ConfigError(f"there is no key '{key}' that could vary", fix="detect/config/schema.py lists all keys")
    (first, reference), *others = configs.items()
    for name, config in others:
        keys = [key for key in differing_keys(config, reference) if any(_within(key, part) for part in _SHARED)]
        unequal = [key for key in keys if not any(_within(key, allowed) for allowed in vary)]
        if "data.val" in keys:
            found = f"{name} and {first} differ in data.val, so they can't be judged image by image"
            raise ConfigError(found, fix="judge both by the same")
        if unequal:
            found = f"{name} and {first} would not meet on equal terms: they differ in {', '.join(unequal)}"
            raise ConfigError(found, fix=f"give both the same, or allow it with --vary {unequal[0]}")
    for name, config in configs.items():
        if config.data.val is None:
            raise ConfigError("data.val is unset, so there is nothing to judge by", where=name, fix="set data.val")
        if config.train.early_stop:
            found = f"train.early_stop={config.train.early_stop} would let the score decide how long a system trains"
            raise ConfigError(found, where=name, fix="set train.early_stop=0")
        if config.train.processes > 1:
            found = f"train.processes={config.train.processes}, but a bench trains each run in its own process alone"
            raise ConfigError(found, where=name, fix="set train.processes=1")


def shared_terms(configs: Sequence[Config]) -> dict[str, Any]:
    """Dotted keys of data, schedule and augmentation with the values that all systems share, but for the seed."""
    told = [dict(flatten_keys(config.model_dump(mode="json"))) for config in configs]
    return {
        key: value
        for key, value in told[0].items()
        if key != "train.seed"
        and any(_within(key, part) for part in _SHARED)
        and all(key in each and each[key] == value for each in told)
    }


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


_SEED = 0  # of the division; the folds are the same for every system and seed


@dataclass(frozen=True, slots=True)
class BenchFold:
    """COCO files to train on and to be judged by; ``fold`` counts from 1, None without cross-validation."""

    fold: int | None
    train: Path
    val: Path


def write_folds(
    train: Path, val: Path, count: int, folder: Path, *, group_pattern: str | None = None
) -> list[BenchFold]:
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
    positions = split_into_folds(labels, count, groups=scene_ids(images, group_pattern), seed=_SEED)
    parts = {name: Dataset(tuple(images[i] for i in members), first.categories) for name, members in positions.items()}
    there = sorted(folder.glob("fold*.json"))
    if there:
        _check_same(parts, there, folder)
    else:
        coco.write(parts, folder)
    remember((image.path for image in images), folder)
    return [BenchFold(j, folder / f"fold{j}_train.json", folder / f"fold{j}_val.json") for j in range(1, count + 1)]


def scene_ids(images: Sequence[Image], group_pattern: str | None = None) -> list[int]:
    """A number an image; near-duplicates and frames of one strip share theirs, and images of one coil by their names.

    Args:
        images: one at least.
        group_pattern: images whose paths share what this regular expression finds belong together, as
            ``datasets.split.named_groups`` says.

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
    return group_ids(
        len(images), drop_strip_overlaps(find_duplicates(prints), images), [*frames_by_strip(images).values(), *named]
    )


def _check_same(parts: dict[str, Dataset], there: Sequence[Path], folder: Path) -> None:
    """A division half written by an interrupted call counts as another one, too."""
    same = {path.stem for path in there} == set(parts)
    if not same or any(json.loads(path.read_text("utf-8")) != coco.to_dict(parts[path.stem], folder) for path in there):
        found = "the folds there were made of other data, in another number or of other groups"
        raise DataError(found, where=folder, fix="choose another --out, or remove the folder and the runs beside it")


_OWN_KEYS = ("run.dir", "train.seed")


@dataclass(frozen=True, slots=True)
class System:
    """A detector in the comparison: its configuration, named after the file that it comes from."""

    name: str
    config: Config


@dataclass(frozen=True, slots=True)
class Run:
    """One training of a system.

    Attributes:
        system: its name.
        seed: of the training.
        part: what it trains on and is judged by.
        config: with the run's own folder, seed and data.
    """

    system: str
    seed: int
    part: BenchFold
    config: Config

    @property
    def dir(self) -> Path:
        """The run folder."""
        return self.config.run.dir

    def __str__(self) -> str:
        return f"{self.system}/{self.dir.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole bench.

    Attributes:
        out: the folder of all its runs and of the table.
        systems: in the order of the table.
        against: name of the one that the others are compared with.
        seeds: how many trainings each gets, with seeds from 0.
        parts: one, or one a fold.
        runs: seed by seed, so that an early look finds all systems equally far.
        group_pattern: which images belong together, by their names; see ``scene_ids``.
    """

    out: Path
    systems: tuple[System, ...]
    against: str
    seeds: int
    parts: tuple[BenchFold, ...]
    runs: tuple[Run, ...]
    group_pattern: str | None = None

    def runs_of(self, system: str, part: BenchFold) -> list[Run]:
        """A system's runs on one part, by seed."""
        return [run for run in self.runs if run.system == system and run.part == part]


def read_systems(configs: Sequence[Path], overrides: Sequence[str]) -> list[System]:
    """Configurations with the same overrides over each, named by their files' stems.

    Raises:
        ConfigError: an unreadable or wrong file, two of one name, or an override of what the bench sets itself.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _OWN_KEYS:
            raise ConfigError(f"{key} is set by the bench", where=override, fix="leave it out: see --out and --seeds")
    systems: dict[str, System] = {}
    for path in configs:
        if path.stem in systems:
            raise ConfigError(f"a system named {path.stem} is there already", where=path, fix="rename one of the files")
        systems[path.stem] = System(path.stem, load_config(path, overrides))
    return list(systems.values())


def plan_runs(
    systems: Sequence[System],
    out: Path,
    *,
    seeds: int,
    folds: int | None = None,
    vary: Sequence[str] = (),
    against: str | None = None,
    group_pattern: str | None = None,
) -> Plan:
    """Check that the systems meet on equal terms and lay out their runs; folds are written to ``out/folds``.

    Args:
        systems: with names of their own.
        out: the folder of the bench.
        seeds: trainings of each system on each part, with seeds 0, 1, ...
        folds: cross-validate in so many folds of the training and validation data together; None trains on the one
            and judges by the other.
        vary: keys or sections of data, train and augment that may differ from system to system.
        against: name of the system that the others are compared with; None: the first.
        group_pattern: images whose paths share what this regular expression finds stay in one fold, and are drawn
            together for the intervals.

    Raises:
        ConfigError: the terms differ, there is nothing to judge by, a setting that a bench can't have, no system is
            called ``against``, or the pattern is no regular expression.
        DataError: data that can't be divided, or whose paths the pattern doesn't match, or folds there that were made
            of other data.
    """
    if seeds < 1:
        raise ConfigError(f"{seeds} seeds make no run", fix="ask for 1 or more")
    names = [system.name for system in systems]
    if against is not None and against not in names:
        raise ConfigError(f"no system is called '{against}'", fix=f"compare with one of {', '.join(names)}")
    check_equal_terms({system.name: system.config for system in systems}, vary)
    data = systems[0].config.data
    assert data.val is not None  # the terms ask for it
    parts = [BenchFold(None, data.train, data.val)]
    if folds is not None:
        other = next((system.name for system in systems if system.config.data.train != data.train), None)
        if other is not None:
            fix = "give all systems the same data.train, or leave --folds out"
            raise ConfigError("folds are cut from one data set, but data.train differs", where=other, fix=fix)
        parts = write_folds(data.train, data.val, folds, out / "folds", group_pattern=group_pattern)
    elif group_pattern is not None:  # a bad one is told now, not after the trainings
        named_groups(read_dataset(data.val, role="data.val").images, group_pattern)
    runs = [
        Run(system.name, seed, part, _config_of(system, seed, part, out))
        for seed in range(seeds)
        for part in parts
        for system in systems
    ]
    return Plan(out, tuple(systems), against or names[0], seeds, tuple(parts), tuple(runs), group_pattern)


def _config_of(system: System, seed: int, part: BenchFold, out: Path) -> Config:
    name = f"seed{seed}" if part.fold is None else f"seed{seed}_fold{part.fold}"
    tree = system.config.model_dump()
    tree["run"]["dir"] = out / system.name / name
    tree["train"]["seed"] = seed
    if part.fold is not None:  # else each system keeps its own, which differ only where that was allowed
        tree["data"] |= {"train": part.train, "val": part.val}
    return parse_config(tree)
