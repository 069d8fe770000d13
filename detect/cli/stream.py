"""``detect infer --stream``: detection on frames as they arrive, one line of JSON per frame."""

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
    from .evaluate import ScoreThresholds

LINE_SCHEMA = 1


@dataclass
class FrameCounts:
    """Counts of a strip, or of a whole stream.

    Attributes:
        frames: processed.
        dropped: because the queue was full.
        bad: that couldn't be read.
    """

    frames: int = 0
    dropped: int = 0
    bad: int = 0
    _started: float = field(default_factory=time.monotonic)

    def add(self, output: FrameOutput) -> None:
        """Count a frame, and those dropped before it."""
        self.frames += output.found is not None
        self.bad += output.found is None
        self.dropped += output.dropped

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        seconds = round(time.monotonic() - self._started, 3)
        return {"frames": self.frames, "dropped": self.dropped, "bad": self.bad, "seconds": seconds}

    def in_words(self) -> str:
        """ "1,200 frames in 100.0 s (12.0 per second), 3 dropped, 1 bad"."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = f"{self.frames:,} frames in {seconds:,.1f} s ({self.frames / seconds:.1f} per second)"
        return f"{rate}, {self.dropped:,} dropped, {self.bad:,} bad"


class JsonLinesWriter:
    """Writes one line per frame to stdout, or appends it to STRIP.jsonl in a folder; lines are never partial.

    Args:
        out: the folder, created if needed; None: stdout.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._file: TextIO | None = None if out is not None else sys.stdout
        self._strip: str | None = None
        self._counts = FrameCounts()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end_strip()

    def write(self, output: FrameOutput, found: Detections | None) -> None:
        """One frame.

        Args:
            output: the frame.
            found: its detections above the thresholds; None for a bad frame.
        """
        if output.frame.strip != self._strip:
            self._end_strip()
            self._strip, self._counts = output.frame.strip, FrameCounts()
            if self._out is not None:
                name = re.sub(r"[^\w.-]+", "_", self._strip)
                self._file = (self._out / f"{name}.jsonl").open("a", encoding="utf-8")
        self._counts.add(output)
        line = {
            "frame": output.frame.number,
            "name": output.frame.name,
            "captured": _iso(output.frame.captured),
            "done": _iso(output.done),
            "dropped_before": output.dropped,
        }
        if found is None or output.size_wh is None:
            self._line({**line, "error": output.error})
        else:
            self._line(
                {
                    **line,
                    "width": output.size_wh[0],
                    "height": output.size_wh[1],
                    "detections": detections_to_json(found),
                }
            )

    def _end_strip(self) -> None:
        if self._strip is not None:
            self._line({"summary": self._counts.as_dict()})
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
    """Add ``--stream`` and its options."""
    parser.add_argument(
        "--stream",
        metavar="SOURCE",
        help="detect on frames as they arrive: a folder that is being filled, a video file, a camera number, or - for "
        "raw frames on stdin; writes one line of JSON per frame to stdout, or with --out to one file per strip",
    )
    parser.add_argument(
        "--frame-size", metavar="WxH", help="with --stream -: pixels of a gray frame; WxHx3 for interleaved RGB"
    )
    parser.add_argument(
        "--depth", type=int, metavar="BITS", help="with --stream -: 8 (default), or 9 to 16 in two bytes, little-endian"
    )
    parser.add_argument(
        "--queue", type=int, metavar="FRAMES", help=f"largest number of waiting frames (default: {_DEFAULT_QUEUE})"
    )


def check_stream_arguments(args: argparse.Namespace) -> None:
    """Check that the options fit together, before anything is loaded."""
    only = {"--frame-size": args.frame_size, "--depth": args.depth, "--queue": args.queue}
    given = [name for name, value in only.items() if value is not None]
    if args.stream is None:
        if given:
            raise UsageError(f"{given[0]} needs --stream", fix="leave it out")
        return
    if args.images:
        raise UsageError(f"--stream {args.stream} and images ({args.images[0]}) are given", fix="give one of them")
    for name, value in {"--draw": args.draw, "--to": args.target, "--strip": args.strip}.items():
        if value:
            raise UsageError(f"{name} has no meaning with --stream", fix="use it on images afterwards")
    if args.stream != "-" and given and given[0] != "--queue":
        raise UsageError(f"{given[0]} needs --stream -", fix="leave it out")
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


def run_stream(
    predictor: Predictor, source: FrameSource, thresholds: ScoreThresholds, args: argparse.Namespace
) -> None:
    """Process frames until the source ends, a stop file appears, or Ctrl-C or SIGTERM arrives.

    Raises:
        DataError: the source fails.
    """
    from ..inference.video import FrameDetector, process_stream

    max_frames = args.queue or _DEFAULT_QUEUE
    full = "drops its oldest frame" if source.drops else "makes the source wait"
    print(
        f"detect: {source.kind} {args.stream}: a queue of {max_frames} frames, which {full} when full", file=sys.stderr
    )
    detect = FrameDetector(predictor, tile=args.tile, overlap=args.overlap)
    stop, total, reported = Event(), FrameCounts(), False
    try:
        with stopping(stop), JsonLinesWriter(args.out) as lines:
            for output in process_stream(source, detect, max_frames=max_frames, stop=stop):
                total.add(output)
                lines.write(output, None if output.found is None else above_thresholds(output.found, thresholds))
                if output.error is not None:
                    print(f"detect: {output.error}", file=sys.stderr)
                elif output.size_wh is not None and not reported and not predictor.stateful:
                    reported = True
                    tiling = predictor.tiling_for(*output.size_wh, tile=args.tile, overlap=args.overlap)
                    if tiling is not None:
                        report_tiling(output.frame.name, *output.size_wh, tiling, asked=args.tile)
    finally:
        print(f"detect: {source.kind} {args.stream}: {total.in_words()}", file=sys.stderr)


@contextmanager
def stopping(stop: Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM sets ``stop``; a second one ends the program at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def request_stop(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for each in (signal.SIGINT, signal.SIGTERM):
        before[each] = signal.signal(each, request_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
