"""Clips: frames of one strip in order, read or made from single images, and the motion from frame to frame.

Beyond each border the image goes on as its own reflection, so that scale and grain stay those of the image and the
strip has no end. A smaller window enlarged to the image's size was the alternative: it hardly has room to move in an
image of 200 pixels, and shows every defect coarser than the detector will meet it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from ..errors import ConfigError, DataError
from ..images import Pixels
from ..structures import Dataset, Frame, recognisable
from ..synthetic.strips import degrade, draw_condition, motions, travel
from .dataset import DetectionDataset, Sample
from .loader import Item, SeededLoader, add_seeds
from .transforms import Augment

_MIN_PEAK = 30.0  # correlation times the root of the cells compared; unrelated frames and black ones stay below
_MIN_CORRELATION = 0.75  # a correlation that is trusted in frames too small to reach that
_MAX_MOTION = 0.5  # of the frame's sides: with a motion beyond that, the frames share too little
_GRAIN_PX, _LIGHT_PX = 2.0, 12.0  # details finer than the one are noise, coarser than the other they are light

Plane = NDArray[np.float32]


def estimate_motion(before: Pixels, after: Pixels, max_value: int | None = None) -> tuple[float, float] | None:
    """Pixels (right, down) that the surface moved from one frame to the next.

    The frames are freed of light and noise and laid over each other in all ways at once; what they then share is
    correlated (normalised cross-correlation of overlapping parts by Fourier transform: Padfield 2012). Phase
    correlation, which is quicker, is wrong and sure of it where a frame is blurred: blur turns phases around.

    Args:
        before, after: gray or RGB pixels of one size, at least 16 each way.
        max_value: white of 16-bit pixels; None: 65535.

    Returns:
        The motion, or None where the frames share too little to tell (a dropped frame, more than about half a frame
        of motion).
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
    """What lies on the steel, of one strength everywhere, at half the size; 0 where nothing can be seen."""
    import cv2

    white = 255 if pixels.dtype == np.uint8 else max_value or np.iinfo(np.uint16).max
    plane = pixels.astype(np.float32) * np.float32(255 / white)
    plane = plane if plane.ndim == 2 else np.asarray(plane.mean(axis=2, dtype=np.float32))
    detail = cv2.GaussianBlur(plane, (0, 0), _GRAIN_PX)[::2, ::2]
    detail = detail - cv2.GaussianBlur(detail, (0, 0), _LIGHT_PX / 2)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LIGHT_PX / 2))
    return np.asarray(detail / (strength + 1), np.float32)


def _cross_correlation(a: Plane, b: Plane) -> tuple[NDArray[np.float64], int, int]:
    """For each motion from -reach to reach, the correlation of the parts of two planes that then overlap.

    It is scaled down by the root of the overlap's share, as little is easily alike by chance.
    """
    import cv2

    height, width = a.shape
    reach_y, reach_x = int(height * _MAX_MOTION), int(width * _MAX_MOTION)
    dy, dx = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    size = cv2.getOptimalDFTSize(height + reach_y), cv2.getOptimalDFTSize(width + reach_x)
    product = np.fft.irfft2(np.conj(np.fft.rfft2(a, size)) * np.fft.rfft2(b, size), size)[np.ix_(dy, dx)]
    shared = (height - np.abs(dy))[:, None] * (width - np.abs(dx))[None]
    sum_a, sum_b = _overlap_sums(a, -dy, -dx), _overlap_sums(b, dy, dx)
    spread_a = _overlap_sums(a * a, -dy, -dx) - sum_a**2 / shared
    spread_b = _overlap_sums(b * b, dy, dx) - sum_b**2 / shared
    alike = (product - sum_a * sum_b / shared) / np.sqrt(np.maximum(spread_a * spread_b, 1e-6))
    return np.asarray(alike * np.sqrt(shared / shared.max())), reach_y, reach_x


def _overlap_sums(plane: Plane, dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.float64]:
    """Sum of the part of a plane that overlaps one that lies ``dy`` up and ``dx`` to the left of it, for each pair."""
    height, width = plane.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = plane.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    top, bottom = np.maximum(0, dy), height - np.maximum(0, -dy)
    left, right = np.maximum(0, dx), width - np.maximum(0, -dx)
    corners = (total[np.ix_(y, x)] for y, x in ((bottom, right), (top, right), (bottom, left), (top, left)))
    first, second, third, fourth = corners
    return np.asarray(first - second - third + fourth)


def _subpixel_peak(values: NDArray[np.float64]) -> float:
    """Where a parabola through three neighbours has its top, counted from the middle one."""
    if len(values) < 3:
        return 0.0
    before, top, after = values
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0


_AT_BORDER_PX = 4.0  # a box that ends so near a border is cut by it (annotators stop short), and goes on beyond


def pan_clip(sample: Sample, length: int, rng: np.random.Generator) -> list[Sample]:
    """A clip of ``length`` frames of the image's size, moving as filmed strips do (``sample.travel``).

    Windows lie on whole pixels, so every pixel is one of the image's. Boxes are reflected with it; one that ends at a
    border is one object with its reflection. They are cut at the window, and left out where that leaves too little
    (``boxes.recognisable``).
    """
    height = sample.pixels.shape[0]
    origins = travel(rng, length, height)
    # the clip's middle lies on the image, give or take a quarter of its height
    origins[:, 1] += round(rng.uniform(-0.25, 0.25) * height) - origins[-1, 1] // 2
    return [
        _window_sample(sample, (int(x), int(y)), (float(right), float(down)))
        for (x, y), (right, down) in zip(origins, motions(origins))
    ]


def _window_sample(sample: Sample, origin_xy: tuple[int, int], motion_xy: tuple[float, float]) -> Sample:
    height, width = sample.pixels.shape[:2]
    x, y = origin_xy
    pixels = sample.pixels[_reflect_indices(y, height)][:, _reflect_indices(x, width)]
    whole: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    for (x1, y1, x2, y2), label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist()):
        boxes = [
            (left, top, right, bottom)
            for top, bottom in _reflect_interval(y1, y2, height, y)
            for left, right in _reflect_interval(x1, x2, width, x)
        ]
        whole += boxes
        labels += [label] * len(boxes)
    boxes_xyxy = np.array(whole, np.float32).reshape(-1, 4)
    cut = np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    keep = recognisable(cut, boxes_xyxy)
    return Sample(pixels, cut[keep], np.array(labels, np.int64)[keep], motion_xy)


def _reflect_indices(start: int, size: int) -> NDArray[np.int64]:
    """The image's rows that ``size`` rows from ``start`` on show: 0 1 2 2 1 0 0 1 2 ..."""
    rows = np.arange(start, start + size) % (2 * size)
    return np.asarray(np.where(rows < size, rows, 2 * size - 1 - rows), np.int64)


def _reflect_interval(low: float, high: float, size: int, start: int) -> list[tuple[float, float]]:
    """An interval's images in a window of ``size`` from ``start`` on, relative to it, each whole."""
    starts, ends = low <= _AT_BORDER_PX, high >= size - _AT_BORDER_PX
    if starts and ends:
        return [(0.0, float(size))]
    if starts:
        images = [(-high, high)]
    elif ends:
        images = [(low, 2 * size - low)]
    else:
        images = [(low, high), (-high, -low)]
    turns = range(start // (2 * size) - 1, start // (2 * size) + 3)
    moved = [(a + 2 * size * k - start, b + 2 * size * k - start) for k in turns for a, b in images]
    return [(a, b) for a, b in moved if b > 0 and a < size]


_CLIP_STREAM = 2  # a stream of random numbers of its own, beside the loader's
_LIGHT_STD = 0.03  # standard deviation of the lamps' strength from frame to frame, where a still image is panned over


def frames_by_strip(dataset: Dataset | DetectionDataset) -> list[tuple[str, list[int]]]:
    """Each strip's name and the positions of its images in the order of time; strips as they come in the data.

    Raises:
        DataError: an image belongs to no strip.
    """
    found, stills = _group_frames(dataset)
    if stills:
        raise _no_strip_error(dataset, stills)
    return found


class ClipLoader(SeededLoader):
    """One pass over ``epoch(n)`` gives the n-th epoch's batches of clips, clip after clip, frame after frame.

    A strip of n frames gives n // ``length`` clips an epoch, which start elsewhere in each epoch, so that an epoch
    shows about as many frames as there are. A still image gives one clip. All frames of a clip get the same crop,
    flips and light; only how single frames are degraded differs.

    Args:
        dataset: pixels and boxes.
        length: frames a clip; frames of strips are taken one after another, never over a gap in their numbers.
        pan: make clips of still images too, by panning over them.
        degraded: share of frames that are blurred, over-exposed, noisy or dropped, on top of those recorded as
            such; a clip's first frame is never dropped, as nothing could be known of it.
        augment: the chain of random changes; without mosaic, which has no motion.
        batch_size: clips a step, of all processes together.
        shard: (rank, size) of this process among those that share each batch.
        seed, workers, pin: as for ``TrainingLoader``.

    Raises:
        DataError: still images and no ``pan``, no strip with ``length`` frames in a row, a strip whose frames differ
            in size.
        ConfigError: a mosaic is asked for.
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
    """For each clip of an epoch the clips to choose from, as positions of frames; a single position is panned over.

    Raises:
        DataError: as ``ClipLoader``.
    """
    found, stills = _group_frames(dataset)
    if stills and not pan:
        raise _no_strip_error(dataset, stills)
    clips = [[[i]] for i in stills]
    longest = 0
    for name, positions in found:
        _check_sizes(dataset, name, positions)
        for run in _consecutive_runs(dataset, positions):
            longest = max(longest, len(run))
            for first in range(0, len(run) - length + 1, length):
                last = min(first + length - 1, len(run) - length)
                choice = [run[start : start + length] for start in range(first, last + 1)]
                seen = [clip for clip in choice if _frame(dataset, clip[0]).condition != "dropped"]
                clips.append(seen or choice)
    if not clips:
        found_most = f"no strip has {length} frames in a row, the most are {longest}"
        raise DataError(found_most, fix="ask for shorter clips or film longer strips")
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
        choice = self.clips[index]
        positions = choice[int(rng.integers(len(choice)))]
        try:
            if self.dataset.images[positions[0]].frame is None:
                frames = self._panned(positions[0], rng)
                return add_seeds([(positions[0], frame) for frame in frames], rng)
            return add_seeds(list(zip(positions, self._filmed(positions, rng))), rng)
        except DataError as error:  # raised in a worker process, it would arrive with a traceback in its message
            return error

    def _panned(self, position: int, rng: np.random.Generator) -> list[Sample]:
        frames = self._augmented(pan_clip(self.dataset[position], self.length, rng), rng)
        lit = [_scale_brightness(frame, 1 + _LIGHT_STD * float(rng.standard_normal())) for frame in frames]
        return self._degraded(lit, ["clean"] * self.length, rng)

    def _filmed(self, positions: list[int], rng: np.random.Generator) -> list[Sample]:
        motions = _motions(self.dataset, positions)
        frames = [replace(self.dataset[i], motion_xy=motion_xy) for i, motion_xy in zip(positions, motions)]
        recorded = [_frame(self.dataset, i).condition for i in positions]
        return self._degraded(self._augmented(frames, rng), recorded, rng)

    def _augmented(self, frames: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """The same changes for all frames: each gets a generator in the same state."""
        state = int(rng.integers(2**63))
        return [self.augment(frame, np.random.default_rng(state), _no_mosaic) for frame in frames]

    def _degraded(self, frames: list[Sample], recorded: list[str], rng: np.random.Generator) -> list[Sample]:
        changed = []
        for number, (frame, before) in enumerate(zip(frames, recorded)):
            condition, severity = draw_condition(rng, self.degraded)
            if before == "dropped":
                condition = before  # black again, as the change of light may have lifted it
            elif before != "clean" or (condition == "dropped" and number == 0):
                condition = "clean"
            pixels = degrade(frame.pixels, condition, severity, frame.motion_xy, rng)
            changed.append(replace(frame, pixels=np.asarray(pixels, np.float32)))
        return changed


def _group_frames(dataset: Dataset | DetectionDataset) -> tuple[list[tuple[str, list[int]]], list[int]]:
    """Strips as ``strips`` gives them, and the positions of still images."""
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
    found = f"{len(stills):,} of {len(dataset.images):,} images are frames of no strip, and memory needs their order"
    fix = "take data with video_id and frame_id (detect sample --frames makes some), or set clips.pan=true to train"
    return DataError(found, where=first, fix=fix)


def _check_sizes(dataset: DetectionDataset, name: str, positions: Sequence[int]) -> None:
    sizes = sorted({(dataset.images[i].width, dataset.images[i].height) for i in positions})
    if len(sizes) > 1:
        found = f"frames of strip {name!r} have {' and '.join(f'{w}x{h}' for w, h in sizes)} pixels"
        raise DataError(found, where=dataset.images[positions[0]].path, fix="give frames of different cameras names")


def _consecutive_runs(dataset: DetectionDataset, positions: Sequence[int]) -> list[list[int]]:
    """A strip's frames, divided where numbers are missing."""
    runs = [[positions[0]]]
    for before, after in pairwise(positions):
        if _frame(dataset, after).number != _frame(dataset, before).number + 1:
            runs.append([])
        runs[-1].append(after)
    return runs


def _frame(dataset: DetectionDataset, position: int) -> Frame:
    frame = dataset.images[position].frame
    assert frame is not None, "a still image is no part of a strip"
    return frame


def _motions(dataset: DetectionDataset, positions: Sequence[int]) -> list[tuple[float, float]]:
    """The surface's motion since the frame before, read from the frames where they don't tell their place.

    Where that can't be read either, the strip is taken to move on as before. The first frame has the second's motion.
    """
    moved: list[tuple[float, float]] = []
    for before, after in pairwise(positions):
        told = _frame(dataset, after).motion_since(_frame(dataset, before))
        read = told or estimate_motion(dataset.pixels(before), dataset.pixels(after), dataset.max_value)
        moved.append(read or (moved[-1] if moved else (0.0, 0.0)))
    return [*(moved[:1] or [(0.0, 0.0)]), *moved]


def _scale_brightness(frame: Sample, strength: float) -> Sample:
    lit: NDArray[np.float32] = np.clip(frame.pixels * np.float32(strength), 0, 1)
    return replace(frame, pixels=lit)


def _no_mosaic() -> Sample:
    raise AssertionError("only a mosaic draws other images")
