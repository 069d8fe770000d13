"""Frames as they come from a video file or a camera."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..images import Pixels
from .frames import Frame

if TYPE_CHECKING:
    import cv2

_PATIENCE_S = 5.0  # that a camera which gives nothing is waited for
_MOST_FAILURES = 30  # frames in a row that a video can't give


def video_frames(path: Path, stop: Event) -> Generator[Frame, None, None]:
    """Frames of a video file, as fast as they are taken; those that can't be decoded are bad frames."""
    import cv2

    capture = _opened(str(path), path, "the file is no video that can be read", "give an AVI, MP4 or MKV file")
    try:
        told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number, failed = 0, 0
        while not stop.is_set() and failed <= _MOST_FAILURES:
            there, pixels = capture.read()
            if not there:
                failed += 1
                continue
            for _ in range(failed):
                error = f"{path}: frame {number} can't be decoded; it is left out"
                yield Frame(number, path.stem, f"frame {number}", time.time(), None, error)
                number += 1
            failed = 0
            yield Frame(number, path.stem, f"frame {number}", time.time(), _rgb(pixels))
            number += 1
        if failed and number < told:
            error = f"{path}: the video ends after {number:,} of {told:,} frames; copy it again if it should be longer"
            yield Frame(number, path.stem, f"frame {number}", time.time(), None, error)
    finally:
        capture.release()


def camera_frames(index: int, stop: Event, *, patience_s: float = _PATIENCE_S) -> Generator[Frame, None, None]:
    """Frames of a camera that the system knows by a number, as they come."""
    where = f"camera {index}"
    capture = _opened(index, where, "there is no such camera", "give the number of one that is plugged in")
    try:
        number, last = 0, time.monotonic()
        while not stop.is_set():
            there, pixels = capture.read()
            if there:
                yield Frame(number, f"camera{index}", f"frame {number}", time.time(), _rgb(pixels))
                number, last = number + 1, time.monotonic()
            elif time.monotonic() - last > patience_s:
                raise DataError(
                    f"no frame came for {patience_s:g} s", where=where, fix="check the camera and its cable"
                )
            else:
                stop.wait(0.01)
    finally:
        capture.release()


def _opened(what: str | int, where: str | Path, found: str, fix: str) -> cv2.VideoCapture:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it would say is said here, in a sentence
    capture = cv2.VideoCapture(what)
    if not capture.isOpened():
        raise DataError(found, where=where, fix=fix)
    return capture


def _rgb(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])
