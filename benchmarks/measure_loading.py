"""Measure the time and the peak memory of loading a large data set for training.

    python benchmarks/measure_loading.py
    python benchmarks/measure_loading.py --annotations 5000000 --images 500000

Writes a COCO JSON and small image files. A separate process reads the labels and image headers as ``detect train`` does
before it reads pixels, checks every box and packs the boxes into arrays. Linux only, for the peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.images import write_image

_SIDE = 256
_LINKS = 10_000  # hard links per file; file systems have a limit


def write_data(folder: Path, annotations: int, images: int) -> Path:
    """Write a COCO JSON and its images. Images are hard links to few files, because only headers are read."""
    (folder / "images").mkdir()
    for i in range(images):
        path = folder / "images" / f"{i}.png"
        if i % _LINKS == 0:
            first = path
            write_image(first, np.zeros((_SIDE, _SIDE), np.uint8))
        else:
            os.link(first, path)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, _SIDE // 2, (annotations, 2)).tolist()
    sides = (rng.random((annotations, 2)) * _SIDE / 2 + 1).round(2).tolist()
    data = {
        "images": [
            {"id": i + 1, "file_name": f"images/{i}.png", "width": _SIDE, "height": _SIDE} for i in range(images)
        ],
        "annotations": [
            {
                "id": k + 1,
                "image_id": k % images + 1,
                "category_id": k % 6 + 1,
                "bbox": [*corner, *side],
                "area": round(side[0] * side[1], 2),
                "iscrowd": 0,
            }
            for k, (corner, side) in enumerate(zip(corners, sides))
        ],
        "categories": [{"id": i + 1, "name": f"class {i + 1}"} for i in range(6)],
    }
    path = folder / "train.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def peak_kilobytes() -> int:
    """Peak memory of this process in kB; getrusage would include the parent process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def load(path: Path) -> None:
    """Load labels as ``detect train`` does before it reads pixels; prints time and peak memory."""
    from detect.data.dataset import DetectionDataset, read_dataset
    from detect.engine.data import check_labels

    before = peak_kilobytes()
    wall, processor = time.perf_counter(), time.process_time()
    records = read_dataset(path, role="data.train")
    check_labels(records, path)
    images = DetectionDataset(records, channels=1)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = peak_kilobytes()
    print(f"{len(images.boxes_wh()):,} boxes of {len(images):,} images")
    print(f"{wall:.1f} s, of which {processor:.1f} s processor time")
    print(f"peak memory: {peak / 1e6:.2f} GB, of which {before / 1e6:.2f} GB before loading (PyTorch)")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.load is not None:
        load(args.load)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = write_data(Path(folder), args.annotations, args.images)
        print(f"{path.stat().st_size / 1e6:.0f} MB of JSON", flush=True)
        return subprocess.run([sys.executable, __file__, "--load", str(path)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
