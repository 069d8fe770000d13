"""How long detectors take for a key frame of a strip and for one between, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from torchvision.models.detection import FasterRCNN

from ...data import DetectionDataset
from ...motion import motion_between
from ...records import Dataset
from ..latency import in_turn, limited_to
from .watching import InBetween, Step, ways_between

Contender = tuple[str, str]  # a system and its way between key frames

_WARM_UP = 4  # frames of a strip before the clock runs


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Median milliseconds from a frame's array to its boxes."""

    key_ms: float
    between_ms: float

    def frames_a_second(self, every: int) -> float:
        """With a key frame each ``every`` frames."""
        return 1000 * every / (self.key_ms + (every - 1) * self.between_ms)


def frame_times(
    models: Mapping[str, FasterRCNN],
    dataset: Dataset,
    strip: Sequence[Step],
    *,
    whites: Mapping[str, int | None],
    read_motion: bool,
    threads: int,
    rounds: int = 2,
) -> dict[Contender, FrameTimes]:
    """Each detector's times on the frames of a strip, every second one a key frame, by its ways between them.

    The two kinds of frame are timed apart and put together for any distance of key frames. All detectors see each
    frame one after the other, so that a busy moment hits them alike; their ratios hold, milliseconds compare with no
    other call's.

    Args:
        models: by name, in evaluation mode.
        dataset: the frames; read and decoded before the clock runs.
        strip: frames to see, in the order of time; two or more.
        whites: by name, white of 16-bit frames, as in training; None: 65535.
        read_motion: the time to read the motion from the frames counts too.
        threads: that PyTorch may use on a CPU.
        rounds: how often to go through the strip.
    """
    images = {
        name: DetectionDataset(dataset, channels=len(m.transform.image_mean), max_value=whites[name])
        for name, m in models.items()
    }
    for name, step in product(models, strip):
        images[name].pixels(step.position)
    contenders = [(name, way) for name, model in models.items() for way in ways_between(model)]
    times: dict[Contender, tuple[list[float], list[float]]] = {each: ([], []) for each in contenders}
    with limited_to(threads):
        for _ in range(rounds):
            watchers = {
                (name, way): InBetween(
                    models[name],
                    dataset.categories,
                    2,
                    way,
                    channels=images[name].channels,
                    max_value=images[name].max_value,
                )
                for name, way in contenders
            }
            for number, step in enumerate(strip):
                before = strip[number - 1] if read_motion and number else None
                for each in in_turn(contenders, number):
                    took = _took_ms(watchers[each], images[each[0]], step, number, before)
                    if number >= min(_WARM_UP, len(strip) - 2):
                        times[each][number % 2].append(took)
    return {each: FrameTimes(median(key), median(between)) for each, (key, between) in times.items()}


def _took_ms(watcher: InBetween, images: DetectionDataset, step: Step, number: int, before: Step | None) -> float:
    """``before``: the frame to read the motion since; None where it is known."""
    pixels = images.pixels(step.position)
    pixels_before = None if before is None else images.pixels(before.position)
    started = time.perf_counter()
    if pixels_before is not None:
        motion_between(pixels_before, pixels, images.max_value)
    watcher(pixels, step, number)
    return 1000 * (time.perf_counter() - started)
