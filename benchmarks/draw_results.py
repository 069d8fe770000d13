#!/usr/bin/env python3
"""Draw the forest plots of docs/results.md: one per ``*_bench.json`` in docs/figures."""

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
    """Write one SVG per ``*_bench.json``; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/draw_results.py")
    parser.add_argument("--figures", type=Path, default=_DOCS / "figures", help="folder (default: docs/figures)")
    parser.add_argument("--out", type=Path, default=_DOCS / "images", help="folder (default: docs/images)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.figures.glob("*_bench.json")):
        plot = args.out / f"{path.stem}.svg"
        write_text(plot, forest_plot(json.loads(path.read_text(encoding="utf-8"))))
        print(f"wrote {plot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
