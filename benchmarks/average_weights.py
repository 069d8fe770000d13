#!/usr/bin/env python3
"""Average the weights of runs with the same initial weights (model soup); often better than each single run.

    python benchmarks/average_weights.py runs/seed0 runs/seed1 --out runs/averaged.pt

The runs may differ in seed or schedule and must all be trained from the same --init. Averaging runs with different
random initial weights doesn't work (Wortsman et al. 2022). The last checkpoint of each run folder is used.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from detect.errors import ConfigError, DetectError
from detect.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def averaged(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Checkpoint for inference with the mean weights; integer buffers are those of the first checkpoint.

    Raises:
        ConfigError: detectors that differ in more than their weights.
    """
    first = checkpoints[0]
    if any(each.detector != first.detector for each in checkpoints):
        message = "the runs have different networks, classes, anchors or normalisation"
        raise ConfigError(message, where="average_weights", fix="average runs of one configuration on one data set")
    weights = {
        name: torch.stack([each.weights[name] for each in checkpoints]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in first.weights.items()
    }
    return replace(first, weights=weights, metrics={}, training=None)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders or checkpoint files")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt")
    args = parser.parse_args(argv)
    try:
        files = [run / "last.pt" if run.is_dir() else run for run in args.runs]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(args.out, averaged([load_checkpoint(file) for file in files]))
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
