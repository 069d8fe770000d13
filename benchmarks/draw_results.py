#!/usr/bin/env python3
"""Draw the pictures of docs/results.md from the figures kept beside it: one for each bench.json there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.benchmark.results import forest_plot
from detect.fileio import write_text

_DOCS = Path(__file__).resolve().parent.parent / "docs"


def main(argv: Sequence[str] | None = None) -> int:
    """Write an SVG for each ``*_bench.json``; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/draw_results.py")
    parser.add_argument("--figures", type=Path, default=_DOCS / "figures", help="folder (default: docs/figures)")
    parser.add_argument("--out", type=Path, default=_DOCS / "images", help="folder (default: docs/images)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.figures.glob("*_bench.json")):
        picture = args.out / f"{path.stem}.svg"
        write_text(picture, forest_plot(json.loads(path.read_text(encoding="utf-8"))))
        print(f"wrote {picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
