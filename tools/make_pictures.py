#!/usr/bin/env python3
"""Make the documentation's pictures anew: sample steel with its true boxes, one class a column."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Pillow

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.drawing import class_colours, contact_sheet, draw_boxes
from detect.sample import CATEGORIES, sample_image

_OUT = Path(__file__).resolve().parent.parent / "docs" / "images"
_GRAYS = 36  # enough for steel; with all of them, its grain would make the file three times as large


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``sample.png`` into the folder asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python tools/make_pictures.py --seed 0")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder (default: docs/images)")
    parser.add_argument("--rows", type=int, default=3, help="images of every class (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="the sample's seed (default: 0)")
    args = parser.parse_args(argv)
    pictures = []
    for number in range(1, args.rows + 1):
        for category in CATEGORIES:
            pixels, boxes = sample_image(category, number, seed=args.seed)
            pictures.append(draw_boxes(pixels, boxes, scale=1, categories=CATEGORIES))
    args.out.mkdir(parents=True, exist_ok=True)
    sheet = Pillow.fromarray(contact_sheet(pictures, columns=len(CATEGORIES)))
    path = args.out / "sample.png"
    sheet.quantize(palette=_palette(), dither=Pillow.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {sheet.width} x {sheet.height} pixels, {path.stat().st_size / 1000:.0f} kB")
    return 0


def _palette() -> Pillow.Image:
    """The grays from black to white and the classes' colours."""
    colours = [(round(i * 255 / (_GRAYS - 1)),) * 3 for i in range(_GRAYS)] + list(class_colours(CATEGORIES).values())
    palette = Pillow.new("P", (1, 1))
    palette.putpalette([value for colour in colours for value in colour])
    return palette


if __name__ == "__main__":
    sys.exit(main())
