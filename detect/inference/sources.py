"""What frames can come from while they are being made, by the word that a user gives."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ..errors import DataError
from ..images import SUFFIXES
from .frames import Frame, folder_frames, pipe_frames
from .video import camera_frames, video_frames


@dataclass(frozen=True, slots=True)
class Source:
    """What frames can be read from.

    Attributes:
        kind: "folder", "video", "camera" or "pipe".
        frames: the frames in order, until there are no more or the event is set; raises DataError where the source
            itself fails.
        drops: the source doesn't wait: what isn't taken in time is lost.
    """

    kind: str
    frames: Callable[[Event], Generator[Frame, None, None]]
    drops: bool


def open_source(given: str, *, frame_shape: tuple[int, ...] | None = None, depth: int = 8) -> Source:
    """The source that a word means: "-" a pipe, a whole number a camera, else a folder or a video file.

    Args:
        given: the word.
        frame_shape: of the frames in a pipe, (height, width) or (height, width, 3), pixels.
        depth: bits of their gray values, 8, or 9 to 16 in two bytes, the lower one first.

    Raises:
        DataError: nothing of the kind, or a pipe without the shape of its frames.
    """
    if given == "-":
        if frame_shape is None:
            raise DataError("a pipe doesn't tell the size of its frames", where="--stream -", fix="give --frame-size")
        shape = frame_shape
        return Source("pipe", lambda stop: pipe_frames(0, shape, depth, stop), drops=False)
    if given.isdecimal():
        return Source("camera", lambda stop: camera_frames(int(given), stop), drops=True)
    path = Path(given)
    if path.is_dir():
        return Source("folder", lambda stop: folder_frames(path, stop), drops=False)
    if path.is_file() and (path.suffix.lower() not in SUFFIXES or path.suffix.lower() == ".gif"):  # an animation
        return Source("video", lambda stop: video_frames(path, stop), drops=False)
    found = "one image is no stream" if path.is_file() else "no such folder or video"
    raise DataError(found, where=given, fix="give a folder that is being filled, a video, a camera's number, or -")
