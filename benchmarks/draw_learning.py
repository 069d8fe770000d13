#!/usr/bin/env python3
"""Plot the score of detectors over minutes of training, from the logs of their trainings.

    python benchmarks/draw_learning.py 'mine=runs/mine/log.jsonl' 'YOLO11n=results.csv@11.3' --images 1200 --out a.svg

Each NAME=LOG is one curve. LOG is log.jsonl of a run, or results.csv of Ultralytics. Minutes are taken from the log, or
computed from a measured speed with @RATE in images per second, because times on a busy machine vary. +MINUTES adds the
time of a previous training.
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

_CURVE = re.compile(r"(?P<name>[^=]+)=(?P<path>.+?)(@(?P<rate>[0-9.]+))?(\+(?P<before>[0-9.]+))?$")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 380.0, 56.0, 150.0, 40.0, 50.0
_COLOURS = (  # light mode, dark mode
    ("#0969da", "#4493f8"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#ab7df8"),
)


class Curve(NamedTuple):
    """Name of a curve, and (minutes, score) per evaluated epoch."""

    name: str
    points: list[tuple[float, float]]


def read_curve(text: str, images: int, key: str) -> Curve:
    """Read the curve of an argument ``NAME=LOG@RATE+MINUTES``.

    Raises:
        DetectError: an argument of another form, or a log without scores.
    """
    match = _CURVE.match(text)
    if match is None:
        raise DetectError(f"{text!r} is no curve", fix="give NAME=LOG, NAME=LOG@RATE or NAME=LOG@RATE+MINUTES")
    path = Path(match["path"])
    try:
        epochs = _csv_epochs(path, key) if path.suffix == ".csv" else _log_epochs(path, key)
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"the file is no training log ({type(error).__name__}: {error})"
        raise DetectError(message, where=path, fix="give log.jsonl of a run, or results.csv of Ultralytics") from None
    if not epochs:
        raise DetectError(f"no epoch has {key}", where=path, fix="train with data.val and train.val_every")
    before = float(match["before"] or 0)
    if match["rate"] is None:
        return Curve(match["name"], [(before + seconds / 60, score) for _, seconds, score in epochs])
    images_per_minute = 60 * float(match["rate"])
    return Curve(match["name"], [(before + epoch * images / images_per_minute, score) for epoch, _, score in epochs])


def _log_epochs(path: Path, key: str) -> list[tuple[int, float, float]]:
    """(epoch, seconds from the start, score) per evaluated epoch."""
    epochs, seconds = [], 0.0
    for each in path.read_text(encoding="utf-8").splitlines():
        epoch = json.loads(each)
        seconds += epoch["seconds"]
        if epoch["val"] is not None:
            epochs.append((int(epoch["epoch"]), seconds, float(epoch["val"][key])))
    return epochs


def _csv_epochs(path: Path, key: str) -> list[tuple[int, float, float]]:
    column = {"AP": "metrics/mAP50-95(B)", "AP50": "metrics/mAP50(B)"}[key]
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(row["epoch"]), float(row["time"]), float(row[column])) for row in csv.DictReader(file)]


def learning_plot(curves: Sequence[Curve], key: str) -> str:
    """SVG plot of the scores over minutes of training, with a legend of the last scores, best first."""
    max_minutes = max(x for curve in curves for x, _ in curve.points)
    best = max(y for curve in curves for _, y in curve.points) * 1.06
    plain, dark = (
        "".join(f".c{i}{{stroke:{shades[page]}}}.n{i}{{fill:{shades[page]}}}" for i, shades in enumerate(_COLOURS))
        for page in (0, 1)
    )
    title = f"{key} over minutes of training of {', '.join(curve.name for curve in curves)}"

    def place(minutes: float, score: float) -> tuple[float, float]:
        x = _LEFT + minutes / max_minutes * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - score / best * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        svg_opening(_WIDTH, _HEIGHT, title, style=".curve{fill:none;stroke-width:2}" + plain, dark=dark),
        svg_text(_LEFT, 20, f"{key} over minutes of training", "head"),
    ]
    for tick in nice_ticks(0, best, 6):
        _, y = place(0, tick)
        parts += [
            svg_line(_LEFT, _WIDTH - _RIGHT, y, y, "grid"),
            svg_text(_LEFT - 8, y + 4, f"{tick:g}", "small", "end"),
        ]
    for tick in nice_ticks(0, max_minutes, 8):
        x, y = place(tick, 0)
        parts += [svg_line(x, x, _TOP, y, "grid"), svg_text(x, y + 18, f"{tick:g}", "small", "middle")]
    ranked = sorted(range(len(curves)), key=lambda i: -curves[i].points[-1][1])
    for rank, number in enumerate(ranked):
        curve, colour = curves[number], number % len(_COLOURS)
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve.points)
        parts.append(Markup('<polyline class="curve c{}" points="{}"/>').format(colour, path))
        label = f"{curve.name} {curve.points[-1][1]:.3f}"
        parts.append(svg_text(_WIDTH - _RIGHT + 14, _TOP + 14 + 20 * rank, label, f"n{colour}"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the plot; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", metavar="NAME=LOG")
    parser.add_argument("--images", type=int, default=1200, help="images per epoch, for @RATE (default: %(default)s)")
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
