"""Which judged runs the paths given to ``detect compare`` mean, what to call them, and which labels judge them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..released import HOME, is_released
from .common import UsageError

_SEED = re.compile(r"seed\d+(?:_fold(?P<fold>\d+))?")


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One training's detections.

    Attributes:
        detections: COCO results.
        labels: what they were judged by, as far as known.
        fold: that it was judged on, from 1; None without folds.
    """

    detections: Path
    labels: Path | None
    fold: int | None


def runs_of(given: Path) -> list[JudgedRun]:
    """The runs of one system: a file, a run folder, or a folder with runs named seed0 or seed0_fold1 and so on.

    Raises:
        UsageError: there is nothing of that kind, or a run without detections.
    """
    if is_released(given):
        if not HOME.is_dir():
            fix = "call detect evaluate released --data LABELS.json first"
            raise UsageError("the released model has not been judged here", fix=fix)
        given = HOME
    if given.is_file():
        return [JudgedRun(given, _labels(given.parent, given), None)]
    if not given.is_dir():
        raise UsageError(f"{given}: no such folder or file", fix="give a run folder or a file of COCO results")
    detections = _detections(given)
    if detections is not None:
        return [JudgedRun(detections, _labels(given, detections), None)]
    runs = []
    for folder in sorted(given.iterdir()):
        seed = _SEED.fullmatch(folder.name)
        if seed is None or not folder.is_dir():
            continue
        detections = _detections(folder)
        if detections is None:
            fix = f"finish its training, or call detect evaluate {folder}"
            raise UsageError(f"{folder} holds no detections.json", fix=fix)
        runs.append(JudgedRun(detections, _labels(folder, detections), int(seed["fold"]) if seed["fold"] else None))
    if not runs:
        fix = f"call detect evaluate {given} first" if (given / "config.yaml").exists() else "give a run folder"
        raise UsageError(f"{given} holds no detections.json and no runs seed0, seed1, ...", fix=fix)
    return runs


def system_names(given: Sequence[Path], wanted: Sequence[str] | None) -> list[str]:
    """What to call the systems: as wanted, else by file or folder, with folders above where two would be the same.

    Raises:
        UsageError: too few or equal names, or the same path twice.
    """
    if wanted is not None:
        if len(wanted) != len(given) or len(set(wanted)) < len(wanted) or not all(wanted):
            raise UsageError(
                f"--names gives {', '.join(wanted)} for {len(given)} systems", fix="give each its own name"
            )
        return list(wanted)
    parts = [_telling(path.resolve()) for path in given]
    for count in range(1, max(map(len, parts)) + 1):
        called = ["/".join(each[-count:]) for each in parts]
        if len(set(called)) == len(called):
            return called
    raise UsageError(f"two of {', '.join(map(str, given))} are the same", fix="name each system once")


def labels_by_fold(systems: Mapping[str, Sequence[JudgedRun]], given: Path | None) -> dict[int | None, Path]:
    """COCO labels of each fold, under None without folds: those given, else those of the first run that knows its own.

    Raises:
        UsageError: systems with other folds, or no labels.
    """
    (first, theirs), *others = ((name, sorted({run.fold or 0 for run in runs})) for name, runs in systems.items())
    for name, folds in others:
        if folds != theirs:
            told = [f"the folds {', '.join(map(str, each))}" if any(each) else "no folds" for each in (theirs, folds)]
            found = f"{first} has {told[0]} and {name} has {told[1]}"
            raise UsageError(found, fix="compare systems of one bench")
    if given is not None:
        if any(theirs):
            raise UsageError("--data has no meaning with folds", fix="leave it out: each fold has its own labels")
        return {None: given}
    data: dict[int | None, Path] = {}
    for fold in theirs:
        known = [run.labels for runs in systems.values() for run in runs if (run.fold or 0) == fold and run.labels]
        if not known:
            raise UsageError("nothing says what to judge by", fix="name the COCO labels with --data")
        if not known[0].exists():
            raise UsageError(f"the runs' labels {known[0]} aren't there", fix="name the COCO labels with --data")
        data[fold or None] = known[0]
    return data


def read_truth(path: Path) -> dict[str, Any]:
    """Labels to judge by, in any form of COCO JSON that can be converted; images may be without file names.

    Raises:
        DataError: as ``coco.load``.
    """
    from ..datasets import coco

    return coco.load(path, read_images=False)


def read_results(path: Path, image_ids: Iterable[int | str], category_ids: Iterable[int | str]) -> Any:
    """COCO results with ids in the form that those of the labels have; checked where they are judged.

    Raises:
        DataError: it can't be read or is no JSON.
    """
    from ..datasets import coco

    return coco.with_ids_of(read_json(path, fix="give COCO results"), image_ids, category_ids)


def read_json(path: Path, *, fix: str = "give a COCO JSON file") -> Any:
    """A JSON file; ``fix`` is what to do if it is none.

    Raises:
        DataError: it can't be read or is no JSON.
    """
    from .. import fileio as files

    try:
        return files.read_json(path)
    except OSError as error:
        raise DataError(f"can't read the file ({error.strerror})", where=path, fix="check the path") from None
    except ValueError as error:  # not JSON, or not even text
        raise DataError(f"the file is not valid JSON ({error})", where=path, fix=fix) from None


def _telling(path: Path) -> list[str]:
    """Parts of the path that tell systems apart; a run seed0 is named with its system."""
    parts = [*path.parts[1:-1], path.stem if path.is_file() else path.name]
    while len(parts) > 1 and parts[-1] in ("detections", "report"):
        parts.pop()
    if len(parts) > 1 and _SEED.fullmatch(parts[-1]):
        parts[-2:] = ["/".join(parts[-2:])]
    return parts


def _detections(folder: Path) -> Path | None:
    places = (folder / "detections.json", folder / "report" / "detections.json")
    return next((place for place in places if place.is_file()), None)


def _labels(run_dir: Path, detections: Path) -> Path | None:
    """What the report beside the detections was judged by, else the run's data.val."""
    report, config_file = detections.with_name("report.json"), run_dir / "config.yaml"
    if detections.name == "detections.json" and report.is_file():
        told = read_json(report)
        meta = told.get("meta") if isinstance(told, dict) else None
        if isinstance(meta, dict) and meta.get("data"):
            return Path(str(meta["data"]))
    if not config_file.exists():
        return None
    from ..config.loading import load_config

    return load_config(config_file, []).data.val
