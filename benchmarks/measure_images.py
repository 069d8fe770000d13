"""Measure file size and decoding time of line-camera images in each supported format.

    python benchmarks/measure_images.py
    python benchmarks/measure_images.py --size 4096 1024 --repeats 10

The image is sample steel as one long strip, 8-bit gray. Times are processor time of one core, for files that are in the
system's file cache.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from detect.cli import main as detect
from detect.images import read_image

_FORMATS = {
    "BMP": ("bmp", {}),
    "TIFF, no compression": ("tiff", {}),
    "TIFF, LZW": ("tif", {"compression": "tiff_lzw"}),
    "PNG, level 1": ("png", {"compress_level": 1}),
    "JPEG, quality 95": ("jpg", {"quality": 95}),
    "JPEG, quality 80": ("jpeg", {"quality": 80}),
}


def steel(folder: Path, width: int, height: int) -> Image.Image:
    """Frames of strips, concatenated horizontally."""
    count = -(-width // height)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        detect(["sample", "--out", str(folder), "--frames", "1", "--strips", str(count), "--size", str(height)])
    frames = [read_image(path) for path in sorted((folder / "IMAGES").rglob("*.bmp"))]
    return Image.fromarray(np.ascontiguousarray(np.concatenate(frames[:count], axis=1)[:, :width]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[4096, 1024], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--repeats", type=int, default=10, help="timed reads per format (default: %(default)s)")
    args = parser.parse_args(argv)
    width, height = args.size
    with TemporaryDirectory() as name:
        image = steel(Path(name) / "steel", width, height)
        print(f"{image.width} x {image.height} pixels, load {os.getloadavg()[0]:.1f}")
        print(
            "| format | MB | per million images | decoding | per million images, one core | MB/s for 1,000 images/s |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name_of_format, (suffix, options) in _FORMATS.items():
            path = Path(name) / f"image.{suffix}"
            image.save(path, **options)
            megabytes, times = path.stat().st_size / 1e6, []
            for _ in range(args.repeats):
                before = time.process_time()
                read_image(path)
                times.append(time.process_time() - before)
            ms = median(times) * 1e3
            row = f"{megabytes:.2f} | {megabytes:.2f} TB | {ms:.0f} ms | {ms / 3.6:.1f} h | {megabytes * 1e3:,.0f}"
            print(f"| {name_of_format} | {row} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
