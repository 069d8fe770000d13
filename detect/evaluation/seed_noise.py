"""How much a mean over trainings would move if they had been started from other seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def seed_noise(of_runs: NDArray[np.float64], seed: tuple[int, int] | None) -> NDArray[np.float64]:
    """Draws of that move, to be added to the mean over runs on resampled images.

    Runs are drawn with replacement, as many as there are, and the mean of their scores on the images as they are is
    held against the mean of all. With few runs this spreads too little, by (runs - 1) / runs in variance, and is
    stretched by what is missing (the rescaling bootstrap of Rao & Wu, 1988). But runs also differ because each has its
    own luck with these images, which resampling the images shows already; it is taken out (the variance component of
    seeds, by the method of moments), else it would count twice.

    Args:
        of_runs: float64[1 + resamples, runs], scores on the images as they are and on each resample of them.
        seed: of the draws; None: no noise.

    Returns:
        float64[1 + resamples], 0 in the first row; all 0 for one run, or where runs differ by their luck alone.
    """
    rows, runs = of_runs.shape
    noise = np.zeros(rows)
    differences = of_runs - of_runs.mean(axis=1, keepdims=True)
    spread = differences[0].var() * runs / max(runs - 1, 1)
    if seed is None or not spread > 0:  # NaN has no spread either
        return noise
    luck = np.nanvar(differences[1:], axis=0).mean() * runs / (runs - 1)
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=rows - 1)
    stretched = np.sqrt(runs / (runs - 1) * max(0, 1 - luck / spread))
    noise[1:] = stretched * (drawn / runs) @ differences[0]
    return noise
