#!/usr/bin/env python3
"""Make the model that is shipped with the library from a finished run: 16-bit weights without training state.

Its scores on a data set are compared with those of the run. Nothing is written if they differ by more than rounding
errors, or if the file is too large for a repository:

    python benchmarks/release.py runs/release --data data/release/train.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from detect.datasets import coco
from detect.evaluation.summary import judge
from detect.inference.predictor import Predictor
from detect.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detect.released import WEIGHTS

MAX_BYTES = 10_000_000
MAX_AP_CHANGE = 0.002  # absolute, of AP and AP50


def halved(checkpoint: Checkpoint) -> Checkpoint:
    """Checkpoint for inference with convolutions and linear layers in float16; norms and biases stay in float32."""
    weights = {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value
        for name, value in checkpoint.weights.items()
    }
    largest = max(float(value.abs().max()) for value in weights.values() if value.dtype == torch.float16)
    if largest == float("inf"):
        raise SystemExit("release: a weight is out of the range of float16; nothing was written")
    return replace(checkpoint, weights=weights, metrics={}, training=None)


def scores(weights: Path, data: Path) -> dict[str, float]:
    """AP and AP50 on a data set."""
    dataset, truth = coco.read(data), coco.load(data)
    detections = Predictor.load(weights, calibrated=False).detect_dataset(dataset, progress=True)
    summary = judge(truth, coco.in_ids_of(truth, detections, dataset)).summary
    return {key: round(summary[key], 6) for key in ("AP", "AP50")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run; its last checkpoint is used")
    parser.add_argument("--data", type=Path, required=True, help="COCO labels for the comparison")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file to write (default: %(default)s)")
    args = parser.parse_args()
    last = args.run / "last.pt" if args.run.is_dir() else args.run
    candidate = args.out.with_suffix(".candidate.pt")
    try:
        save_checkpoint(candidate, halved(load_checkpoint(last)))
        before, after, size = scores(last, args.data), scores(candidate, args.data), candidate.stat().st_size
        print(json.dumps({"run": before, "released": after, "bytes": size}))
        if size > MAX_BYTES or any(abs(before[key] - after[key]) > MAX_AP_CHANGE for key in before):
            print(f"release: over {MAX_BYTES:,} bytes, or a score differs by over {MAX_AP_CHANGE}; nothing was written")
            return 2
        candidate.replace(args.out)
    finally:
        candidate.unlink(missing_ok=True)
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
