"""``detect infer --strip``: several files as one long strip, each defect once, wherever the files begin."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import shown
from .tiles import say_tiling

if TYPE_CHECKING:
    from ..inference import Predictor
    from ..inference.strips import StripFiles
    from ..records import Detections


def detect_strip(
    predictor: Predictor, paths: Sequence[Path], args: argparse.Namespace
) -> tuple[StripFiles, Detections]:
    """The strip, and all that is found on it.

    Raises:
        DataError: files that can't be read or don't belong together; a strip with a gap would be another one.
        ConfigError: tiles that can't be.
    """
    from ..inference.strips import StripFiles

    strip = StripFiles.of(paths)
    tiling = predictor.strip_tiling(tile=args.tile, overlap=args.overlap)
    say_tiling(f"a strip of {len(paths):,} files", strip.width, strip.height, tiling, asked=tiling.side)
    return strip, predictor.strip(strip, tile=args.tile, overlap=args.overlap)


def title_of(strip: StripFiles) -> str:
    """What a table of its detections is called."""
    first, last = shown(strip.paths[0]), shown(strip.paths[-1])
    return f"strip {first}" if first == last else f"strip {first} to {last}"


def strip_entry(strip: StripFiles, detections: list[dict[str, Any]]) -> dict[str, Any]:
    """The strip in JSON; boxes are in its own pixels, and ``top`` tells where each file begins."""
    files = [{"file": str(path), "top": top} for path, top in zip(strip.paths, strip.tops)]
    return {"files": files, "width": strip.width, "height": strip.height, "detections": detections}


def by_file(strip: StripFiles, found: Detections) -> Iterator[tuple[Path, Detections]]:
    """Each file with what lies in it, in its own pixels; a defect that two files share is in both, cut there."""
    import numpy as np

    from ..boxes import clip
    from ..records import Detections

    for path, top, bottom in zip(strip.paths, strip.tops, (*strip.tops[1:], strip.height)):
        down = np.array([0, top, 0, top], np.float32)
        boxes = clip(found.boxes_xyxy - down, strip.width, bottom - top)
        there = boxes[:, 3] > boxes[:, 1]
        yield path, Detections(boxes[there], found.scores[there], found.labels[there], found.categories)
