"""Seeds of the streams of random numbers that a training draws from torch; none of them meets another."""

from __future__ import annotations

import numpy as np

_WEIGHTS, _EPOCH = 0, 1


def weights_seed(seed: int) -> int:
    """For the random weights that a run starts from."""
    return _derived(seed, _WEIGHTS)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """For what an epoch draws, so that it is the same in a resumed run and another on each process of a team."""
    return _derived(seed, _EPOCH, epoch, *([rank] if rank else []))


def _derived(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1
