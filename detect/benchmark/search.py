"""Hyperparameter search: keys and ranges, trials that train, and an Optuna study on disk shared by several workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from ..config.loading import load_config, read_yaml_file
from ..config.schema import Config
from ..engine.run_folder import RunFolder, RunLock
from ..engine.trainer import train
from ..errors import ConfigError, DetectError
from ..fileio import write_text

_TOP = ("base", "metric", "seeds", "keys")
_METRICS = ("AP", "AP50", "AP75")
_RANGE = ("low", "high", "log", "step")
_OWN = ("run.dir", "train.seed")


@dataclass(frozen=True, slots=True)
class Range:
    """Range of numbers, both ends included.

    Attributes:
        low, high: the ends; if both are integers, only integers are chosen.
        log: whether values are drawn on a logarithmic scale.
        step: step between possible values, starting at ``low``; None: 1 for integers, else continuous.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """Search space, and how a trial is scored.

    Attributes:
        base: file of the base configuration.
        overrides: key=value overrides of the base, for all trials.
        keys: dotted key -> a range, or the values to choose from, as YAML text.
        metric: "AP", "AP50" or "AP75" after the last epoch, on data.val.
        seeds: trainings per trial; the score is their mean.
    """

    base: Path
    overrides: tuple[str, ...]
    keys: Mapping[str, Range | tuple[str, ...]]
    metric: str
    seeds: int

    def config(self, chosen: Mapping[str, float | int | str], folder: Path, seed: int) -> Config:
        """The configuration of one training.

        Raises:
            ConfigError: an invalid combination of values.
        """
        run_overrides = [f"run.dir={json.dumps(str(folder))}", f"train.seed={seed}"]
        chosen_overrides = [f"{key}={text}" for key, text in chosen.items()]
        return load_config(self.base, [*self.overrides, *chosen_overrides, *run_overrides])

    def described(self) -> dict[str, Any]:
        """Plain JSON values that identify the search."""
        keys = {
            key: [each.low, each.high, each.log, each.step] if isinstance(each, Range) else list(each)
            for key, each in self.keys.items()
        }
        base = load_config(self.base, self.overrides).model_dump(mode="json", exclude={"run": {"dir"}})
        return {"base": base, "keys": keys, "metric": self.metric, "seeds": self.seeds}


def read_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Read a search from YAML; docs/search.md shows the format.

    Args:
        path: the YAML file; ``base`` is relative to its folder.
        overrides: key=value overrides of the base, for all trials.

    Raises:
        ConfigError: an unreadable file, an unknown key, a value out of its range, or an unsuitable base.
    """
    tree = _read(path)
    try:
        space = Space(
            path.parent / _text(tree, "base"),
            tuple(overrides),
            _keys(tree.get("keys")),
            _one_of(tree.get("metric", "AP"), "metric", _METRICS),
            _positive_int(tree.get("seeds", 1), "seeds"),
        )
    except ConfigError as error:
        raise ConfigError(error.found, where=path, fix=error.fix) from None
    _check_base(space)
    return space


def _read(path: Path) -> dict[str, Any]:
    tree = read_yaml_file(path, "search")
    if not isinstance(tree, dict):
        raise ConfigError("the file is no mapping", where=path, fix=f"write {', '.join(_TOP)}")
    unknown = next((key for key in tree if key not in _TOP), None)
    if unknown is not None:
        raise ConfigError(f"unknown key {unknown!r}", where=path, fix=f"use {', '.join(_TOP)}")
    return tree


def _check_base(space: Space) -> None:
    """Check that each key exists in the configuration and that every trial gets a score."""
    chosen = {key: str(each.low) if isinstance(each, Range) else each[0] for key, each in space.keys.items()}
    config = space.config(chosen, Path("search"), 0)
    if config.data.val is None:
        raise ConfigError("data.val is unset, so no trial has a score", where=space.base, fix="set data.val")
    if config.train.early_stop:
        message = f"train.early_stop={config.train.early_stop}: the training length would depend on the score"
        raise ConfigError(message, where=space.base, fix="set train.early_stop=0")
    if config.train.processes > 1:
        message = f"train.processes={config.train.processes}, but a trial trains in one process"
        raise ConfigError(message, where=space.base, fix="set train.processes=1, and start several workers")


def _keys(value: Any) -> dict[str, Range | tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(
            f"'keys' is {value!r}", fix="name the keys to vary, such as train.lr: {low: 1e-4, high: 1e-2}"
        )
    own = next((key for key in value if key in _OWN), None)
    if own is not None:
        raise ConfigError(f"'{own}' can't be searched: it is set for each trial", fix="take it out of keys")
    return {str(key): _values(str(key), values) for key, values in value.items()}


def _values(key: str, value: Any) -> Range | tuple[str, ...]:
    if isinstance(value, list):
        if len(value) < 2:
            raise ConfigError(f"'{key}' has only {len(value)} value(s)", fix="give two or more values, or a range")
        return tuple(json.dumps(each) for each in value)
    if not isinstance(value, dict) or not {"low", "high"} <= value.keys() or not value.keys() <= set(_RANGE):
        raise ConfigError(
            f"'{key}' is {value!r}", fix="give a list of values, or {low: ..., high: ...} with log or step"
        )
    low, high, step = (_number(value.get(name), f"{key}.{name}") for name in ("low", "high", "step"))
    log = value.get("log", False)
    if low is None or high is None or not low < high:
        raise ConfigError(f"'{key}' goes from {low} to {high}", fix="give two numbers, the lower one first")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise ConfigError(
            f"'{key}' can't be searched on a logarithmic scale", fix="use log: true, ends above 0 and no step"
        )
    if step is not None and step <= 0:
        raise ConfigError(f"'{key}.step' is {step}", fix="give a number above 0")
    return Range(low, high, log, step)


def _number(value: Any, key: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ConfigError(f"'{key}' is {value!r}", fix="give a number (YAML wants 1.0e-4, not 1e-4)")
    return value


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"'{key}' is {value!r}", fix="name the YAML file that the search starts from")
    return value


def _one_of(value: Any, key: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ConfigError(f"'{key}' is {value!r}", fix=f"it should be {', '.join(known[:-1])} or {known[-1]}")
    return str(value)


def _positive_int(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"'{key}' is {value!r}", fix="give a whole number, 1 or more")
    return value


_REASON = "failed.txt"
_STARTUP = 8  # random trials before sampling and pruning use the results of earlier trials


class TrialPruned(Exception):
    """The trial's score is below the median of the other trials at the same epoch."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a study.

    Attributes:
        number: from 0.
        state: "complete", "pruned", "failed" or "running".
        chosen: dotted key -> value, as YAML text.
        score: the metric, 0 to 1; for a pruned trial the last reported value; None without any value.
        reason: why it failed, else None.
        folder: contains one run folder per seed.
    """

    number: int
    state: str
    chosen: dict[str, str]
    score: float | None
    reason: str | None
    folder: Path


def search(space: Space, out: Path, *, trials: int, seed: int, prune: bool, say: Callable[[str], None]) -> list[Trial]:
    """Run trials until the study has ``trials`` of them, after finishing trials abandoned by workers of this machine.

    The values of a trial depend on the seed, its number and the earlier trials (tree-structured Parzen estimator,
    Bergstra et al. 2011, after eight random trials).

    Args:
        space: the search space.
        out: folder of the study; several workers may share it, also over a network.
        trials: total number, including trials of earlier calls and of other workers.
        seed: random seed of the sampler.
        prune: stop a trial whose score is below the median of the others after the same number of epochs.
        say: receives a line of text at the start and at the end of each trial.

    Returns:
        All trials of the study, best first.

    Raises:
        ConfigError: the folder holds another search.
    """
    worker = _Worker(space, out, seed=seed, prune=prune, say=say)
    while (abandoned := worker.abandoned()) is not None:
        with abandoned.lock:
            worker.run(abandoned)
    while (started := worker.begin(trials)) is not None:
        with started.lock:
            worker.run(started)
    return worker.all_trials()


@dataclass(frozen=True, slots=True)
class _RunningTrial:
    """A trial that this worker has locked."""

    number: int
    lock: RunLock
    live: optuna.Trial | None  # None: started by another worker; not pruned


class _Worker:
    def __init__(self, space: Space, out: Path, *, seed: int, prune: bool, say: Callable[[str], None]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.out, self.seed, self.prune, self.say = space, out, seed, prune, say
        storage = JournalStorage(JournalFileBackend(str(out / "study.log")))
        with self._study_lock():
            self.study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
            )
            stored = self.study.user_attrs.get("search")
            if stored is None:
                self.study.set_user_attr("search", space.described())
            elif stored != space.described():
                message = "the folder holds another search (base, keys, metric or seeds differ)"
                raise ConfigError(message, where=out, fix="choose another --out, or give the same search")

    def begin(self, max_trials: int) -> _RunningTrial | None:
        """Start the next trial and choose its values; None if the study has ``max_trials`` trials."""
        with self._study_lock():
            number = len(self.study.get_trials(deepcopy=False))
            if number >= max_trials:
                return None
            seed = self.seed * 1_000_003 + number  # by trial, so that a resumed study chooses the same values
            self.study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=_STARTUP)
            trial = self.study.ask()
            for key, values in self.space.keys.items():
                _suggest(trial, key, values)
            return _RunningTrial(trial.number, self._locked(trial.number), trial)

    def abandoned(self) -> _RunningTrial | None:
        """Lock a running trial whose worker has ended; None if there is none."""
        with self._study_lock():
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                with suppress(ConfigError):  # another worker holds the lock
                    return _RunningTrial(trial.number, self._locked(trial.number), None)
        return None

    def run(self, running: _RunningTrial) -> None:
        """Train a trial and report its score, its pruning or its failure to the study."""
        number, folder = running.number, self._folder(running.number)
        trial = self.study.get_trials(deepcopy=False)[number]
        chosen = ", ".join(f"{key}={value}" for key, value in _texts(trial).items())
        self.say(f"trial {number}: {chosen}")
        try:
            score = self._score(trial, folder, running.live)
        except TrialPruned:
            self.study.tell(number, state=TrialState.PRUNED)
            self.say(f"trial {number}: pruned, below the median of the others")
        except DetectError as error:
            write_text(folder / _REASON, f"{error}\n")
            self.study.tell(number, state=TrialState.FAIL)
            self.say(f"trial {number}: failed: {error}")
        else:
            self.study.tell(number, score)
            self.say(f"trial {number}: {self.space.metric} {score:.3f}")

    def all_trials(self) -> list[Trial]:
        """Complete trials by falling score, then all others by falling score and number."""
        trials = [self._record(each) for each in self.study.get_trials(deepcopy=False)]
        return sorted(trials, key=lambda each: (each.state != "complete", -(each.score or 0), each.number))

    def _score(self, trial: FrozenTrial, folder: Path, live: optuna.Trial | None) -> float:
        scores = []
        for seed in range(self.space.seeds):
            run = folder / f"seed{seed}"
            config = self.space.config(_texts(trial), run, seed)
            run.mkdir(parents=True, exist_ok=True)
            reporting = live if seed == 0 and self.prune else None
            with (run / "output.txt").open("a", encoding="utf-8") as output, redirect_stdout(output):
                train(config, resume=True, on_epoch=partial(_report_epoch, reporting, self.space.metric))
            scores.append(float(RunFolder(run).read_log()[-1]["val"][self.space.metric] or 0.0))
        return sum(scores) / len(scores)

    def _record(self, trial: FrozenTrial) -> Trial:
        folder = self._folder(trial.number)
        failed = trial.state is TrialState.FAIL and (folder / _REASON).exists()
        reason = (folder / _REASON).read_text("utf-8").strip() if failed else None
        reported = trial.intermediate_values
        score = trial.value if trial.state is TrialState.COMPLETE else reported[max(reported)] if reported else None
        return Trial(trial.number, _STATES[trial.state], _texts(trial), score, reason, folder)

    def _folder(self, number: int) -> Path:
        return self.out / f"trial{number:04d}"

    def _locked(self, number: int) -> RunLock:
        self._folder(number).mkdir(parents=True, exist_ok=True)
        lock = RunLock(self._folder(number))
        lock.acquire()
        return lock

    @contextmanager
    def _study_lock(self) -> Iterator[None]:
        lock = JournalFileOpenLock(str(self.out / "study"))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


def _report_epoch(live: optuna.Trial | None, metric: str, line: dict[str, Any]) -> None:
    if live is None or line["val"] is None:
        return
    live.report(line["val"][metric] or 0.0, line["epoch"])  # None: the validation data hold no box
    if line["epoch"] < line["epochs"] and live.should_prune():
        raise TrialPruned


def _suggest(trial: optuna.Trial, key: str, values: Range | tuple[str, ...]) -> None:
    if not isinstance(values, Range):
        trial.suggest_categorical(key, values)
    elif isinstance(values.low, int) and isinstance(values.high, int) and isinstance(values.step or 1, int):
        trial.suggest_int(key, values.low, values.high, log=values.log, step=int(values.step or 1))
    else:
        trial.suggest_float(key, values.low, values.high, log=values.log, step=values.step)


def _texts(trial: FrozenTrial) -> dict[str, str]:
    """Chosen values: dotted key -> YAML text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in trial.params.items()}
