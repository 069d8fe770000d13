#!/usr/bin/env python3
"""Draw the images of the documentation: sample steel with boxes, the served page, the demo's report and detections.

Run it after `make demo`. Screenshots need Chromium; without it, existing screenshots are kept.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chromium import BROWSER, Chromium
from detect.images import read_image, write_image
from detect.synthetic.scenes import CATEGORIES, sample_image
from detect.visualize import class_colours, contact_sheet, draw_boxes, draw_detections

Picture = NDArray[np.uint8]

_ROOT = Path(__file__).resolve().parent.parent
_OUT = _ROOT / "docs" / "images"
_GRAYS = 36  # enough for steel; with 256 grays, the grain would make the file three times as large
# Colours of the page, and mixed colours at the edges of letters.
_PAGE = "f3f5f8 131a24 566174 dfe4eb f1f4f8 1463c7 8a93a3 b9c1cd 6f9fdd b6d0f0"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the images into ``--out``; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/make_pictures.py --seed 0")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="evaluated run (default: runs/demo)")
    parser.add_argument("--data", type=Path, default=Path("data/demo/val.json"), help="images for the detections")
    parser.add_argument("--threshold", type=float, default=0.5, help="minimum score to draw (default: 0.5)")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder (default: docs/images)")
    parser.add_argument("--rows", type=int, default=3, help="images per class (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    _save(_sample(args.rows, args.seed), args.out / "sample.png")
    _screenshot_serve(args.out / "serve.png")
    if (args.run / "best.pt").exists():
        _save(_detections(args.run, args.data, args.threshold), args.out / "detections.png")
        _screenshot(args.run / "report" / "report.html", args.out / "report.png")
    else:
        print(f"{args.run} contains no run: run make demo first for detections.png and report.png", file=sys.stderr)
    return 0


def _sample(rows: int, seed: int) -> Picture:
    """Sample images with their true boxes, one column per class."""
    images = []
    for number in range(1, rows + 1):
        for category in CATEGORIES:
            pixels, boxes = sample_image(category, number, seed=seed)
            images.append(draw_boxes(pixels, boxes, scale=1, categories=CATEGORIES))
    return contact_sheet(images, columns=len(CATEGORIES))


def _detections(run: Path, data: Path, threshold: float) -> Picture:
    """Detections of a run on the first validation image of every class."""
    from detect.datasets import coco
    from detect.inference.predictor import Predictor

    predictor, dataset = Predictor.load(run), coco.read(data)
    first = {image.path.stem.rpartition("_")[0]: image.path for image in reversed(dataset.images)}
    images = [
        draw_detections(read_image(first[name]), predictor(first[name]).above(threshold), scale=2)
        for name in dataset.categories
    ]
    return contact_sheet(images, columns=3)


def _screenshot(page: Path, file: Path) -> None:
    """Screenshot of the top of a page."""
    if BROWSER is None or not page.exists():
        print(f"{file} is kept: there is no {'report' if BROWSER else 'Chromium'}", file=sys.stderr)
        return
    with Chromium(1200, 1500) as browser:
        browser.open(page.resolve().as_uri())
        _save_screenshot(browser, file)


def _screenshot_serve(file: Path) -> None:
    """Screenshot of the page of detect serve with detections of the released model on sample steel."""
    if BROWSER is None:
        print(f"{file} is kept: there is no Chromium", file=sys.stderr)
        return
    command = [sys.executable, "-m", "detect", "serve", "released", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server,
        Chromium(1200, 1150) as browser,
    ):
        steel = [Path(folder) / f"{name}.png" for name in ("patches", *(n for n in CATEGORIES if n != "patches"))]
        for number, path in enumerate(steel, 1):
            write_image(path, sample_image(path.stem, number, seed=3)[0])
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        browser.open(address[0].rstrip(";"))
        browser.wait("!document.getElementById('open').hidden")
        browser.give_files("#files", steel)
        browser.wait("document.querySelectorAll('#thumbs .count').length === 6 && !!document.querySelector('.box')")
        browser.value("document.getElementById('subject').lastChild.textContent = '127.0.0.1:8000'")
        _save_screenshot(browser, file, _palette(28, _PAGE))
        server.terminate()


def _save_screenshot(browser: Chromium, file: Path, palette: Pillow.Image | None = None) -> None:
    with TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        browser.screenshot(shot)
        screenshot = Pillow.open(shot).convert("RGB")
    reduced = (
        screenshot.quantize(128) if palette is None else screenshot.quantize(palette=palette, dither=Pillow.Dither.NONE)
    )
    reduced.save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def _save(image: Picture, path: Path) -> None:
    pillow_image = Pillow.fromarray(image)
    pillow_image.quantize(palette=_palette(), dither=Pillow.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {pillow_image.width} x {pillow_image.height} pixels, {path.stat().st_size / 1000:.0f} kB")


def _palette(grays: int = _GRAYS, more: str = "") -> Pillow.Image:
    """Palette of grays from black to white, the class colours, and further colours in hexadecimal."""
    colours = [(round(i * 255 / (grays - 1)),) * 3 for i in range(grays)] + list(class_colours(CATEGORIES).values())
    colours += [(each[0], each[1], each[2]) for each in map(bytes.fromhex, more.split())]
    palette = Pillow.new("P", (1, 1))
    palette.putpalette([value for colour in colours for value in colour])
    return palette


if __name__ == "__main__":
    sys.exit(main())
