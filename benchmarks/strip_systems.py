"""A detector over moving strips, and every simple way that a memory is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from detect.data.clips import estimate_motion, frames_by_strip
from detect.data.dataset import DetectionDataset
from detect.errors import CheckpointError, ConfigError, DataError
from detect.images import Pixels
from detect.inference.stream import MotionXY, NonKeyFrameMode, Stream, shift_detections
from detect.models.checkpoint import Checkpoint, load_checkpoint
from detect.models.faster_rcnn import StripDetector
from detect.released import WEIGHTS, is_released
from detect.structures import Dataset, Detections, Frame, iou, shift_and_clip


@dataclass(frozen=True, slots=True, eq=False)
class AveragedDetections:
    """What is known of a strip after some frames.

    Attributes:
        found: all that has been found and is still in view, best averaged score first.
        sums: float64[N], the scores of each over the frames that found it.
        hits: int64[N], how many found it.
        since_xy: float64[F, 2], how far the surface has moved, right and down, since each of the F frames seen so far
            that still share surface with the last one, itself (0, 0) included.
    """

    found: Detections
    sums: NDArray[np.float64]
    hits: NDArray[np.int64]
    since_xy: NDArray[np.float64]


def average(
    found: Detections,
    before: AveragedDetections | None,
    motion_xy: MotionXY,
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    max_detections: int = 100,
) -> AveragedDetections:
    """What is known after one more frame.

    What was known is carried on with the surface. It is matched to what is found now, best score first, by category
    and IoU; a match takes the box of now, as an object that moves into view grows. A score is the mean over the frames
    that saw the box's centre, 0 where they did not find it: one that was found before and isn't now loses, and so
    does one that shows up where earlier frames saw nothing. On surface that has just come in, a score stays itself.

    Args:
        found: in this frame.
        before: after the frame before; None at the start of a strip.
        motion_xy: pixels (right, down) that the surface moved since then.
        size_hw: height and width of the picture.
        same_iou: from which IoU on two boxes are of one object.
        max_detections: how many to keep, by score.
    """
    if before is None:
        hits = np.ones(len(found), np.int64)
        return AveragedDetections(found, found.scores.astype(np.float64), hits, np.zeros((1, 2)))
    old = propagate(before, motion_xy, size_hw)
    partners = _partners(found, old.found, same_iou)
    matched = partners >= 0
    sums, hits = found.scores.astype(np.float64), np.ones(len(found), np.int64)
    sums[matched] += old.sums[partners[matched]]
    hits[matched] += old.hits[partners[matched]]
    rest = np.setdiff1d(np.arange(len(old.found)), partners)
    boxes = np.concatenate([found.boxes_xyxy, old.found.boxes_xyxy[rest]])
    labels = np.concatenate([found.labels, old.found.labels[rest]])
    sums, hits = np.concatenate([sums, old.sums[rest]]), np.concatenate([hits, old.hits[rest]])
    since_xy = np.concatenate([old.since_xy, np.zeros((1, 2))])
    scores = sums / np.maximum(_frames_that_saw(boxes, since_xy, size_hw), hits)
    best = np.argsort(-scores, kind="stable")[:max_detections]
    kept = Detections(boxes[best], scores[best].astype(np.float32), labels[best], found.categories)
    return AveragedDetections(kept, sums[best], hits[best], since_xy)


def propagate(known: AveragedDetections, motion_xy: MotionXY, size_hw: tuple[int, int]) -> AveragedDetections:
    """What is known of the frame that comes next, before it is seen; scores stay, what leaves the picture goes.

    Args:
        known: after the last frame.
        motion_xy: pixels (right, down) that the surface will have moved.
        size_hw: height and width of the picture.
    """
    found = known.found
    boxes, inside = shift_and_clip(found.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    moved = Detections(boxes[inside].astype(np.float32), found.scores[inside], found.labels[inside], found.categories)
    since_xy = known.since_xy + np.asarray(motion_xy, np.float64)
    shared = (np.abs(since_xy) < size_hw[::-1]).all(axis=1)
    return AveragedDetections(moved, known.sums[inside], known.hits[inside], since_xy[shared])


def _partners(found: Detections, old: Detections, same_iou: float) -> NDArray[np.int64]:
    """For each that is found now, best score first, the old one of its category that overlaps it most; -1 for none."""
    overlaps = iou(found.boxes_xyxy.astype(np.float64), old.boxes_xyxy.astype(np.float64))
    overlaps[found.labels[:, None] != old.labels[None, :]] = 0
    partners = np.full(len(found), -1, np.int64)
    if not len(old):
        return partners
    for i in np.argsort(-found.scores, kind="stable"):
        j = int(overlaps[i].argmax())
        if overlaps[i, j] >= same_iou:
            partners[i] = j
            overlaps[:, j] = 0
    return partners


def _frames_that_saw(
    boxes_xyxy: NDArray[np.float32], since_xy: NDArray[np.float64], size_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """In how many frames the place where each box's centre lies now was in view, int64[N]."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    then = centres[:, None] - since_xy[None]
    return np.asarray(((then >= 0) & (then < size_hw[::-1])).all(axis=2).sum(axis=1), np.int64)


_SEED = re.compile(r"seed(\d+)")


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run of a system: its last checkpoint, since choosing an epoch by its score would favour noisy scores."""

    weights: Path
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class TrainedSystem:
    """A system: its name in the tables, and its runs, by seed."""

    name: str
    runs: tuple[TrainedRun, ...]


def read_trained_systems(folders: Sequence[Path], dataset: Dataset) -> list[TrainedSystem]:
    """Load each system's runs.

    Args:
        folders: run folders, the word ``released``, or folders of ``detect bench train`` with seed0, seed1, ... in
            them. Systems are called after them, with the folder above where two have one name.
        dataset: what they will be judged on.

    Raises:
        ConfigError: the same folder twice.
        CheckpointError: a folder without runs, or a run without a readable last checkpoint.
        DataError: a run that was trained to find other categories.
    """
    real = [folder.resolve() for folder in folders]
    twice = next((folder for i, folder in enumerate(folders) if real[i] in real[:i]), None)
    if twice is not None:
        raise ConfigError("the same run is given twice", where=twice, fix="name each once")
    stems = [folder.name for folder in real]
    names = [f"{f.parent.name}/{f.name}" if stems.count(f.name) > 1 else f.name for f in real]
    return [
        TrainedSystem(name, tuple(_load(run, dataset) for run in _runs(folder))) for name, folder in zip(names, folders)
    ]


def _runs(folder: Path) -> list[Path]:
    if is_released(folder):
        return [WEIGHTS]
    if (folder / "last.pt").is_file():
        return [folder]
    seeds = {int(m[1]): path for path in folder.glob("seed*") if (m := _SEED.fullmatch(path.name)) and path.is_dir()}
    if not seeds:
        found = "no run: there is neither last.pt nor a folder seed0 in it"
        raise CheckpointError(found, where=folder, fix="give the folder of a run, or of a system of 'bench train'")
    return [seeds[seed] for seed in sorted(seeds)]


def _load(run: Path, dataset: Dataset) -> TrainedRun:
    weights = run if run.is_file() else run / "last.pt"
    if not weights.is_file():
        raise CheckpointError("the run has no last.pt yet", where=run, fix="train it, or take the folder away")
    checkpoint = load_checkpoint(weights)
    known = checkpoint.detector.categories
    if set(known) != set(dataset.categories):
        found = f"the detector finds {', '.join(known)}, the data have {', '.join(dataset.categories)}"
        raise DataError(found, where=weights, fix="judge it on data with the categories of its training")
    return TrainedRun(weights, checkpoint)


SEEN, AVERAGED = "as it is", "averaged over frames"
PREDICTED, MOVED, AVERAGED_MOVED, COPIED = (
    "foreseen",
    "last boxes, moved",
    "averaged boxes, moved",
    "last boxes, copied",
)
NEW_REGION, LIGHT, SKIPPED_PREDICTED, SKIPPED_MOVED = "incoming surface", "light network", "foreseen", "boxes moved"

ByPosition = dict[int, Detections]  # detections by the frame's position in the data set


@dataclass(frozen=True, slots=True)
class FrameStep:
    """One frame of a strip, in the order of time.

    Attributes:
        position: of the frame in the data set.
        strip: its strip's name.
        gap: frames since the one before, 1 unless some never came; 0 for a strip's first one.
        motion_xy: pixels (right, down) that the surface moved a frame since then.
        expected_xy: the same as far as it is known before this frame is seen.
    """

    position: int
    strip: str
    gap: int
    motion_xy: MotionXY
    expected_xy: MotionXY

    @property
    def total_xy(self) -> MotionXY:
        """How far the surface moved since the frame before."""
        return self.motion_xy[0] * self.gap, self.motion_xy[1] * self.gap

    @property
    def expected_total_xy(self) -> MotionXY:
        """How far it was expected to."""
        return self.expected_xy[0] * self.gap, self.expected_xy[1] * self.gap

    @property
    def remaining_xy(self) -> MotionXY:
        """What is left of it once frames that never came have been skipped, each by the expected motion."""
        skipped = max(self.gap - 1, 0)
        return self.total_xy[0] - skipped * self.expected_xy[0], self.total_xy[1] - skipped * self.expected_xy[1]


def steps_of(images: DetectionDataset, *, read_motion: bool) -> list[list[FrameStep]]:
    """Strip by strip, its frames in the order of time.

    Args:
        images: frames of strips.
        read_motion: read the motion from the frames, as a camera without an encoder has to, and take it as before
            where they don't tell; else it is what the frames' recorded places say.

    Raises:
        DataError: still images, or frames without a recorded place where these are asked for.
    """
    stills = [image.path for image in images.images if image.frame is None]
    if stills:
        found = f"{len(stills):,} of {len(images):,} images are frames of no strip, and time is what is judged here"
        fix = "give data with video_id and frame_id (detect sample --frames makes some)"
        raise DataError(found, where=stills[0], fix=fix)
    found_strips = frames_by_strip(images)
    if max(len(positions) for _, positions in found_strips) < 2:
        fix = "give strips of several frames (detect sample --frames makes some)"
        raise DataError("no strip has two frames, so nothing moves", where=images.path(0), fix=fix)
    return [_steps(images, name, positions, read_motion) for name, positions in found_strips]


def _steps(images: DetectionDataset, name: str, positions: Sequence[int], read_motion: bool) -> list[FrameStep]:
    steps = [FrameStep(positions[0], name, 0, (0.0, 0.0), (0.0, 0.0))]
    speed: MotionXY = (0.0, 0.0)
    for before, after in pairwise(positions):
        first, second = _frame(images, before), _frame(images, after)
        gap, total = second.number - first.number, second.motion_since(first)
        if read_motion:
            total = estimate_motion(images.pixels(before), images.pixels(after), images.max_value)
        elif total is None:
            found = "the frame doesn't say where it lies on its strip, so its motion is unknown"
            raise DataError(found, where=images.path(after), fix="give frames origin_xy, or add --motion read")
        before_it, speed = speed, speed if total is None else (total[0] / gap, total[1] / gap)
        steps.append(FrameStep(after, name, gap, speed, before_it if read_motion else speed))
    return steps


def watch_all(
    model: FasterRCNN, categories: tuple[str, ...], images: DetectionDataset, strips: Sequence[Sequence[FrameStep]]
) -> dict[str, ByPosition]:
    """All that a detector says of strips with every frame a key frame, and what simple ways make of that.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        images: pixels; labels aren't looked at.
        strips: the frames of each in the order of time.

    Returns:
        Detections of each frame under ``SEEN`` and ``AVERAGED``; and those of each strip's frames but the first made
        before they were seen, under ``PREDICTED`` (where there is a memory), ``MOVED``, ``AVERAGED_MOVED`` and
        ``COPIED``. All are told the same of how far the surface will have moved: what an encoder says, or, where the
        motion is read from the frames, that it moves on as before.
    """
    seen = [_watch(model, categories, images, strip) for strip in strips]
    return {way: {k: v for ways in seen for k, v in ways[way].items()} for way in seen[0]}


def _watch(
    model: FasterRCNN, categories: tuple[str, ...], images: DetectionDataset, strip: Sequence[FrameStep]
) -> dict[str, ByPosition]:
    ways: dict[str, ByPosition] = {name: {} for name in (SEEN, AVERAGED, MOVED, AVERAGED_MOVED, COPIED)}
    remembers = isinstance(model, StripDetector)
    if remembers:
        ways[PREDICTED] = {}
    stream = Stream(model, categories, channels=images.channels, max_value=images.max_value)
    last: Detections | None = None
    known: AveragedDetections | None = None
    for step in strip:
        image = images.images[step.position]
        size_hw = (image.height, image.width)
        _skip_missing(stream, step)
        if last is not None and known is not None:
            ways[COPIED][step.position] = last
            ways[MOVED][step.position] = shift_detections(last, step.expected_total_xy, size_hw)
            ways[AVERAGED_MOVED][step.position] = propagate(known, step.expected_total_xy, size_hw).found
            if remembers:
                ways[PREDICTED][step.position] = stream.predict_next(step.expected_xy)
        last = stream(images.pixels(step.position), strip=step.strip, motion_xy=step.remaining_xy)
        known = average(last, known, step.total_xy, size_hw)
        ways[SEEN][step.position], ways[AVERAGED][step.position] = last, known.found
    return ways


def ways_between(model: FasterRCNN) -> tuple[str, ...]:
    """How a detector can get from key frame to key frame; the last looks at nothing and is the others' control."""
    if not isinstance(model, StripDetector):
        return NEW_REGION, SKIPPED_MOVED
    return (NEW_REGION, SKIPPED_PREDICTED) if model.light is None else (LIGHT, NEW_REGION, SKIPPED_PREDICTED)


def watch_every(
    model: FasterRCNN,
    categories: tuple[str, ...],
    images: DetectionDataset,
    strips: Sequence[Sequence[FrameStep]],
    every: int,
    way: str,
) -> ByPosition:
    """Detections of each frame where the full network sees each ``every``-th one of a strip.

    Args:
        model, categories, images, strips: as for ``watch_all``.
        every: 1 or more.
        way: one of ``ways_between``.
    """
    seen: ByPosition = {}
    for strip in strips:
        watcher = KeyFrameStream(model, categories, every, way, channels=images.channels, max_value=images.max_value)
        seen.update(_each(watcher, images, strip))
    return seen


class KeyFrameStream:
    """A stream of which each ``every``-th frame is a key frame, and the others are got in one of ``ways_between``."""

    def __init__(
        self,
        model: FasterRCNN,
        categories: tuple[str, ...],
        every: int,
        way: str,
        *,
        channels: int = 1,
        max_value: int | None = None,
    ) -> None:
        between: dict[str, NonKeyFrameMode] = {LIGHT: "light", NEW_REGION: "new_region"}
        self.looks = way in between
        self.every = every
        self.stream = Stream(
            model,
            categories,
            key_frame_interval=every,
            non_key_frames=between.get(way),
            channels=channels,
            max_value=max_value,
        )

    def __call__(self, pixels: Pixels, step: FrameStep, number: int) -> Detections:
        """Detections of frame ``number`` of the strip, counted from 0."""
        if number % self.every and not self.looks:
            return self.stream.skip(step.remaining_xy)
        return self.stream(pixels, strip=step.strip, motion_xy=step.remaining_xy)


def _each(
    watcher: KeyFrameStream, images: DetectionDataset, strip: Sequence[FrameStep]
) -> Iterator[tuple[int, Detections]]:
    number = 0
    for step in strip:
        _skip_missing(watcher.stream, step)
        number += step.gap
        yield step.position, watcher(images.pixels(step.position), step, number)


def _skip_missing(stream: Stream, step: FrameStep) -> None:
    for _ in range(step.gap - 1):
        stream.skip(step.expected_xy)


def _frame(images: DetectionDataset, position: int) -> Frame:
    frame = images.images[position].frame
    assert frame is not None, "still images are refused before"
    return frame
