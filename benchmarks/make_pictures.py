#!/usr/bin/env python3
"""Make the documentation's pictures anew: sample steel with its boxes, the served page, the demo's report and finds.

Run it after `make demo`. The pictures of pages need a Chromium; without one they are left as they are.
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
_GRAYS = 36  # enough for steel; with all of them, its grain would make the file three times as large
# Those of the page, and what lies between two of them at the edges of letters.
_PAGE = "f3f5f8 131a24 566174 dfe4eb f1f4f8 1463c7 8a93a3 b9c1cd 6f9fdd b6d0f0"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pictures into the folder asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/make_pictures.py --seed 0")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="judged run (default: runs/demo)")
    parser.add_argument("--data", type=Path, default=Path("data/demo/val.json"), help="images to show detections on")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score to draw (default: 0.5)")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder (default: docs/images)")
    parser.add_argument("--rows", type=int, default=3, help="images of every class (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="the sample's seed (default: 0)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    _save(_sample(args.rows, args.seed), args.out / "sample.png")
    _photograph_serving(args.out / "serve.png")
    if (args.run / "best.pt").exists():
        _save(_detections(args.run, args.data, args.threshold), args.out / "detections.png")
        _photograph(args.run / "report" / "report.html", args.out / "report.png")
    else:
        print(f"{args.run} holds no run: run make demo first for detections.png and report.png", file=sys.stderr)
    return 0


def _sample(rows: int, seed: int) -> Picture:
    """True boxes, one class a column."""
    pictures = []
    for number in range(1, rows + 1):
        for category in CATEGORIES:
            pixels, boxes = sample_image(category, number, seed=seed)
            pictures.append(draw_boxes(pixels, boxes, scale=1, categories=CATEGORIES))
    return contact_sheet(pictures, columns=len(CATEGORIES))


def _detections(run: Path, data: Path, threshold: float) -> Picture:
    """What a run finds on the first held-out image of every class."""
    from detect.datasets import coco
    from detect.inference.predictor import Predictor

    predictor, dataset = Predictor.load(run), coco.read(data)
    first = {image.path.stem.rpartition("_")[0]: image.path for image in reversed(dataset.images)}
    pictures = [
        draw_detections(read_image(first[name]), predictor(first[name]).above(threshold), scale=2)
        for name in dataset.categories
    ]
    return contact_sheet(pictures, columns=3)


def _photograph(page: Path, picture: Path) -> None:
    """The top of a page, as a browser shows it."""
    if BROWSER is None or not page.exists():
        print(f"{picture} is left as it is: no {'report' if BROWSER else 'Chromium'} here", file=sys.stderr)
        return
    with Chromium(1200, 1500) as browser:
        browser.open(page.resolve().as_uri())
        _keep(browser, picture)


def _photograph_serving(picture: Path) -> None:
    """The page of detect serve with sample steel, as the released model sees it."""
    if BROWSER is None:
        print(f"{picture} is left as it is: no Chromium here", file=sys.stderr)
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
        told = re.search(r"http://\S+", server.stdout.readline())
        assert told is not None
        browser.open(told[0].rstrip(";"))
        browser.wait("!document.getElementById('open').hidden")
        browser.give_files("#files", steel)
        browser.wait("document.querySelectorAll('#thumbs .count').length === 6 && !!document.querySelector('.box')")
        browser.value("document.getElementById('subject').lastChild.textContent = '127.0.0.1:8000'")
        _keep(browser, picture, _palette(28, _PAGE))
        server.terminate()


def _keep(browser: Chromium, picture: Path, palette: Pillow.Image | None = None) -> None:
    with TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        browser.photograph(shot)
        whole = Pillow.open(shot).convert("RGB")
    few = whole.quantize(128) if palette is None else whole.quantize(palette=palette, dither=Pillow.Dither.NONE)
    few.save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


def _save(picture: Picture, path: Path) -> None:
    image = Pillow.fromarray(picture)
    image.quantize(palette=_palette(), dither=Pillow.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height} pixels, {path.stat().st_size / 1000:.0f} kB")


def _palette(grays: int = _GRAYS, more: str = "") -> Pillow.Image:
    """The grays from black to white, the classes' colours, and others in hexadecimal."""
    colours = [(round(i * 255 / (grays - 1)),) * 3 for i in range(grays)] + list(class_colours(CATEGORIES).values())
    colours += [(each[0], each[1], each[2]) for each in map(bytes.fromhex, more.split())]
    palette = Pillow.new("P", (1, 1))
    palette.putpalette([value for colour in colours for value in colour])
    return palette


if __name__ == "__main__":
    sys.exit(main())
