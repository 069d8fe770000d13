"""The figures of a bench: scores with their spread, differences, cost and latency."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from statistics import fmean, median, stdev
from typing import Any, TypeVar

import torch

from .. import __version__
from ..data.dataset import read_dataset
from ..datasets import coco
from ..engine.run_folder import RunFolder
from ..evaluation.bootstrap import (
    BootstrapSamples,
    MetricIntervals,
    confidence_intervals,
    paired_difference_intervals,
    resample,
)
from ..evaluation.coco_eval import average_precisions, run_coco_eval
from ..evaluation.records import CocoEvaluation, check_detections, check_truth
from ..images import Pixels, read_image
from ..inference.predictor import Predictor
from ..models.checkpoint import load_checkpoint
from ..models.cost import model_cost
from ..structures import Dataset
from .plan import BenchFold, Plan, Run, scene_ids, shared_terms
from .running import RunState, failure_of, judge_run, state_of

_WARM_UP = 3  # calls of each before the clock runs: the first ones choose kernels and fill caches

Named = TypeVar("Named")


def median_latencies_ms(
    predictors: Mapping[str, Predictor], images: Sequence[Pixels], *, threads: int, rounds: int = 3
) -> dict[str, float]:
    """Median milliseconds from an image array to its boxes, one image at a time, for each detector.

    Speeds measured in one call compare as ratios; from call to call and from machine to machine they don't.

    Args:
        predictors: by name.
        images: arrays as ``Predictor`` takes them; each is seen by every detector in turn.
        threads: that PyTorch may use on a CPU.
        rounds: how often to go through the images.
    """
    names = list(predictors)
    times: dict[str, list[float]] = {name: [] for name in names}
    with limited_to(threads):
        for name in names:
            for i in range(_WARM_UP):
                predictors[name](images[i % len(images)])
        for turn in range(rounds * len(images)):
            for name in in_turn(names, turn):
                started = time.perf_counter()
                predictors[name](images[turn % len(images)])
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: median(each) for name, each in times.items()}


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads on a CPU, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turn(names: Sequence[Named], turn: int) -> list[Named]:
    """The names in another order each turn, so that nobody always follows the same one."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def measured_on(device: str, threads: int) -> dict[str, Any]:
    """What speeds were measured with, for a bench's JSON."""
    return {
        "speed": {"device": device, "threads": threads, "machine": platform.processor() or platform.machine()},
        "versions": {"detect": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


SCHEMA = 1
CONFIDENCE = 0.95
_SPEED_IMAGES = 20


def gather(
    plan: Plan,
    *,
    threads: int = 2,
    device: str = "cpu",
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Judge all finished runs together and measure their speed; what is missing or has failed is told in its place.

    Args:
        plan: the bench; nothing is trained.
        threads, device: that the speed is measured with.
        resamples: draws behind the intervals.
        say: gets a line for each step that takes a while.

    Returns:
        Plain JSON values, as bench.json has them; docs/bench.md tells each.

    Raises:
        DetectError: as ``state_of``.
    """
    names = [system.name for system in plan.systems]
    lacking = [run for run in plan.runs if state_of(run) is not RunState.DONE]
    done = [name for name in names if all(run.system != name for run in lacking)]
    data = {part: read_dataset(part.val, role="data.val") for part in plan.parts}
    say("judging all runs on the same resampled images")
    judged = {name: [_evaluated(plan.runs_of(name, part)) for part in plan.parts] for name in done}
    groups = _groups(data, plan.group_pattern)
    drawn = {name: resample(folds, resamples=resamples, groups=groups) for name, folds in judged.items()}
    say(f"measuring speed on {device}, in turns")
    speed = _speed(plan, done, next(iter(data.values())), threads=threads, device=device) if done else {}
    rows = {name: _state([run for run in lacking if run.system == name]) for name in names}
    for name in done:
        rows[name] |= _cost(plan.runs_of(name, plan.parts[0])[0], data[plan.parts[0]])
        rows[name] |= _scores(judged[name], drawn[name]) | _training(plan, name, judged[name])
        rows[name] |= {"ms_per_image": speed[name]}
        if plan.against in done and name != plan.against:
            rows[name]["difference"] = _difference(drawn[name], drawn[plan.against])
            rows[name]["relative_latency"] = speed[name] / speed[plan.against]
    return {
        "schema": SCHEMA,
        "against": plan.against,
        "seeds": plan.seeds,
        "folds": None if plan.parts[0].fold is None else len(plan.parts),
        "group_pattern": plan.group_pattern,
        "terms": shared_terms([system.config for system in plan.systems]),
        "data": _data_description(data, scenes=sum(len(set(each)) for each in groups)),
        "confidence": CONFIDENCE,
        "resamples": resamples,
        **measured_on(device, threads),
        "systems": [{"name": name, **row} for name, row in rows.items()],
    }


def _state(lacking: Sequence[Run]) -> dict[str, Any]:
    """Of a system, by those of its runs that aren't finished; a sentence for each of them."""
    reasons = [failure_of(run) for run in lacking]
    told = [
        f"{run} is {state_of(run).value}" if reason is None else f"{run} failed: {reason}"
        for run, reason in zip(lacking, reasons)
    ]
    return {"state": "failed" if any(reasons) else "unfinished" if lacking else "complete", "missing": told}


def _groups(data: Mapping[BenchFold, Dataset], group_pattern: str | None) -> list[list[int]]:
    """Scenes of each part's images in the judge's order, that of their ids; found among the images of all parts."""
    of_all = iter(scene_ids([image for dataset in data.values() for image in dataset.images], group_pattern))
    groups = []
    for part, dataset in data.items():
        ids = [item["id"] for item in coco.load(part.val)["images"]]
        groups.append([scene for _, scene in sorted(zip(ids, islice(of_all, len(dataset.images))))])
    return groups


def _evaluated(runs: Sequence[Run]) -> list[CocoEvaluation]:
    labels = check_truth(coco.load(runs[0].part.val))
    return [run_coco_eval(labels, check_detections(judge_run(run), labels), sizes=False) for run in runs]


def _scores(folds: Sequence[Sequence[CocoEvaluation]], drawn: BootstrapSamples) -> dict[str, Any]:
    """Mean over seeds and folds, spread over seeds, and intervals; per class likewise."""
    both, images = (confidence_intervals(drawn, include_seeds=each, confidence=CONFIDENCE) for each in (True, False))
    scores: dict[str, Any] = {"interval_covers": both.covers}
    for key in both.overall:
        scores[key] = _score(key, None, folds, both, images)
    scores["per_class"] = {
        name: {key: _score(key, k, folds, both, images) for key in both.overall}
        for k, name in enumerate(drawn.categories)
    }
    return scores


def _score(
    key: str,
    category: int | None,
    folds: Sequence[Sequence[CocoEvaluation]],
    both: MetricIntervals,
    images: MetricIntervals,
) -> dict[str, Any]:
    name = None if category is None else folds[0][0].truth.categories[category]
    interval, of_images = ((each.overall if name is None else each.per_class[name])[key] for each in (both, images))
    by_seed = [
        [value for run in runs if (value := average_precisions(run, category)[key]) is not None] for runs in zip(*folds)
    ]
    means = [fmean(values) for values in by_seed if values]
    return {
        "mean": interval.value,
        "sd": stdev(means) if len(means) > 1 else None,
        "low": interval.low,
        "high": interval.high,
        "images_only": [of_images.low, of_images.high],
    }


def _difference(a: BootstrapSamples, b: BootstrapSamples) -> dict[str, Any]:
    both, images = (
        paired_difference_intervals(a, b, include_seeds=each, confidence=CONFIDENCE) for each in (True, False)
    )
    told: dict[str, Any] = {"interval_covers": both.covers}
    for key, interval in both.overall.items():
        of_images = images.overall[key]
        told[key] = {
            **asdict(interval),
            "verdict": interval.verdict(),
            "images_only": [of_images.low, of_images.high],
        }
    return told


def _training(plan: Plan, name: str, judged: Sequence[Sequence[CocoEvaluation]]) -> dict[str, Any]:
    """Each run with its figures, and the mean time of their trainings, validations left out."""
    runs = []
    for part, evaluated in zip(plan.parts, judged):
        for run, each in zip(plan.runs_of(name, part), evaluated):
            minutes = sum(line["seconds"] for line in RunFolder(run.dir).read_log()) / 60
            place = {"dir": str(run.dir), "seed": run.seed, "fold": part.fold}
            runs.append({**place, "minutes": minutes, **average_precisions(each)})
    return {"training_minutes": fmean(run["minutes"] for run in runs), "runs": runs}


def _cost(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Of one image of the size that most have; the sizes of anchors, fitted to a fold, don't change it."""
    size_wh = Counter((image.width, image.height) for image in dataset.images).most_common(1)[0][0]
    return asdict(model_cost(load_checkpoint(run.dir / "last.pt").load_model(), size_wh)) | {"size_wh": list(size_wh)}


def _speed(plan: Plan, names: Sequence[str], dataset: Dataset, *, threads: int, device: str) -> dict[str, float]:
    runs = {name: plan.runs_of(name, plan.parts[0])[0] for name in names}
    predictors = {name: Predictor.load(run.dir / "last.pt", device=device) for name, run in runs.items()}
    step = max(1, len(dataset.images) // _SPEED_IMAGES)
    images = [read_image(image.path) for image in dataset.images[::step][:_SPEED_IMAGES]]
    return median_latencies_ms(predictors, images, threads=threads)


def _data_description(data: dict[BenchFold, Dataset], *, scenes: int) -> dict[str, Any]:
    images = [image for dataset in data.values() for image in dataset.images]
    return {
        "val": [str(part.val) for part in data],
        "images": len(images),
        "scenes": scenes,
        "boxes": sum(not box.crowd for image in images for box in image.boxes),
        "categories": list(next(iter(data.values())).categories),
    }
