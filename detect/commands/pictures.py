"""The pictures that ``detect infer --draw`` writes: their names, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..images import Pixels
    from ..records import Detections


def picture_paths(paths: Sequence[Path], out: Path | None) -> dict[Path, Path]:
    """Image -> the file that its picture goes to, beside it or in ``out``, no two alike."""
    from ..formats.files import DRAWING_SUFFIX, unique_names

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for folder in dict.fromkeys(out or path.parent for path in paths):
        inside = [path for path in paths if (out or path.parent) == folder]
        for path, name in zip(inside, unique_names(inside)):
            pictures[path] = folder / f"{Path(name).stem}{DRAWING_SUFFIX}"
    return pictures


def write_picture(picture: Path, pixels: Pixels, found: Detections) -> None:
    """The image with its boxes."""
    from ..drawing import draw_detections
    from ..images import write_image

    write_image(picture, draw_detections(pixels, found))
