"""Detectors on moving strips, and the baselines without memory that a memory is compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    """Detections averaged over the frames of a strip so far.

    Attributes:
        detections: all objects that are still in view, highest averaged score first.
        sums: float64[N], sum of the scores over the frames that detected the object.
        hits: int64[N], number of frames that detected the object.
        since_xy: float64[F, 2], motion of the surface in pixels, right and down, since each of the F frames so far that
            overlap the last frame, including the last frame itself (0, 0).
    """

    detections: Detections
    sums: NDArray[np.float64]
    hits: NDArray[np.int64]
    since_xy: NDArray[np.float64]


def average(
    current: Detections,
    before: AveragedDetections | None,
    motion_xy: MotionXY,
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    max_detections: int = 100,
) -> AveragedDetections:
    """Update the averaged detections with one more frame.

    Earlier detections are moved with the surface and matched to the current ones by category and IoU, highest score
    first. A match takes the current box, because an object that moves into view grows. A score is the mean over the
    frames that contain the box centre, 0 for frames without a match; so the score falls for objects that are missed
    now or were missed in earlier frames. On new surface, a score is unchanged.

    Args:
        current: detections of this frame.
        before: result of the previous frame; None at the start of a strip.
        motion_xy: motion of the surface since the previous frame, in pixels (right, down).
        size_hw: height and width of the image.
        same_iou: minimum IoU of two boxes of one object.
        max_detections: number of detections to keep, by score.
    """
    if before is None:
        hits = np.ones(len(current), np.int64)
        return AveragedDetections(current, current.scores.astype(np.float64), hits, np.zeros((1, 2)))
    old = propagate(before, motion_xy, size_hw)
    partners = _match(current, old.detections, same_iou)
    matched = partners >= 0
    sums, hits = current.scores.astype(np.float64), np.ones(len(current), np.int64)
    sums[matched] += old.sums[partners[matched]]
    hits[matched] += old.hits[partners[matched]]
    rest = np.setdiff1d(np.arange(len(old.detections)), partners)
    boxes = np.concatenate([current.boxes_xyxy, old.detections.boxes_xyxy[rest]])
    labels = np.concatenate([current.labels, old.detections.labels[rest]])
    sums, hits = np.concatenate([sums, old.sums[rest]]), np.concatenate([hits, old.hits[rest]])
    since_xy = np.concatenate([old.since_xy, np.zeros((1, 2))])
    scores = sums / np.maximum(_frames_in_view(boxes, since_xy, size_hw), hits)
    best = np.argsort(-scores, kind="stable")[:max_detections]
    kept = Detections(boxes[best], scores[best].astype(np.float32), labels[best], current.categories)
    return AveragedDetections(kept, sums[best], hits[best], since_xy)


def propagate(known: AveragedDetections, motion_xy: MotionXY, size_hw: tuple[int, int]) -> AveragedDetections:
    """Move averaged detections to the next frame; scores stay, and boxes outside the image are removed.

    Args:
        known: result of the last frame.
        motion_xy: motion of the surface to the next frame, in pixels (right, down).
        size_hw: height and width of the image.
    """
    last = known.detections
    boxes, inside = shift_and_clip(last.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    moved = Detections(boxes[inside].astype(np.float32), last.scores[inside], last.labels[inside], last.categories)
    since_xy = known.since_xy + np.asarray(motion_xy, np.float64)
    shared = (np.abs(since_xy) < size_hw[::-1]).all(axis=1)
    return AveragedDetections(moved, known.sums[inside], known.hits[inside], since_xy[shared])


def _match(current: Detections, old: Detections, same_iou: float) -> NDArray[np.int64]:
    """Greedy matching by falling score: index of the old detection of highest IoU in the category; -1 for none."""
    overlaps = iou(current.boxes_xyxy.astype(np.float64), old.boxes_xyxy.astype(np.float64))
    overlaps[current.labels[:, None] != old.labels[None, :]] = 0
    partners = np.full(len(current), -1, np.int64)
    if not len(old):
        return partners
    for i in np.argsort(-current.scores, kind="stable"):
        j = int(overlaps[i].argmax())
        if overlaps[i, j] >= same_iou:
            partners[i] = j
            overlaps[:, j] = 0
    return partners


def _frames_in_view(
    boxes_xyxy: NDArray[np.float32], since_xy: NDArray[np.float64], size_hw: tuple[int, int]
) -> NDArray[np.int64]:
    """Number of frames that contain the surface point at each box centre, int64[N]."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    earlier = centres[:, None] - since_xy[None]
    return np.asarray(((earlier >= 0) & (earlier < size_hw[::-1])).all(axis=2).sum(axis=1), np.int64)


_SEED = re.compile(r"seed(\d+)")


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """Last checkpoint of a run; selecting the epoch by its score would favour noisy scores."""

    weights: Path
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class TrainedSystem:
    """Name of a system in the tables, and its runs by seed."""

    name: str
    runs: tuple[TrainedRun, ...]


def read_trained_systems(folders: Sequence[Path], dataset: Dataset) -> list[TrainedSystem]:
    """Load the runs of each system.

    Args:
        folders: run folders, the word ``released``, or folders of ``detect bench train`` with seed0, seed1, ... in
            them. A system is named after its folder, with the parent folder if two names are equal.
        dataset: data set for the evaluation.

    Raises:
        ConfigError: the same folder twice.
        CheckpointError: a folder without runs, or a run without a readable last checkpoint.
        DataError: a run trained on other categories.
    """
    resolved = [folder.resolve() for folder in folders]
    repeated = next((folder for i, folder in enumerate(folders) if resolved[i] in resolved[:i]), None)
    if repeated is not None:
        raise ConfigError("the same run is given twice", where=repeated, fix="name each once")
    stems = [folder.name for folder in resolved]
    names = [f"{f.parent.name}/{f.name}" if stems.count(f.name) > 1 else f.name for f in resolved]
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
        message = "no run: it contains neither last.pt nor a folder seed0"
        raise CheckpointError(message, where=folder, fix="give the folder of a run, or of a system of 'bench train'")
    return [seeds[seed] for seed in sorted(seeds)]


def _load(run: Path, dataset: Dataset) -> TrainedRun:
    weights = run if run.is_file() else run / "last.pt"
    if not weights.is_file():
        raise CheckpointError("the run has no last.pt yet", where=run, fix="train it, or remove the folder")
    checkpoint = load_checkpoint(weights)
    known = checkpoint.detector.categories
    if set(known) != set(dataset.categories):
        message = f"the detector has the categories {', '.join(known)}, the data {', '.join(dataset.categories)}"
        raise DataError(message, where=weights, fix="evaluate it on data with the categories of its training")
    return TrainedRun(weights, checkpoint)


# modes with every frame a key frame
PER_FRAME, AVERAGED = "as it is", "averaged over frames"
# predictions of the next frame
PREDICTED, MOVED, AVERAGED_MOVED, COPIED = (
    "predicted",
    "last boxes, moved",
    "averaged boxes, moved",
    "last boxes, copied",
)
# modes between key frames
NEW_REGION, LIGHT, SKIPPED_PREDICTED, SKIPPED_MOVED = "new region", "light network", "predicted", "boxes moved"

ByPosition = dict[int, Detections]  # detections by frame position in the data set


@dataclass(frozen=True, slots=True)
class FrameStep:
    """One frame of a strip.

    Attributes:
        position: index of the frame in the data set.
        strip: name of the strip.
        gap: number of frames since the previous one, above 1 after missing frames; 0 for the first of a strip.
        motion_xy: motion of the surface per frame since the previous frame, in pixels (right, down).
        expected_xy: expected motion per frame, known before this frame is processed.
    """

    position: int
    strip: str
    gap: int
    motion_xy: MotionXY
    expected_xy: MotionXY

    @property
    def total_xy(self) -> MotionXY:
        """Motion of the surface since the previous frame, in pixels."""
        return self.motion_xy[0] * self.gap, self.motion_xy[1] * self.gap

    @property
    def expected_total_xy(self) -> MotionXY:
        """Expected motion since the previous frame, in pixels."""
        return self.expected_xy[0] * self.gap, self.expected_xy[1] * self.gap

    @property
    def remaining_xy(self) -> MotionXY:
        """Total motion minus the expected motion of the missing frames, which are skipped before this frame."""
        skipped = max(self.gap - 1, 0)
        return self.total_xy[0] - skipped * self.expected_xy[0], self.total_xy[1] - skipped * self.expected_xy[1]


def steps_of(images: DetectionDataset, *, read_motion: bool) -> list[list[FrameStep]]:
    """Frames of each strip in temporal order.

    Args:
        images: frames of strips.
        read_motion: estimate the motion from the frames, as without an encoder, and keep the previous motion where the
            estimate fails; else use the recorded positions of the frames.

    Raises:
        DataError: still images, or missing recorded positions if they are needed.
    """
    stills = [image.path for image in images.images if image.frame is None]
    if stills:
        message = f"{len(stills):,} of {len(images):,} images don't belong to a strip"
        fix = "give data with video_id and frame_id (detect sample --frames makes some)"
        raise DataError(message, where=stills[0], fix=fix)
    strips = frames_by_strip(images)
    if max(len(positions) for _, positions in strips) < 2:
        fix = "give strips of several frames (detect sample --frames makes some)"
        raise DataError("no strip has two frames", where=images.path(0), fix=fix)
    return [_steps(images, name, positions, read_motion) for name, positions in strips]


def _steps(images: DetectionDataset, name: str, positions: Sequence[int], read_motion: bool) -> list[FrameStep]:
    steps = [FrameStep(positions[0], name, 0, (0.0, 0.0), (0.0, 0.0))]
    speed: MotionXY = (0.0, 0.0)
    for before, after in pairwise(positions):
        first, second = _frame(images, before), _frame(images, after)
        gap, total = second.number - first.number, second.motion_since(first)
        if read_motion:
            total = estimate_motion(images.pixels(before), images.pixels(after), images.max_value)
        elif total is None:
            message = "the frame has no position on its strip, so its motion is unknown"
            raise DataError(message, where=images.path(after), fix="give frames origin_xy, or add --motion read")
        previous, speed = speed, speed if total is None else (total[0] / gap, total[1] / gap)
        steps.append(FrameStep(after, name, gap, speed, previous if read_motion else speed))
    return steps


def run_strips(
    model: FasterRCNN, categories: tuple[str, ...], images: DetectionDataset, strips: Sequence[Sequence[FrameStep]]
) -> dict[str, ByPosition]:
    """Detections with every frame a key frame, and the baselines computed from them.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        images: pixels; labels aren't used.
        strips: frames of each strip in temporal order.

    Returns:
        Detections of each frame under ``PER_FRAME`` and ``AVERAGED``. Predictions for all frames except each strip's
        first under ``PREDICTED`` (models with memory), ``MOVED``, ``AVERAGED_MOVED`` and ``COPIED``. All predictions
        use the same expected motion: the recorded one, or the previous motion if it is estimated from the frames.
    """
    modes = [PER_FRAME, AVERAGED, MOVED, AVERAGED_MOVED, COPIED]
    if isinstance(model, StripDetector):
        modes.append(PREDICTED)
    detections: dict[str, ByPosition] = {mode: {} for mode in modes}
    for strip in strips:
        stream = Stream(model, categories, channels=images.channels, max_value=images.max_value)
        _run_strip(stream, images, strip, detections)
    return detections


def _run_strip(
    stream: Stream, images: DetectionDataset, strip: Sequence[FrameStep], detections: dict[str, ByPosition]
) -> None:
    """Add the detections and predictions of one strip to ``detections``."""
    last: Detections | None = None
    known: AveragedDetections | None = None
    for step in strip:
        image = images.images[step.position]
        size_hw = (image.height, image.width)
        _skip_missing(stream, step)
        if last is not None and known is not None:
            detections[COPIED][step.position] = last
            detections[MOVED][step.position] = shift_detections(last, step.expected_total_xy, size_hw)
            averaged = propagate(known, step.expected_total_xy, size_hw)
            detections[AVERAGED_MOVED][step.position] = averaged.detections
            if PREDICTED in detections:
                detections[PREDICTED][step.position] = stream.predict_next(step.expected_xy)
        last = stream(images.pixels(step.position), strip=step.strip, motion_xy=step.remaining_xy)
        known = average(last, known, step.total_xy, size_hw)
        detections[PER_FRAME][step.position] = last
        detections[AVERAGED][step.position] = known.detections


def non_key_modes(model: FasterRCNN) -> tuple[str, ...]:
    """Modes of a detector between key frames. The last one skips the frames and is the baseline of the others."""
    if not isinstance(model, StripDetector):
        return NEW_REGION, SKIPPED_MOVED
    return (NEW_REGION, SKIPPED_PREDICTED) if model.light is None else (LIGHT, NEW_REGION, SKIPPED_PREDICTED)


def run_key_frames(
    model: FasterRCNN,
    categories: tuple[str, ...],
    images: DetectionDataset,
    strips: Sequence[Sequence[FrameStep]],
    every: int,
    mode: str,
) -> ByPosition:
    """Detections of each frame with a key frame every ``every`` frames.

    Args:
        model, categories, images, strips: as for ``run_strips``.
        every: key-frame interval in frames, 1 or more.
        mode: one of ``non_key_modes``.
    """
    detections: ByPosition = {}
    for strip in strips:
        stream = KeyFrameStream(model, categories, every, mode, channels=images.channels, max_value=images.max_value)
        number = 0
        for step in strip:
            _skip_missing(stream.stream, step)
            number += step.gap
            detections[step.position] = stream(images.pixels(step.position), step, number)
    return detections


class KeyFrameStream:
    """A stream with a key frame every ``every`` frames, and one of ``non_key_modes`` for the frames between."""

    def __init__(
        self,
        model: FasterRCNN,
        categories: tuple[str, ...],
        every: int,
        mode: str,
        *,
        channels: int = 1,
        max_value: int | None = None,
    ) -> None:
        between: dict[str, NonKeyFrameMode] = {LIGHT: "light", NEW_REGION: "new_region"}
        self.processes_all = mode in between
        self.every = every
        self.stream = Stream(
            model,
            categories,
            key_frame_interval=every,
            non_key_frames=between.get(mode),
            channels=channels,
            max_value=max_value,
        )

    def __call__(self, pixels: Pixels, step: FrameStep, number: int) -> Detections:
        """Detections of frame ``number`` of the strip, counted from 0."""
        if number % self.every and not self.processes_all:
            return self.stream.skip(step.remaining_xy)
        return self.stream(pixels, strip=step.strip, motion_xy=step.remaining_xy)


def _skip_missing(stream: Stream, step: FrameStep) -> None:
    for _ in range(step.gap - 1):
        stream.skip(step.expected_xy)


def _frame(images: DetectionDataset, position: int) -> Frame:
    frame = images.images[position].frame
    assert frame is not None, "steps_of rejects still images"
    return frame
