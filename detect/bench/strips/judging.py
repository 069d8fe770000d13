"""What a memory is worth on moving strips, each claim against its controls: bad frames, speed, foreseeing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from torchvision.models.detection import FasterRCNN

from ...data import DetectionDataset, read_dataset
from ...errors import ConfigError
from ...formats import coco
from ...models import StripDetector
from ...prediction import resolve_device
from ...records import Dataset
from ..gather import CONFIDENCE
from ..latency import measured_on
from .contestants import Contestant, read_contestants
from .speed import Contender, FrameTimes, frame_times
from .tables import Judge, bad_frames, foreseeing, key_frames
from .truth import ALL, SEEN_BEFORE, by_condition, only, seen_before
from .watching import SEEN, ByPosition, Step, steps_of, watch_all, watch_every, ways_between

SCHEMA = 1
_TIMED_FRAMES = 24


def judge_strips(
    runs: Sequence[Path],
    data: Path,
    *,
    every: Sequence[int] = (1, 2, 3, 4),
    read_motion: bool = False,
    threads: int = 2,
    device: str = "cpu",
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Let trained systems see strips in the order of time and judge what each claim about memory says.

    Args:
        runs: see ``read_contestants``; the first is what the others are compared with.
        data: COCO JSON of strips.
        every: distances of key frames; 1 is measured in any case, as what the others are held against.
        read_motion: read the surface's motion from the frames; else it is what their recorded places say.
        threads: that the speed is measured with.
        device: to detect and to measure on.
        resamples: draws behind the intervals.
        say: gets a line for each step that takes a while.

    Returns:
        Plain JSON values, as strips.json has them; docs/bench.md tells each.

    Raises:
        ConfigError: a distance of key frames below 1, or an unknown device.
        DataError: data without strips, or of other categories than a run was trained for.
        CheckpointError: a run that can't be read.
    """
    if any(each < 1 for each in every):
        raise ConfigError(f"a key frame every {min(every)} frames was asked for", where="every", fix="give 1 or more")
    distances = sorted({*every} - {1})
    dataset = read_dataset(data, role="--data")
    systems = read_contestants(runs, dataset)
    where = resolve_device(device)
    whites = {system.name: system.runs[0].checkpoint.detector.max_value for system in systems}
    strips = steps_of(DetectionDataset(dataset, channels=1, max_value=whites[systems[0].name]), read_motion=read_motion)
    watched: dict[str, dict[str, list[ByPosition]]] = {}
    settings: dict[str, dict[tuple[str, int], list[ByPosition]]] = {}
    for system in systems:
        for number, run in enumerate(system.runs, start=1):
            say(f"{system.name} [{number}/{len(system.runs)}] sees {len(strips)} strips")
            detector = run.checkpoint.detector
            images = DetectionDataset(dataset, channels=detector.channels, max_value=detector.max_value)
            model = run.checkpoint.load_model().to(where)
            for way, found in watch_all(model, detector.categories, images, strips).items():
                watched.setdefault(system.name, {}).setdefault(way, []).append(found)
            for way, each in product(ways_between(model), distances):
                found = watch_every(model, detector.categories, images, strips, each, way)
                settings.setdefault(system.name, {}).setdefault((way, each), []).append(found)
    say(f"measuring speed on {device}, in turns")
    models = {system.name: system.runs[0].checkpoint.load_model().to(where) for system in systems}
    longest = max(strips, key=len)[:_TIMED_FRAMES]
    times = frame_times(models, dataset, longest, whites=whites, read_motion=read_motion, threads=threads)
    say("judging all on the same resampled strips")
    truth = coco.to_dict(dataset, Path())
    judge = Judge(_strip_numbers(strips, len(dataset.images)), resamples, CONFIDENCE)
    later = only(truth, [step.position for strip in strips for step in strip if step.gap])
    every_frame = {name: ways[SEEN] for name, ways in watched.items()}
    return {
        "schema": SCHEMA,
        "against": systems[0].name,
        "motion": "read" if read_motion else "recorded",
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "interval_covers": "strips and seeds" if all(len(system.runs) > 1 for system in systems) else "strips",
        "data": _told(data, dataset, len(strips)),
        **measured_on(device, threads),
        "systems": [_system(system, models[system.name], times) for system in systems],
        "bad_frames": bad_frames(watched, by_condition(truth, dataset), judge),
        "key_frames": key_frames(every_frame, settings, times, truth, judge),
        "foreseeing": foreseeing(watched, {ALL: later, SEEN_BEFORE: seen_before(truth, strips)}, judge),
    }


def _system(system: Contestant, model: FasterRCNN, times: Mapping[Contender, FrameTimes]) -> dict[str, Any]:
    own = {way: each for (name, way), each in times.items() if name == system.name}
    return {
        "name": system.name,
        "memory": model.memory.remembers if isinstance(model, StripDetector) else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "key_frame_ms": median(each.key_ms for each in own.values()),
        "frame_between_ms": {way: each.between_ms for way, each in own.items()},
        "runs": [{"weights": str(run.weights), "epoch": run.checkpoint.epoch} for run in system.runs],
    }


def _told(path: Path, dataset: Dataset, strips: int) -> dict[str, Any]:
    images = dataset.images
    return {
        "val": str(path),
        "strips": strips,
        "frames": len(images),
        "boxes": sum(not box.crowd for image in images for box in image.boxes),
        "conditions": dict(Counter(image.frame.condition for image in images if image.frame).most_common()),
        "categories": list(dataset.categories),
    }


def _strip_numbers(strips: Sequence[Sequence[Step]], frames: int) -> list[int]:
    """Of each frame, by its position."""
    numbers = [0] * frames
    for number, strip in enumerate(strips):
        for step in strip:
            numbers[step.position] = number
    return numbers
