#!/usr/bin/env python3
"""Draw what detectors had learned after so many minutes, from the logs of their trainings.

    python benchmarks/draw_learning.py 'mine=runs/mine/log.jsonl' 'YOLO11n=results.csv@11.3' --images 1200 --out a.svg

Each NAME=LOG is a line. A LOG is log.jsonl of our runs, or results.csv of Ultralytics. Minutes are those of the log;
as a busy machine makes them differ, @RATE puts a measured speed in place of them, in images a second. +MINUTES adds
those of a training before.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.errors import DetectError
from detect.fileio import write_text
from detect.report.charts import nice_ticks, svg_line, svg_opening, svg_text

_WORDS = re.compile(r"(?P<name>[^=]+)=(?P<path>.+?)(@(?P<rate>[0-9.]+))?(\+(?P<before>[0-9.]+))?$")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 380.0, 56.0, 150.0, 40.0, 50.0
_COLOURS = (  # on a light page and on a dark one
    ("#0969da", "#4493f8"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#ab7df8"),
)


class Curve(NamedTuple):
    """Minutes and score of every epoch that was judged."""

    name: str
    points: list[tuple[float, float]]


def read_curve(words: str, images: int, key: str) -> Curve:
    """The curve that ``NAME=LOG@RATE+MINUTES`` asks for.

    Raises:
        DetectError: it doesn't read like that, or the log tells of no score.
    """
    found = _WORDS.match(words)
    if found is None:
        raise DetectError(f"{words!r} is no curve", fix="give NAME=LOG, NAME=LOG@RATE or NAME=LOG@RATE+MINUTES")
    path = Path(found["path"])
    try:
        judged = _csv_epochs(path, key) if path.suffix == ".csv" else _log_epochs(path, key)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = f"no log of a training can be read from it ({type(error).__name__}: {error})"
        raise DetectError(fault, where=path, fix="give log.jsonl of a run, or results.csv of Ultralytics") from None
    if not judged:
        raise DetectError(f"no epoch has {key}", where=path, fix="train with data.val and train.val_every")
    before = float(found["before"] or 0)
    if found["rate"] is None:
        return Curve(found["name"], [(before + seconds / 60, score) for _, seconds, score in judged])
    a_minute = 60 * float(found["rate"])
    return Curve(found["name"], [(before + epoch * images / a_minute, score) for epoch, _, score in judged])


def _log_epochs(path: Path, key: str) -> list[tuple[int, float, float]]:
    """(epoch, seconds from the start, score) of the judged ones."""
    judged, seconds = [], 0.0
    for each in path.read_text(encoding="utf-8").splitlines():
        epoch = json.loads(each)
        seconds += epoch["seconds"]
        if epoch["val"] is not None:
            judged.append((int(epoch["epoch"]), seconds, float(epoch["val"][key])))
    return judged


def _csv_epochs(path: Path, key: str) -> list[tuple[int, float, float]]:
    column = {"AP": "metrics/mAP50-95(B)", "AP50": "metrics/mAP50(B)"}[key]
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(row["epoch"]), float(row["time"]), float(row[column])) for row in csv.DictReader(file)]


def learning_plot(curves: Sequence[Curve], key: str) -> str:
    """SVG text: a line for each curve over the minutes, and a legend with its last score, the best first."""
    most = max(x for curve in curves for x, _ in curve.points)
    best = max(y for curve in curves for _, y in curve.points) * 1.06
    plain, dark = (
        "".join(f".c{i}{{stroke:{shades[page]}}}.n{i}{{fill:{shades[page]}}}" for i, shades in enumerate(_COLOURS))
        for page in (0, 1)
    )
    label = f"{key} over minutes of training of {', '.join(curve.name for curve in curves)}"

    def place(minutes: float, score: float) -> tuple[float, float]:
        x = _LEFT + minutes / most * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - score / best * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        svg_opening(_WIDTH, _HEIGHT, label, style=".curve{fill:none;stroke-width:2}" + plain, dark=dark),
        svg_text(_LEFT, 20, f"{key} over minutes of training", "head"),
    ]
    for tick in nice_ticks(0, best, 6):
        _, y = place(0, tick)
        parts += [
            svg_line(_LEFT, _WIDTH - _RIGHT, y, y, "grid"),
            svg_text(_LEFT - 8, y + 4, f"{tick:g}", "small", "end"),
        ]
    for tick in nice_ticks(0, most, 8):
        x, y = place(tick, 0)
        parts += [svg_line(x, x, _TOP, y, "grid"), svg_text(x, y + 18, f"{tick:g}", "small", "middle")]
    ranked = sorted(range(len(curves)), key=lambda i: -curves[i].points[-1][1])
    for rank, number in enumerate(ranked):
        curve, colour = curves[number], number % len(_COLOURS)
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve.points)
        parts.append(Markup('<polyline class="curve c{}" points="{}"/>').format(colour, path))
        words = f"{curve.name} {curve.points[-1][1]:.3f}"
        parts.append(svg_text(_WIDTH - _RIGHT + 14, _TOP + 14 + 20 * rank, words, f"n{colour}"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", metavar="NAME=LOG")
    parser.add_argument("--images", type=int, default=1200, help="that an epoch sees (default: %(default)s)")
    parser.add_argument("--score", choices=("AP50", "AP"), default="AP50", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("learning.svg"), help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        write_text(
            args.out, learning_plot([read_curve(each, args.images, args.score) for each in args.curves], args.score)
        )
    except DetectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
