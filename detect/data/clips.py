"""Training clips: consecutive frames of a strip, or clips made by panning over still images, with their motion.

For panning, an image is extended beyond its borders by reflection, so that scale and grain are those of the image and
the strip has no end. Panning a smaller, enlarged window inside the image was the alternative: in an image of 200 pixels
there is hardly any room to move, and defects would appear larger than in the frames of a camera.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from ..errors import ConfigError, DataError
from ..images import Pixels
from ..structures import Dataset, Frame, recognisable
from ..synthetic.strips import degrade, draw_condition, motions, travel
from .dataset import DetectionDataset, Sample, white_level
from .loader import Item, SeededLoader, add_seeds
from .transforms import Augment

_MIN_PEAK = 30.0  # min correlation * sqrt(number of cells); unrelated frames and black frames stay below it
_MIN_CORRELATION = 0.75  # sufficient correlation in frames too small to reach _MIN_PEAK
_MAX_MOTION = 0.5  # fraction of the frame's sides: with more motion, the overlap of the frames is too small
_GRAIN_PX, _LIGHT_PX = 2.0, 12.0  # finer details are noise, coarser ones are illumination

Plane = NDArray[np.float32]


def estimate_motion(before: Pixels, after: Pixels, max_value: int | None = None) -> tuple[float, float] | None:
    """Estimate the motion of the surface between two frames in pixels (right, down).

    Illumination and noise are filtered out, then the maximum of the normalised cross-correlation of the overlapping
    parts is located, computed by Fourier transform for all shifts (Padfield 2012). Phase correlation is faster, but
    wrong with a high peak in blurred frames, as blur changes phases.

    Args:
        before, after: gray or RGB pixels of the same size, at least 16 pixels per side.
        max_value: gray value of white in 16-bit pixels; None: 65535.

    Returns:
        The motion, or None if the frames are too different (a dropped frame, or motion of more than about half a
        frame).
    """
    a, b = _normalised_detail(before, max_value), _normalised_detail(after, max_value)
    if a.shape != b.shape or min(a.shape) < 8:
        return None
    correlation, reach_y, reach_x = _cross_correlation(a, b)
    i, j = np.unravel_index(int(correlation.argmax()), correlation.shape)
    if correlation[i, j] < min(_MIN_CORRELATION, _MIN_PEAK / np.sqrt(a.size)):
        return None
    down = i - reach_y + _subpixel_peak(correlation[max(i - 1, 0) : i + 2, j])
    right = j - reach_x + _subpixel_peak(correlation[i, max(j - 1, 0) : j + 2])
    return 2 * float(right), 2 * float(down)


def _normalised_detail(pixels: Pixels, max_value: int | None) -> Plane:
    """Band-pass filtered image at half the size, normalised by local contrast; near 0 where there is no contrast."""
    plane = pixels.astype(np.float32) * np.float32(255 / white_level(pixels, max_value))
    plane = plane if plane.ndim == 2 else np.asarray(plane.mean(axis=2, dtype=np.float32))
    detail = cv2.GaussianBlur(plane, (0, 0), _GRAIN_PX)[::2, ::2]
    detail = detail - cv2.GaussianBlur(detail, (0, 0), _LIGHT_PX / 2)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LIGHT_PX / 2))
    return np.asarray(detail / (strength + 1), np.float32)


def _cross_correlation(a: Plane, b: Plane) -> tuple[NDArray[np.float64], int, int]:
    """Normalised cross-correlation of the overlapping parts of two planes for all shifts from -reach to reach.

    It is multiplied by the square root of the overlap relative to the maximum, as small overlaps can correlate by
    chance.

    Returns:
        Correlation, float64[2 * reach_y + 1, 2 * reach_x + 1], reach_y and reach_x.
    """
    height, width = a.shape
    reach_y, reach_x = int(height * _MAX_MOTION), int(width * _MAX_MOTION)
    dy, dx = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    size = cv2.getOptimalDFTSize(height + reach_y), cv2.getOptimalDFTSize(width + reach_x)
    product = np.fft.irfft2(np.conj(np.fft.rfft2(a, size)) * np.fft.rfft2(b, size), size)[np.ix_(dy, dx)]
    overlap = (height - np.abs(dy))[:, None] * (width - np.abs(dx))[None]  # in cells
    sum_a, sum_b = _overlap_sums(a, -dy, -dx), _overlap_sums(b, dy, dx)
    variance_a = _overlap_sums(a * a, -dy, -dx) - sum_a**2 / overlap
    variance_b = _overlap_sums(b * b, dy, dx) - sum_b**2 / overlap
    correlation = (product - sum_a * sum_b / overlap) / np.sqrt(np.maximum(variance_a * variance_b, 1e-6))
    return np.asarray(correlation * np.sqrt(overlap / overlap.max())), reach_y, reach_x


def _overlap_sums(plane: Plane, dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of the part of a plane that overlaps a plane shifted by (dy, dx), for each pair: float64[dy, dx]."""
    height, width = plane.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = plane.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    top, bottom = np.maximum(0, dy), height - np.maximum(0, -dy)
    left, right = np.maximum(0, dx), width - np.maximum(0, -dx)
    below_right, above_right = total[np.ix_(bottom, right)], total[np.ix_(top, right)]
    below_left, above_left = total[np.ix_(bottom, left)], total[np.ix_(top, left)]
    return np.asarray(below_right - above_right - below_left + above_left)


def _subpixel_peak(values: NDArray[np.float64]) -> float:
    """Maximum of a parabola through three neighbouring values, relative to the middle one."""
    if len(values) < 3:
        return 0.0
    before, top, after = values
    curvature = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


_AT_BORDER_PX = 4.0  # boxes that end this near a border count as cut by it, as annotators often stop short of it


def pan_clip(sample: Sample, length: int, rng: np.random.Generator) -> list[Sample]:
    """A clip of ``length`` windows of the size of an image, which moves like a strip (``synthetic.strips.travel``).

    Windows are at integer positions, so pixels are not interpolated. Boxes are reflected with the image; a box that
    ends at a border and its reflection are one object. Boxes are clipped to the window, and dropped if they are not
    ``recognisable`` any more.
    """
    height = sample.pixels.shape[0]
    origins = travel(rng, length, height)
    # the middle of the clip is on the image, within 1/4 of its height
    origins[:, 1] += round(rng.uniform(-0.25, 0.25) * height) - origins[-1, 1] // 2
    return [
        _window_sample(sample, (int(x), int(y)), (float(right), float(down)))
        for (x, y), (right, down) in zip(origins, motions(origins))
    ]


def _window_sample(sample: Sample, origin_xy: tuple[int, int], motion_xy: tuple[float, float]) -> Sample:
    height, width = sample.pixels.shape[:2]
    x, y = origin_xy
    pixels = sample.pixels[_reflect_indices(y, height)][:, _reflect_indices(x, width)]
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    for (x1, y1, x2, y2), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist()):
        for top, bottom in _reflect_interval(y1, y2, height, y):
            for left, right in _reflect_interval(x1, x2, width, x):
                boxes.append((left, top, right, bottom))
                labels.append(label)
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    clipped = np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    keep = recognisable(clipped, boxes_xyxy)
    return Sample(pixels, clipped[keep], np.array(labels, np.int64)[keep], motion_xy)


def _reflect_indices(start: int, size: int) -> NDArray[np.int64]:
    """Indices of the ``size`` rows from ``start`` on in an image extended by reflection: 0 1 2 2 1 0 0 1 2 ..."""
    rows = np.arange(start, start + size) % (2 * size)
    return np.asarray(np.where(rows < size, rows, 2 * size - 1 - rows), np.int64)


def _reflect_interval(low: float, high: float, size: int, start: int) -> list[tuple[float, float]]:
    """Reflections of an interval that overlap a window of ``size`` from ``start`` on, relative to it, unclipped."""
    at_start, at_end = low <= _AT_BORDER_PX, high >= size - _AT_BORDER_PX
    if at_start and at_end:
        return [(0.0, float(size))]
    if at_start:
        intervals = [(-high, high)]
    elif at_end:
        intervals = [(low, 2 * size - low)]
    else:
        intervals = [(low, high), (-high, -low)]
    periods = range(start // (2 * size) - 1, start // (2 * size) + 3)  # the reflections repeat every 2 * size
    moved = [(a + 2 * size * k - start, b + 2 * size * k - start) for k in periods for a, b in intervals]
    return [(a, b) for a, b in moved if b > 0 and a < size]


_CLIP_STREAM = 2  # part of the seed, so that the random stream differs from those of the loader
_LIGHT_STD = 0.03  # standard deviation of the brightness factor per frame in panned clips


def frames_by_strip(dataset: Dataset | DetectionDataset) -> list[tuple[str, list[int]]]:
    """Name of each strip and the indices of its images in temporal order; strips in the order of the data.

    Raises:
        DataError: an image belongs to no strip.
    """
    strips, stills = _group_frames(dataset)
    if stills:
        raise _no_strip_error(dataset, stills)
    return strips


class ClipLoader(SeededLoader):
    """Batches of clips: all frames of the first clip, then those of the second, and so on.

    A strip of n frames gives n // ``length`` clips per epoch, with random starts in each epoch, so that an epoch has
    about as many frames as the strip. A still image gives one clip. All frames of a clip get the same crop, flips and
    light; only the degradation differs per frame.

    Args:
        dataset: images and boxes.
        length: frames per clip; these have consecutive numbers.
        pan: also make clips of still images by panning over them.
        degraded: fraction of frames that are blurred, over-exposed, noisy or dropped, in addition to those recorded
            as such. The first frame of a clip is never dropped, as nothing is known about its content.
        augment: the augmentation, without mosaic.
        batch_size: clips per step, of all processes together.
        shard: (rank, size) of this process among those that share each batch.
        seed, workers, pin: see ``TrainingLoader``.

    Raises:
        DataError: still images without ``pan``, no strip with ``length`` consecutive frames, or a strip whose frames
            differ in size.
        ConfigError: ``augment`` has a mosaic.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        *,
        length: int,
        pan: bool,
        degraded: float,
        augment: Augment,
        batch_size: int,
        seed: int,
        shard: tuple[int, int] = (0, 1),
        workers: int,
        pin: bool,
    ) -> None:
        if augment.mosaic > 0:
            raise ConfigError(f"augment.mosaic is {augment.mosaic:g}, but a mosaic has no motion", fix="set it to 0")
        clips = clip_candidates(dataset, length, pan=pan)
        source = _ClipDataset(dataset, clips, length, degraded, augment, seed)
        super().__init__(source, len(clips), batch_size=batch_size, seed=seed, shard=shard, workers=workers, pin=pin)


def clip_candidates(dataset: DetectionDataset, length: int, *, pan: bool) -> list[list[list[int]]]:
    """For each clip of an epoch, the candidates to choose from, as indices of frames; a still image is one index.

    Raises:
        DataError: see ``ClipLoader``.
    """
    strips, stills = _group_frames(dataset)
    if stills and not pan:
        raise _no_strip_error(dataset, stills)
    clips = [[[i]] for i in stills]
    max_length = 0
    for name, indices in strips:
        _check_sizes(dataset, name, indices)
        for run in _consecutive_runs(dataset, indices):
            max_length = max(max_length, len(run))
            for first in range(0, len(run) - length + 1, length):
                last = min(first + length - 1, len(run) - length)
                candidates = [run[start : start + length] for start in range(first, last + 1)]
                usable = [clip for clip in candidates if _frame(dataset, clip[0]).condition != "dropped"]
                clips.append(usable or candidates)
    if not clips:
        message = f"no strip has {length} frames in a row, the longest has {max_length}"
        raise DataError(message, fix="set shorter clips or record longer strips")
    return clips


class _ClipDataset(TorchDataset[Item]):
    def __init__(
        self,
        dataset: DetectionDataset,
        clips: list[list[list[int]]],
        length: int,
        degraded: float,
        augment: Augment,
        seed: int,
    ) -> None:
        self.dataset, self.clips, self.length = dataset, clips, length
        self.degraded, self.augment, self.seed = degraded, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        rng = np.random.default_rng((self.seed, _CLIP_STREAM, epoch, index))
        candidates = self.clips[index]
        indices = candidates[int(rng.integers(len(candidates)))]
        try:
            if self.dataset.images[indices[0]].frame is None:
                frames = self._panned_clip(indices[0], rng)
                return add_seeds([(indices[0], frame) for frame in frames], rng)
            return add_seeds(list(zip(indices, self._recorded_clip(indices, rng))), rng)
        except DataError as error:  # returned, as torch would add the worker's traceback to the message of a raised one
            return error

    def _panned_clip(self, index: int, rng: np.random.Generator) -> list[Sample]:
        frames = self._augment(pan_clip(self.dataset[index], self.length, rng), rng)
        frames = [_scale_brightness(frame, 1 + _LIGHT_STD * float(rng.standard_normal())) for frame in frames]
        return self._degrade(frames, ["clean"] * self.length, rng)

    def _recorded_clip(self, indices: list[int], rng: np.random.Generator) -> list[Sample]:
        motions = _motions(self.dataset, indices)
        frames = [replace(self.dataset[i], motion_xy=motion_xy) for i, motion_xy in zip(indices, motions)]
        conditions = [_frame(self.dataset, i).condition for i in indices]
        return self._degrade(self._augment(frames, rng), conditions, rng)

    def _augment(self, frames: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Augment all frames in the same way, with generators in the same state."""
        state = int(rng.integers(2**63))
        return [self.augment(frame, np.random.default_rng(state), _no_mosaic) for frame in frames]

    def _degrade(self, frames: list[Sample], recorded: list[str], rng: np.random.Generator) -> list[Sample]:
        """Degrade frames at random, except those whose recorded condition is not clean."""
        degraded = []
        for number, (frame, recorded_condition) in enumerate(zip(frames, recorded)):
            condition, severity = draw_condition(rng, self.degraded)
            if recorded_condition == "dropped":
                condition = "dropped"  # black again, as the change of light may have made it brighter
            elif recorded_condition != "clean" or (condition == "dropped" and number == 0):
                condition = "clean"
            pixels = degrade(frame.pixels, condition, severity, frame.motion_xy, rng)
            degraded.append(replace(frame, pixels=np.asarray(pixels, np.float32)))
        return degraded


def _group_frames(dataset: Dataset | DetectionDataset) -> tuple[list[tuple[str, list[int]]], list[int]]:
    """Strips as in ``frames_by_strip``, and the indices of still images."""
    members: dict[str, list[tuple[int, int]]] = defaultdict(list)
    stills: list[int] = []
    for i, image in enumerate(dataset.images):
        if image.frame is None:
            stills.append(i)
        else:
            members[image.frame.strip].append((image.frame.number, i))
    return [(name, [i for _, i in sorted(frames)]) for name, frames in members.items()], stills


def _no_strip_error(dataset: Dataset | DetectionDataset, stills: Sequence[int]) -> DataError:
    first = dataset.images[stills[0]].path
    message = f"{len(stills):,} of {len(dataset.images):,} images are frames of no strip, and memory needs their order"
    fix = "take data with video_id and frame_id (detect sample --frames makes some), or set clips.pan=true to train"
    return DataError(message, where=first, fix=fix)


def _check_sizes(dataset: DetectionDataset, name: str, indices: Sequence[int]) -> None:
    sizes = sorted({(dataset.images[i].width, dataset.images[i].height) for i in indices})
    if len(sizes) > 1:
        message = f"frames of strip {name!r} have {' and '.join(f'{w}x{h}' for w, h in sizes)} pixels"
        fix = "give the strips of different cameras different names"
        raise DataError(message, where=dataset.images[indices[0]].path, fix=fix)


def _consecutive_runs(dataset: DetectionDataset, indices: Sequence[int]) -> list[list[int]]:
    """Split the frames of a strip where numbers are missing."""
    runs = [[indices[0]]]
    for before, after in pairwise(indices):
        if _frame(dataset, after).number != _frame(dataset, before).number + 1:
            runs.append([])
        runs[-1].append(after)
    return runs


def _frame(dataset: DetectionDataset, index: int) -> Frame:
    frame = dataset.images[index].frame
    assert frame is not None, "a still image is not part of a strip"
    return frame


def _motions(dataset: DetectionDataset, indices: Sequence[int]) -> list[tuple[float, float]]:
    """Motion of the surface since the previous frame: the recorded one, else an estimate from the pixels.

    If there is neither, it is the motion of the previous pair of frames. The first frame has the motion of the second.
    """
    motions: list[tuple[float, float]] = []
    for before, after in pairwise(indices):
        recorded = _frame(dataset, after).motion_since(_frame(dataset, before))
        motion = recorded or estimate_motion(dataset.pixels(before), dataset.pixels(after), dataset.max_value)
        motions.append(motion or (motions[-1] if motions else (0.0, 0.0)))
    return [*(motions[:1] or [(0.0, 0.0)]), *motions]


def _scale_brightness(frame: Sample, strength: float) -> Sample:
    pixels: NDArray[np.float32] = np.clip(frame.pixels * np.float32(strength), 0, 1)
    return replace(frame, pixels=pixels)


def _no_mosaic() -> Sample:
    raise AssertionError("only a mosaic draws other images")
