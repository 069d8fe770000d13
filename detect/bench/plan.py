"""Which runs a bench consists of: every system with every seed, on every fold, each with its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import Config, load_config, parse_config
from ..conversion.grouping import named_groups
from ..data import read_dataset
from ..errors import ConfigError
from .folds import Part, write_folds
from .terms import check_equal_terms

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
    part: Part
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
        group_pattern: which images belong together, by their names; see ``folds.scene_ids``.
    """

    out: Path
    systems: tuple[System, ...]
    against: str
    seeds: int
    parts: tuple[Part, ...]
    runs: tuple[Run, ...]
    group_pattern: str | None = None

    def runs_of(self, system: str, part: Part) -> list[Run]:
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
    parts = [Part(None, data.train, data.val)]
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


def _config_of(system: System, seed: int, part: Part, out: Path) -> Config:
    name = f"seed{seed}" if part.fold is None else f"seed{seed}_fold{part.fold}"
    tree = system.config.model_dump()
    tree["run"]["dir"] = out / system.name / name
    tree["train"]["seed"] = seed
    if part.fold is not None:  # else each system keeps its own, which differ only where that was allowed
        tree["data"] |= {"train": part.train, "val": part.val}
    return parse_config(tree)
