"""Runs of a benchmark: every system, seed and fold under the same terms; planned, trained, resumed."""

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


class RunState(Enum):
    """How far a run is."""

    NEW = "not started"
    BEGUN = "unfinished"
    DONE = "finished"


def state_of(run: Run) -> RunState:
    """How far a run is, after a check that its folder holds just what is asked for.

    Raises:
        ConfigError: the run there was started with another configuration; names the keys.
        DataError: it was started with other labels.
        CheckpointError: what is there can't be read.
    """
    folder = RunFolder(run.dir)
    if not folder.last.exists():
        return RunState.NEW
    return RunState.DONE if folder.resume(run.config).epoch == run.config.train.epochs else RunState.BEGUN


def failure_of(run: Run) -> str | None:
    """Why the last attempt at a run failed; None if it did not."""
    try:
        return str(json.loads((run.dir / "failed.json").read_text("utf-8"))["reason"])
    except FileNotFoundError:
        return None


def train_runs(plan: Plan, *, say: Callable[[str], None], jobs: int = 1) -> list[Run]:
    """Train and judge whatever is not finished yet; a run that fails doesn't hold up the others.

    Args:
        plan: the runs; a folder of another configuration is refused before the first training.
        say: gets a line a run.
        jobs: how many runs train at once, each in a process with its share of the cores. What they print goes to
            ``output.txt`` in their folders, unless there is but one job.

    Returns:
        The runs that failed, each with the reason in its ``failed.json``.

    Raises:
        DetectError: as ``state_of``.
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
            say(f"{title}: judging")
            judge_run(run)
        else:
            write_json(run.dir / "failed.json", {"reason": reason})
            say(f"{title} failed: {reason}")
            failed.append(run)
    return failed


_Titled = tuple[str, Run]


def _trained(
    todo: Sequence[_Titled], states: Mapping[Path, RunState], jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Run, str | None]]:
    """Each run once it has ended, with the reason if it failed."""
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
            begun = {pool.submit(_train_in_subprocess, run.config): (title, run) for title, run in todo}
            say(f"training {len(todo)} runs, {jobs} at a time; what they print is in output.txt of their folders")
            for ended in as_completed(begun):
                yield *begun[ended], ended.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _train_in_subprocess(config: Config) -> str | None:
    """As ``_train``, in a process of its own."""
    config.run.dir.mkdir(parents=True, exist_ok=True)
    with (config.run.dir / "output.txt").open("a", encoding="utf-8") as output, redirect_stdout(output):
        return _train(config)


_PLANNED = {RunState.NEW: "training", RunState.BEGUN: "resuming"}


def judge_run(run: Run) -> list[dict[str, Any]]:
    """A finished run's COCO results on its validation part, kept beside it with their report.

    They are those of the averaged weights after the last epoch: choosing an epoch by its score would favour systems
    whose score is noisy.
    """
    kept = run.dir / "detections.json"
    if kept.exists():
        found: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))
        return found
    val = run.config.data.val
    assert val is not None
    predictor = Predictor.load(run.dir / "last.pt", device=run.config.train.device, calibrated=False)
    dataset, truth = read_dataset(val, role="data.val"), coco.load(val)
    judgement = judge(truth, coco.in_ids_of(truth, predictor.detect_dataset(dataset, progress=True), dataset))
    meta = {"weights": str(predictor.weights_path), "epoch": predictor.epoch, "data": str(val)}
    write_json(run.dir / "report.json", {**judgement.summary, "meta": meta}, indent=1)
    write_json(kept, judgement.detections)
    return judgement.detections


def _train(config: Config) -> str | None:
    """Why it failed, if it did."""
    try:
        train(config, resume=True)
    except DetectError as error:
        return str(error)
    return None
