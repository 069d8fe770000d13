"""How long detectors take for one image, measured in turns so that a busy moment hits all of them alike."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, TypeVar

import torch

from .. import __version__
from ..images import Pixels
from ..inference import Predictor

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
