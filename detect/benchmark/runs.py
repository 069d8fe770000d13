"""Runs of a benchmark: plan, train and resume every system, seed and fold with equal settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..config.loading import differing_keys, flatten_keys, load_config, parse_config
from ..config.schema import Config
from ..data.dataset import read_dataset
from ..datasets import coco
from ..datasets.convert import drop_strip_overlaps, frames_by_strip
from ..datasets.duplicates import find_duplicates, fingerprints, group_ids
from ..datasets.paths import remember
from ..datasets.split import named_groups, split_into_folds
from ..engine.run_folder import RunFolder
from ..engine.trainer import train
from ..errors import ConfigError, DataError, DetectError
from ..evaluation.summary import judge
from ..fileio import write_json
from ..inference.predictor import Predictor
from ..structures import Dataset, Image

_SHARED = ("data", "train", "augment")


def check_equal_terms(configs: Mapping[str, Config], vary: Sequence[str] = ()) -> None:
    """Check that the systems differ in their model only.

    Args:
        configs: by name; the others are compared with the first.
        vary: dotted keys, or sections, that may differ.

    Raises:
        ConfigError: keys that differ, an unknown key in ``vary``, no validation data, early stopping (the training
            length would depend on the score), or several processes per training.
    """
    known = [key for key, _ in flatten_keys(Config().model_dump(mode="json"))]
    for key in vary:
        if not any(_within(each, key) for each in known):
            raise ConfigError(f"there is no key '{key}' to vary", fix="detect/config/schema.py lists all keys")
    (first, reference), *others = configs.items()
    for name, config in others:
        keys = [key for key in differing_keys(config, reference) if any(_within(key, part) for part in _SHARED)]
        unequal = [key for key in keys if not any(_within(key, allowed) for allowed in vary)]
        if "data.val" in keys:
            message = f"{name} and {first} differ in data.val, so they can't be compared image by image"
            raise ConfigError(message, fix="give both the same data.val")
        if unequal:
            message = f"{name} and {first} don't have equal settings: they differ in {', '.join(unequal)}"
            raise ConfigError(message, fix=f"give both the same, or allow it with --vary {unequal[0]}")
    for name, config in configs.items():
        if config.data.val is None:
            raise ConfigError("data.val is unset, so there is no validation data", where=name, fix="set data.val")
        if config.train.early_stop:
            message = f"train.early_stop={config.train.early_stop}: the training length would depend on the score"
            raise ConfigError(message, where=name, fix="set train.early_stop=0")
        if config.train.processes > 1:
            message = f"train.processes={config.train.processes}, but a benchmark trains each run in one process"
            raise ConfigError(message, where=name, fix="set train.processes=1")


def shared_terms(configs: Sequence[Config]) -> dict[str, Any]:
    """Dotted keys of data, train and augment, except the seed, with the values that all systems share."""
    settings = [dict(flatten_keys(config.model_dump(mode="json"))) for config in configs]
    return {
        key: value
        for key, value in settings[0].items()
        if key != "train.seed"
        and any(_within(key, part) for part in _SHARED)
        and all(key in each and each[key] == value for each in settings)
    }


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


_SEED = 0  # of the split into folds, which is the same for every system and training seed


@dataclass(frozen=True, slots=True)
class Fold:
    """COCO files for training and validation. ``fold`` counts from 1; None without cross-validation."""

    fold: int | None
    train: Path
    val: Path


def write_folds(train: Path, val: Path, count: int, folder: Path, *, group_pattern: str | None = None) -> list[Fold]:
    """Split the union of training and validation data into folds; each fold validates a run trained on the others.

    Classes are spread evenly. Near-duplicates, frames of one strip and images of one pattern group stay together.

    Args:
        train, val: COCO files with the same categories.
        count: number of folds.
        folder: receives ``fold1_train.json``, ``fold1_val.json``, ...; existing files must have the same content.
        group_pattern: see ``scene_ids``.

    Raises:
        ConfigError: the pattern is no regular expression.
        DataError: data that can't be read or split, a path that the pattern doesn't match, or other folds in the
            folder.
    """
    first = read_dataset(train, role="data.train")
    second = read_dataset(val, role="data.val", categories=first.categories)
    images = [*first.images, *second.images]
    labels = [{box.label for box in image.boxes} for image in images]
    positions = split_into_folds(labels, count, groups=scene_ids(images, group_pattern), seed=_SEED)
    parts = {name: Dataset(tuple(images[i] for i in members), first.categories) for name, members in positions.items()}
    existing = sorted(folder.glob("fold*.json"))
    if existing:
        _check_same(parts, existing, folder)
    else:
        coco.write(parts, folder)
    remember((image.path for image in images), folder)
    return [Fold(j, folder / f"fold{j}_train.json", folder / f"fold{j}_val.json") for j in range(1, count + 1)]


def scene_ids(images: Sequence[Image], group_pattern: str | None = None) -> list[int]:
    """Scene number per image, shared by near-duplicates, frames of one strip and images of one pattern group.

    Args:
        images: at least one.
        group_pattern: regular expression; images with the same match in their paths (for example the same coil)
            belong together, see ``datasets.split.named_groups``.

    Raises:
        ConfigError: the pattern is no regular expression.
        DataError: it doesn't match all paths, or an image can't be read.
    """
    named = named_groups(images, group_pattern) if group_pattern is not None else []
    prints = []
    for fingerprint in fingerprints([image.path for image in images]):
        if isinstance(fingerprint, DataError):
            raise fingerprint
        prints.append(fingerprint)
    return group_ids(
        len(images), drop_strip_overlaps(find_duplicates(prints), images), [*frames_by_strip(images).values(), *named]
    )


def _check_same(parts: dict[str, Dataset], existing: Sequence[Path], folder: Path) -> None:
    """Check that existing fold files have the content of ``parts``; a partly written set of files is an error."""
    same = {path.stem for path in existing} == set(parts)
    if not same or any(
        json.loads(path.read_text("utf-8")) != coco.to_dict(parts[path.stem], folder) for path in existing
    ):
        message = "the existing folds were made from other data, another number of folds or other groups"
        raise DataError(message, where=folder, fix="choose another --out, or remove the folder and its runs")


_OWN_KEYS = ("run.dir", "train.seed")


@dataclass(frozen=True, slots=True)
class System:
    """A compared detector: its configuration, and the stem of the configuration file as its name."""

    name: str
    config: Config


@dataclass(frozen=True, slots=True)
class Run:
    """One training of a system.

    Attributes:
        system: name of the system.
        seed: random seed of the training.
        part: data for training and validation.
        config: configuration with the run's folder, seed and data.
    """

    system: str
    seed: int
    part: Fold
    config: Config

    @property
    def dir(self) -> Path:
        """The run folder."""
        return self.config.run.dir

    def __str__(self) -> str:
        return f"{self.system}/{self.dir.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All runs of a benchmark.

    Attributes:
        out: folder of the runs and the results.
        systems: in the order of the table.
        against: name of the reference system.
        seeds: number of trainings per system and part, with seeds 0, 1, ...
        parts: one, or one per fold.
        runs: seed by seed, so that early results cover all systems equally.
        group_pattern: regular expression that groups images by their paths; see ``scene_ids``.
    """

    out: Path
    systems: tuple[System, ...]
    against: str
    seeds: int
    parts: tuple[Fold, ...]
    runs: tuple[Run, ...]
    group_pattern: str | None = None

    def runs_of(self, system: str, part: Fold) -> list[Run]:
        """Runs of a system on one part, in order of seed."""
        return [run for run in self.runs if run.system == system and run.part == part]


def read_systems(configs: Sequence[Path], overrides: Sequence[str]) -> list[System]:
    """Read configurations, apply the same overrides to each and name them by their file stems.

    Raises:
        ConfigError: an unreadable or wrong file, two files of one name, or an override of a key that the benchmark
            sets itself.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _OWN_KEYS:
            raise ConfigError(
                f"{key} is set by the benchmark", where=override, fix="leave it out: see --out and --seeds"
            )
    systems: dict[str, System] = {}
    for path in configs:
        if path.stem in systems:
            raise ConfigError(f"two systems are named {path.stem}", where=path, fix="rename one of the files")
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
    """Check that the systems have equal settings and list their runs; folds are written to ``out/folds``.

    Args:
        systems: with unique names.
        out: folder of the benchmark.
        seeds: trainings of each system on each part, with seeds 0, 1, ...
        folds: number of cross-validation folds over the union of training and validation data; None trains on
            data.train and validates on data.val.
        vary: keys or sections of data, train and augment that may differ between systems.
        against: name of the reference system; None: the first.
        group_pattern: regular expression; images with the same match in their paths stay in one fold and are
            resampled together for the intervals.

    Raises:
        ConfigError: the settings differ, there is no validation data, a setting that a benchmark doesn't allow, no
            system is called ``against``, or the pattern is no regular expression.
        DataError: data that can't be split, paths that the pattern doesn't match, or existing folds of other data.
    """
    if seeds < 1:
        raise ConfigError(f"there are no runs with {seeds} seeds", fix="give 1 or more")
    names = [system.name for system in systems]
    if against is not None and against not in names:
        raise ConfigError(f"no system is called '{against}'", fix=f"compare with one of {', '.join(names)}")
    check_equal_terms({system.name: system.config for system in systems}, vary)
    data = systems[0].config.data
    assert data.val is not None  # by check_equal_terms
    parts = [Fold(None, data.train, data.val)]
    if folds is not None:
        other = next((system.name for system in systems if system.config.data.train != data.train), None)
        if other is not None:
            fix = "give all systems the same data.train, or leave --folds out"
            raise ConfigError("folds need one data set, but data.train differs", where=other, fix=fix)
        parts = write_folds(data.train, data.val, folds, out / "folds", group_pattern=group_pattern)
    elif group_pattern is not None:  # checked before the trainings, not after them
        named_groups(read_dataset(data.val, role="data.val").images, group_pattern)
    runs = [
        Run(system.name, seed, part, _config_of(system, seed, part, out))
        for seed in range(seeds)
        for part in parts
        for system in systems
    ]
    return Plan(out, tuple(systems), against or names[0], seeds, tuple(parts), tuple(runs), group_pattern)


def _config_of(system: System, seed: int, part: Fold, out: Path) -> Config:
    name = f"seed{seed}" if part.fold is None else f"seed{seed}_fold{part.fold}"
    tree = system.config.model_dump()
    tree["run"]["dir"] = out / system.name / name
    tree["train"]["seed"] = seed
    if part.fold is not None:  # otherwise each system keeps its own data, which differ only where --vary allows it
        tree["data"] |= {"train": part.train, "val": part.val}
    return parse_config(tree)


class RunState(Enum):
    """Progress of a run."""

    NEW = "not started"
    BEGUN = "unfinished"
    DONE = "finished"


def state_of(run: Run) -> RunState:
    """State of a run, after a check that the checkpoint in its folder belongs to its configuration and data.

    Raises:
        ConfigError: the run was started with another configuration; the message names the keys.
        DataError: it was started with other labels.
        CheckpointError: the checkpoint can't be read.
    """
    folder = RunFolder(run.dir)
    if not folder.last.exists():
        return RunState.NEW
    return RunState.DONE if folder.resume(run.config).epoch == run.config.train.epochs else RunState.BEGUN


def failure_of(run: Run) -> str | None:
    """Why the last attempt at a run failed; None if it didn't fail."""
    try:
        return str(json.loads((run.dir / "failed.json").read_text("utf-8"))["reason"])
    except FileNotFoundError:
        return None


def train_runs(plan: Plan, *, say: Callable[[str], None], jobs: int = 1) -> list[Run]:
    """Train and evaluate all unfinished runs; a failed run doesn't stop the others.

    Args:
        plan: the runs; all run folders are checked before the first training.
        say: receives one line of text per step of a run.
        jobs: number of runs trained in parallel, each in a process with its share of the CPU cores. With more than
            one job, the output of a training goes to ``output.txt`` in its run folder.

    Returns:
        The failed runs; ``failed.json`` in each run folder holds the reason.

    Raises:
        DetectError: see ``state_of``.
    """
    states = {run.dir: state_of(run) for run in plan.runs}
    failed, todo = [], []
    for i, run in enumerate(plan.runs, start=1):
        if states[run.dir] is RunState.DONE:
            say(f"[{i}/{len(plan.runs)}] {run}: finished before")
            continue
        for name in ("failed.json", "detections.json", "report.json"):
            (run.dir / name).unlink(missing_ok=True)
        todo.append((f"[{i}/{len(plan.runs)}] {run}", run))
    for title, run, reason in _trained(todo, states, jobs, say):
        if reason is None:
            say(f"{title}: evaluating")
            judge_run(run)
        else:
            write_json(run.dir / "failed.json", {"reason": reason})
            say(f"{title} failed: {reason}")
            failed.append(run)
    return failed


def _trained(
    todo: Sequence[tuple[str, Run]], states: Mapping[Path, RunState], jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Run, str | None]]:
    """Yield (title, run, reason of failure or None) as each training ends."""
    if jobs == 1:
        for title, run in todo:
            say(f"{title}: {_PLANNED[states[run.dir]]}")
            yield title, run, _train(run.config)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        try:
            futures = {pool.submit(_train_in_subprocess, run.config): (title, run) for title, run in todo}
            say(f"training {len(todo)} runs, {jobs} at a time; their output goes to output.txt in the run folders")
            for future in as_completed(futures):
                yield *futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _train_in_subprocess(config: Config) -> str | None:
    """``_train`` in a separate process, with its output in ``output.txt``."""
    config.run.dir.mkdir(parents=True, exist_ok=True)
    with (config.run.dir / "output.txt").open("a", encoding="utf-8") as output, redirect_stdout(output):
        return _train(config)


_PLANNED = {RunState.NEW: "training", RunState.BEGUN: "resuming"}


def judge_run(run: Run) -> list[dict[str, Any]]:
    """COCO results of a finished run on its validation data, saved in the run folder together with a report.

    The averaged weights after the last epoch are used: selecting the epoch by its score would favour systems with
    noisy scores.
    """
    saved = run.dir / "detections.json"
    if saved.exists():
        detections: list[dict[str, Any]] = json.loads(saved.read_text("utf-8"))
        return detections
    val = run.config.data.val
    assert val is not None
    predictor = Predictor.load(run.dir / "last.pt", device=run.config.train.device, calibrated=False)
    dataset, truth = read_dataset(val, role="data.val"), coco.load(val)
    judgement = judge(truth, coco.in_ids_of(truth, predictor.detect_dataset(dataset, progress=True), dataset))
    meta = {"weights": str(predictor.weights_path), "epoch": predictor.epoch, "data": str(val)}
    write_json(run.dir / "report.json", {**judgement.summary, "meta": meta}, indent=1)
    write_json(saved, judgement.detections)
    return judgement.detections


def _train(config: Config) -> str | None:
    """Train; the reason if it failed, else None."""
    try:
        train(config, resume=True)
    except DetectError as error:
        return str(error)
    return None
