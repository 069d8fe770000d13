"""Measure the time and the peak memory of detection on long strips of several lengths.

    python benchmarks/measure_strip.py
    python benchmarks/measure_strip.py --rows 16384 --one-file
    python benchmarks/measure_strip.py --rows 4096 65536 --weights runs/mine --device cuda

Writes a strip of noise into files of 2,048 rows, or into one file, and runs the detector in a separate process. Without
--weights this is the default detector with random weights, which returns the maximum number of detections per tile:
more than on real steel. Linux only, for the peak memory.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.images import write_image

_FILE_ROWS = 2048


def write_strip(folder: Path, rows: int, width: int, *, one_file: bool) -> list[Path]:
    """Write the strip; returns its files in order."""
    noise = np.random.default_rng(0).normal(128, 20, (_FILE_ROWS, width)).clip(0, 255).astype(np.uint8)
    if one_file:
        write_image(folder / "strip.bmp", np.concatenate([noise] * -(-rows // _FILE_ROWS))[:rows])
        return [folder / "strip.bmp"]
    paths = []
    for top in range(0, rows, _FILE_ROWS):
        paths.append(folder / f"strip_{top:07d}.bmp")
        write_image(paths[-1], noise[: rows - top])
    return paths


def write_weights(path: Path, side: int, **model_settings: Any) -> None:
    """Write a detector of six classes with random weights, the default one except for ``model_settings``."""
    from detect.config.schema import ModelConfig
    from detect.models.anchors import default_anchors
    from detect.models.checkpoint import Checkpoint, DetectorSpec, save_checkpoint
    from detect.models.faster_rcnn import proposal_strides

    model, names = ModelConfig.model_validate(model_settings), tuple(f"class {i + 1}" for i in range(6))
    shapes = default_anchors(len(proposal_strides(model, 1)))
    detector = DetectorSpec(model, names, 1, (0.5,), (0.1,), shapes, side=side)
    save_checkpoint(path, Checkpoint(detector, detector.build().state_dict(), epoch=0))


def peak_megabytes() -> int:
    """Peak memory of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1000


def detect(weights: Path, files: Sequence[Path], tile: int, device: str) -> None:
    """Run the detector on a strip and print one row of the table."""
    from detect import Predictor

    predictor = Predictor.load(weights, device=device)
    predictor(np.zeros((tile, tile), np.uint8))
    before, started = peak_megabytes(), time.perf_counter()
    detections = predictor.strip(files, tile=tile)
    seconds = time.perf_counter() - started
    print(f"{seconds:>8.1f} s  {peak_megabytes():>6,} MB  {before:>6,} MB  {len(detections):>8,} boxes", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tile", type=int, default=400)
    parser.add_argument("--one-file", action="store_true", help="write one file, of at most 50 million pixels")
    parser.add_argument("--weights", type=Path, metavar="RUN")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--files", nargs="+", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.files:
        detect(args.weights, args.files, args.tile, args.device)
        return 0
    print("    rows      time     peak  before strip", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights or Path(folder) / "best.pt"
        if args.weights is None:
            write_weights(weights, args.tile)
        for rows in args.rows:
            strip = Path(folder) / str(rows)
            strip.mkdir()
            files = write_strip(strip, rows, args.width, one_file=args.one_file)
            print(f"{rows:>8,}", end="", flush=True)
            options = ["--weights", weights, "--tile", args.tile, "--device", args.device, "--files", *files]
            done = subprocess.run([sys.executable, __file__, *map(str, options)], check=False).returncode
            if done:
                return done
    return 0


if __name__ == "__main__":
    sys.exit(main())
