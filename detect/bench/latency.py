"""How long detectors take for one image, measured in turns so that a busy moment hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median

import torch

from ..images import Pixels
from ..inference import Predictor

_WARM_UP = 3  # calls of each before the clock runs: the first ones choose kernels and fill caches


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
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in names:
            for i in range(_WARM_UP):
                predictors[name](images[i % len(images)])
        for turn in range(rounds * len(images)):
            start = turn % len(names)  # nobody always follows the same one
            for name in names[start:] + names[:start]:
                started = time.perf_counter()
                predictors[name](images[turn % len(images)])
                times[name].append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(before)
    return {name: median(each) for name, each in times.items()}
