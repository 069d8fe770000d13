"""What ``detect infer --stream`` writes: a line of JSON a frame, one at a strip's end, and the counts for both."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from .console import in_json, json_text

if TYPE_CHECKING:
    from ..inference.live import Seen
    from ..records import Detections

LINE_SCHEMA = 1


@dataclass
class Tally:
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

    def add(self, seen: Seen) -> None:
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


class Lines:
    """Writes them to stdout, or into STRIP.jsonl of a folder, after what is there; each is whole at once.

    Args:
        out: the folder, made where it isn't there; None: stdout.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._file: TextIO | None = None if out is not None else sys.stdout
        self._strip: str | None = None
        self._tally = Tally()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end_strip()

    def write(self, seen: Seen, found: Detections | None) -> None:
        """One frame.

        Args:
            seen: the frame.
            found: those of its detections that count; None of a bad frame.
        """
        if seen.frame.strip != self._strip:
            self._end_strip()
            self._strip, self._tally = seen.frame.strip, Tally()
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
            self._line({**line, "width": seen.size_wh[0], "height": seen.size_wh[1], "detections": in_json(found)})

    def _end_strip(self) -> None:
        if self._strip is not None:
            self._line({"summary": self._tally.as_dict()})
        if self._out is not None and self._file is not None:
            self._file.close()
        self._strip = None

    def _line(self, values: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json_text({"schema": LINE_SCHEMA, "strip": self._strip, **values}, self._file.encoding))
        self._file.flush()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
