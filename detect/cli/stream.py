"""``detect infer --stream``: frames detected on while they are made, a line of JSON each."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from .common import UsageError, detections_to_json, report_tiling
from .evaluate import above_thresholds

if TYPE_CHECKING:
    from ..inference.predictor import Predictor
    from ..inference.video import FrameOutput, FrameSource
    from ..structures import Detections
    from .evaluate import Lowest

LINE_SCHEMA = 1


@dataclass
class FrameCounts:
    """Counts of a strip, or of a whole stream.

    Attributes:
        frames: looked at.
        dropped: that came too fast.
        bad: that couldn't be read or taken.
    """

    frames: int = 0
    dropped: int = 0
    bad: int = 0
    _started: float = field(default_factory=time.monotonic)

    def add(self, seen: FrameOutput) -> None:
        """Count a frame, and those dropped before it."""
        self.frames += seen.found is not None
        self.bad += seen.found is None
        self.dropped += seen.dropped

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        seconds = round(time.monotonic() - self._started, 3)
        return {"frames": self.frames, "dropped": self.dropped, "bad": self.bad, "seconds": seconds}

    def in_words(self) -> str:
        """ "1,200 frames in 100.0 s (12.0 a second), 3 dropped, 1 bad"."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = f"{self.frames:,} frames in {seconds:,.1f} s ({self.frames / seconds:.1f} a second)"
        return f"{rate}, {self.dropped:,} dropped, {self.bad:,} bad"


class JsonLinesWriter:
    """Writes them to stdout, or into STRIP.jsonl of a folder, after what is there; each is whole at once.

    Args:
        out: the folder, made where it isn't there; None: stdout.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._file: TextIO | None = None if out is not None else sys.stdout
        self._strip: str | None = None
        self._tally = FrameCounts()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end_strip()

    def write(self, seen: FrameOutput, found: Detections | None) -> None:
        """One frame.

        Args:
            seen: the frame.
            found: those of its detections that count; None of a bad frame.
        """
        if seen.frame.strip != self._strip:
            self._end_strip()
            self._strip, self._tally = seen.frame.strip, FrameCounts()
            if self._out is not None:
                name = re.sub(r"[^\w.-]+", "_", self._strip)
                self._file = (self._out / f"{name}.jsonl").open("a", encoding="utf-8")
        self._tally.add(seen)
        line = {
            "frame": seen.frame.number,
            "name": seen.frame.name,
            "captured": _iso(seen.frame.captured),
            "done": _iso(seen.done),
            "dropped_before": seen.dropped,
        }
        if found is None or seen.size_wh is None:
            self._line({**line, "error": seen.error})
        else:
            self._line(
                {**line, "width": seen.size_wh[0], "height": seen.size_wh[1], "detections": detections_to_json(found)}
            )

    def _end_strip(self) -> None:
        if self._strip is not None:
            self._line({"summary": self._tally.as_dict()})
        if self._out is not None and self._file is not None:
            self._file.close()
        self._strip = None

    def _line(self, values: Mapping[str, Any]) -> None:
        assert self._file is not None
        from ..fileio import json_text

        self._file.write(json_text({"schema": LINE_SCHEMA, "strip": self._strip, **values}, self._file.encoding))
        self._file.flush()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


_DEFAULT_QUEUE = 8
_BITS = range(8, 17)


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """``--stream`` and what belongs to it."""
    parser.add_argument(
        "--stream",
        metavar="SOURCE",
        help="look at frames as they come, from a folder that is being filled, a video file, a camera's number, or - "
        "for raw frames on stdin; a line of JSON a frame goes to stdout, or with --out into a file a strip",
    )
    parser.add_argument(
        "--frame-size", metavar="WxH", help="with --stream -: pixels of a gray frame; WxHx3 for RGB, side by side"
    )
    parser.add_argument(
        "--depth", type=int, metavar="BITS", help="with --stream -: 8 (default), or 9 to 16 in two bytes, the low first"
    )
    parser.add_argument(
        "--queue", type=int, metavar="FRAMES", help=f"that wait to be looked at, at most (default: {_DEFAULT_QUEUE})"
    )


def check_stream_arguments(args: argparse.Namespace) -> None:
    """Refuse options that don't fit together, before anything is loaded."""
    only = {"--frame-size": args.frame_size, "--depth": args.depth, "--queue": args.queue}
    given = [name for name, value in only.items() if value is not None]
    if args.stream is None:
        if given:
            raise UsageError(f"{given[0]} has a meaning with --stream only", fix="leave it out")
        return
    if args.images:
        raise UsageError(f"--stream {args.stream} and images ({args.images[0]}) are given", fix="give one of them")
    for name, value in {"--draw": args.draw, "--to": args.target, "--strip": args.strip}.items():
        if value:
            raise UsageError(f"{name} has no meaning with --stream", fix="use it on images afterwards")
    if args.stream != "-" and given and given[0] != "--queue":
        raise UsageError(f"{given[0]} has a meaning with --stream - only", fix="leave it out")
    if args.queue is not None and args.queue < 1:
        raise UsageError(f"--queue is {args.queue}", fix="give at least 1 frame")
    if args.depth is not None and args.depth not in _BITS:
        raise UsageError(f"--depth is {args.depth}", fix="give 8 to 16 bits")


def frame_shape(text: str | None) -> tuple[int, ...] | None:
    """ "1024x400" -> (400, 1024), "1024x400x3" -> (400, 1024, 3)."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})(x3)?", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    from ..images import MOST_PIXELS

    if match is None or not 0 < width * height <= MOST_PIXELS:
        raise UsageError(f"--frame-size is {text}", fix="give width x height in pixels, such as 1024x400 or 1024x400x3")
    return (height, width, 3) if match[3] else (height, width)


def run_stream(predictor: Predictor, source: FrameSource, lowest: Lowest, args: argparse.Namespace) -> None:
    """Look at frames until the source ends, a stop file appears, or Ctrl-C or SIGTERM comes.

    Raises:
        DataError: the source fails.
    """
    from ..inference.video import FrameDetector, process_stream

    most = args.queue or _DEFAULT_QUEUE
    full = "loses its oldest frame" if source.drops else "lets the source wait"
    print(f"detect: {source.kind} {args.stream}: a queue of {most} frames, which {full} when full", file=sys.stderr)
    look, stop, total, said = (
        FrameDetector(predictor, tile=args.tile, overlap=args.overlap),
        Event(),
        FrameCounts(),
        False,
    )
    try:
        with stopping(stop), JsonLinesWriter(args.out) as lines:
            for seen in process_stream(source, look, max_frames=most, stop=stop):
                total.add(seen)
                lines.write(seen, None if seen.found is None else above_thresholds(seen.found, lowest))
                if seen.error is not None:
                    print(f"detect: {seen.error}", file=sys.stderr)
                elif seen.size_wh is not None and not said and not predictor.stateful:
                    said = True
                    tiling = predictor.tiling_for(*seen.size_wh, tile=args.tile, overlap=args.overlap)
                    if tiling is not None:
                        report_tiling(seen.frame.name, *seen.size_wh, tiling, asked=args.tile)
    finally:
        print(f"detect: {source.kind} {args.stream}: {total.in_words()}", file=sys.stderr)


@contextmanager
def stopping(stop: Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set ``stop`` once; a second one ends the program as it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for each in (signal.SIGINT, signal.SIGTERM):
        before[each] = signal.signal(each, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
