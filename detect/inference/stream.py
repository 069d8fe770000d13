"""``Stream``: frame-by-frame detection on moving strips, with or without a detector that has memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from ..data.clips import estimate_motion, frames_by_strip
from ..data.dataset import DetectionDataset, as_channels, check_bit_depth, unit_range
from ..data.loader import to_tensor
from ..errors import ConfigError
from ..images import Pixels, as_pixels
from ..models.faster_rcnn import StripDetector
from ..models.nms import nms_per_class
from ..models.recurrent import MemoryState
from ..structures import Array, Detections, Frame, area, iou, shift_and_clip
from .detection import detect_dataset, detect_images, to_detections
from .tiling import offset_detections

_BORDER_PX = 2.0  # pixels: a box that ends this close to a border may be cut by it
_MAX_WINDOW_SHARE = 0.75  # maximum share of the frame in a window; above it the whole frame is processed
_SIZE_MULTIPLE = 8  # pixels; the network pads to a multiple of this
_MIN_CONTEXT_PX, _CONTEXT_DIVISOR = 64, 6  # known surface in a window: the larger of 64 pixels and 1/6 of the frame


@dataclass(frozen=True, slots=True)
class RegionWindow:
    """The part of a frame to process: its full width or height, at the border where new surface enters.

    Attributes:
        axis: 0 if the surface moves horizontally, 1 if vertically.
        start, stop: pixels along that axis.
        enters_high: whether surface enters at the right or bottom border; else at the left or top one.
    """

    axis: int
    start: int
    stop: int
    enters_high: bool

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices of rows and columns."""
        along, across = slice(self.start, self.stop), slice(None)
        return (along, across) if self.axis == 1 else (across, along)

    @property
    def offset_xy(self) -> tuple[int, int]:
        """Position of its first pixel, (x, y)."""
        return (self.start, 0) if self.axis == 0 else (0, self.start)


def new_region_window(
    motion_xy: tuple[float, float], size_hw: tuple[int, int], *, context: int | None = None
) -> RegionWindow | None:
    """Return the window of a frame to process; None if the whole frame is needed.

    Only the main direction counts: if the strip also drifts sideways, the narrow new area at that side is ignored.

    Args:
        motion_xy: pixels (right, down) that the surface moved since the previous frame; no motion gives None.
        size_hw: height and width of the frame.
        context: pixels of known surface to include, so that objects cut by the border become complete; None: a sixth
            of the frame along the motion, but at least 64.
    """
    axis = 1 if abs(motion_xy[1]) >= abs(motion_xy[0]) else 0
    size, motion = size_hw[1 - axis], motion_xy[axis]
    known = max(_MIN_CONTEXT_PX, size // _CONTEXT_DIVISOR) if context is None else context
    depth = math.ceil((abs(motion) + known) / _SIZE_MULTIPLE) * _SIZE_MULTIPLE
    if motion == 0 or depth > _MAX_WINDOW_SHARE * size:
        return None
    return RegionWindow(axis, size - depth, size, True) if motion < 0 else RegionWindow(axis, 0, depth, False)


def merge_new_region(
    before: Detections,
    in_window: Detections,
    window: RegionWindow,
    motion_xy: tuple[float, float],
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    max_detections: int = 100,
) -> Detections:
    """Merge the detections of the previous frame with those of a window into the detections of a frame.

    Boxes that were complete in the previous frame move with the surface and are otherwise unchanged. A box that the
    border cut is merged with its match in the window: the result reaches as far back as the old box and as far ahead
    as the new one. An unmatched box of the window is added only if it reaches into new surface, because the rest of
    the window was processed before.

    Args:
        before: detections of the previous frame.
        in_window: detections of the window, in pixels of the frame.
        window: the processed part of the frame.
        motion_xy: pixels (right, down) that the surface moved since the previous frame.
        size_hw: height and width of the frame.
        same_iou: minimum IoU, within the window, of two boxes of one object; also the IoU threshold of the final NMS
            per category.
        max_detections: maximum number of detections, by score.
    """
    size, axis = size_hw[1 - window.axis], window.axis
    boxes, inside = shift_and_clip(before.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    cut = np.asarray(_extent_along_motion(before.boxes_xyxy, window, size)[1] >= size - _BORDER_PX)
    boxes, cut = boxes[inside], cut[inside]
    scores, labels = before.scores[inside].copy(), before.labels[inside]
    window_boxes, new_px = in_window.boxes_xyxy, abs(motion_xy[axis])
    known = (window.start, window.stop - new_px) if window.enters_high else (new_px, float(window.stop))
    matches = _match_boxes(boxes, cut, labels, in_window, window, known, same_iou)
    starts, ends = _extent_along_motion(window_boxes, window, size)
    inner = window.start if window.enters_high else size - window.stop
    for i in np.flatnonzero(matches >= 0):
        j = int(matches[i])
        if cut[j]:
            boxes[j] = _merge_boxes(boxes[j], window_boxes[i], is_complete=starts[i] > inner + _BORDER_PX)
            scores[j] = max(scores[j], in_window.scores[i])
    is_new = (matches < 0) & (ends > size - new_px)
    boxes = np.concatenate([boxes, window_boxes[is_new]])
    scores = np.concatenate([scores, in_window.scores[is_new]])
    labels = np.concatenate([labels, in_window.labels[is_new]])
    visible = np.flatnonzero(area(boxes) > 0)
    boxes, scores, labels = boxes[visible].astype(np.float32), scores[visible], labels[visible]
    kept = nms_per_class(boxes, scores, labels, same_iou)[:max_detections]
    return Detections(boxes[kept], scores[kept], labels[kept], before.categories)


def _extent_along_motion(boxes: Array, window: RegionWindow, size: int) -> tuple[Array, Array]:
    """Start and end of each box along the window's axis, counted so that surface enters at ``size``."""
    low, high = boxes[:, window.axis], boxes[:, window.axis + 2]
    return (low, high) if window.enters_high else (size - high, size - low)


def _match_boxes(
    boxes: Array,
    cut: NDArray[np.bool_],
    labels: NDArray[np.int64],
    in_window: Detections,
    window: RegionWindow,
    known: tuple[float, float],
    same_iou: float,
) -> NDArray[np.int64]:
    """Match each box of the window, best score first, to the old box of its category with the largest IoU; -1: none.

    The part of a cut box outside the previous frame is unknown, so only the overlap inside known surface is compared.
    """
    matches = np.full(len(in_window), -1, np.int64)
    if not len(boxes) or not len(in_window):
        return matches
    new, old = in_window.boxes_xyxy, _clip_along_axis(boxes, window.axis, (window.start, window.stop))
    ious = np.where(cut, iou(_clip_along_axis(new, window.axis, known), old), iou(new, old))
    ious[in_window.labels[:, None] != labels[None, :]] = 0
    for i in np.argsort(-in_window.scores, kind="stable"):
        j = int(ious[i].argmax())
        if ious[i, j] >= same_iou:
            matches[i] = j
            ious[:, j] = 0
    return matches


def _clip_along_axis(boxes: Array, axis: int, limits: tuple[float, float]) -> Array:
    """Clip boxes to an interval along an axis."""
    parts: Array = boxes.copy()
    parts[:, axis], parts[:, axis + 2] = (np.clip(parts[:, k], *limits) for k in (axis, axis + 2))
    return parts


def _merge_boxes(old: Array, new: Array, *, is_complete: bool) -> Array:
    """The new box if the window contains it completely, else the box around both."""
    if is_complete:
        return new
    low, high = np.minimum(old[:2], new[:2]), np.maximum(old[2:], new[2:])
    return np.concatenate([low, high])


MotionXY = tuple[float, float]  # pixels (right, down) that the surface moves from one frame to the next
NonKeyFrameMode = Literal["light", "new_region"]


class Stream:
    """Detects on the frames of one camera over consecutive strips; no state passes from one strip to the next.

    A detector with memory carries its state from frame to frame. A detector without memory processes each frame alone
    and predicts the next frame by moving its last boxes.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        key_frame_interval: frames from one key frame to the next; the full network runs on all of a key frame.
        non_key_frames: how the other frames are processed. "new_region": the full network runs on the surface that has
            newly come into view, and earlier detections move with the surface; "light": the light network runs on the
            whole frame. None: "light" if the model has a light network, else "new_region".
        channels: 1 for gray, 3 for RGB, as the model needs; frames are converted.
        max_value: gray value of white in 16-bit frames, as in training; None: 65535.
        calibrate: applied to all detections that the stream returns; None: scores stay uncalibrated.

    Raises:
        ConfigError: "light" is requested and the model has no light network.
    """

    def __init__(
        self,
        model: FasterRCNN,
        categories: tuple[str, ...],
        *,
        key_frame_interval: int = 1,
        non_key_frames: NonKeyFrameMode | None = None,
        channels: int = 1,
        max_value: int | None = None,
        calibrate: Callable[[Detections], Detections] | None = None,
    ) -> None:
        has_light = isinstance(model, StripDetector) and model.light is not None
        if non_key_frames == "light" and not has_light:
            raise ConfigError("the detector has no light network", where="non_key_frames", fix="take 'new_region'")
        self.non_key_frames: NonKeyFrameMode = non_key_frames or ("light" if has_light else "new_region")
        self.model, self.categories, self.channels = model, categories, channels
        self.key_frame_interval = key_frame_interval
        self.max_value, self._calibrate = max_value, calibrate
        self.strip: str | None = None
        self.reset()

    def reset(self) -> None:
        """Clear the state: the next frame is the first of a strip."""
        self._state: MemoryState | None = None
        self._state_motion_xy: MotionXY = (0.0, 0.0)  # motion of the surface since the frame of ``_state``
        self._frames = 0  # since the start of the strip
        self._before: Pixels | None = None  # the last frame with pixels
        self._skipped = 0  # missing frames since then
        self._skipped_xy: MotionXY = (0.0, 0.0)  # assumed motion of the surface during them
        self._last: Detections | None = None
        self._size_hw: tuple[int, int] | None = None
        self.speed_xy: MotionXY = (0.0, 0.0)  # last known motion, pixels (right, down) per frame
        self._step_xy: MotionXY = (0.0, 0.0)  # motion since the previous frame; several speeds if frames were missed

    @torch.inference_mode()
    def __call__(
        self, pixels: Pixels, *, strip: str | None = None, motion_xy: MotionXY | None = None, missed: int = 0
    ) -> Detections:
        """Return the detections of the next frame, best score first.

        Args:
            pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; a changed size starts a new strip.
            strip: name of the strip; a changed name starts a new strip.
            motion_xy: motion since the previous frame, skipped or not, as measured by an encoder; None: estimated from
                this frame and the last one with pixels, or the last known speed if the estimate fails.
            missed: number of missing frames since the previous frame, each of which adds one step of motion.

        Raises:
            DataError: the array has another shape or dtype, or a gray value exceeds ``max_value``.
        """
        pixels = as_channels(check_bit_depth(as_pixels(pixels), self.max_value), self.channels)
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        if strip != self.strip or size_hw != self._size_hw:
            self.reset()
        self.strip, self._size_hw = strip, size_hw
        self._step_xy = self._motion_to(pixels, motion_xy, missed + 1)
        is_non_key = self._frames % self.key_frame_interval > 0
        detections = self._detect_new_region(pixels) if is_non_key and self.non_key_frames == "new_region" else None
        if detections is None:
            detections = self._detect_frame(pixels, light=is_non_key and self.non_key_frames == "light")
        self._frames += 1
        self._before, self._last = pixels, detections
        self._skipped, self._skipped_xy = 0, (0.0, 0.0)
        return self._calibrated(detections)

    def _motion_to(self, pixels: Pixels, motion_xy: MotionXY | None, steps: int) -> MotionXY:
        """Return the motion over the ``steps`` frames since the previous one, and set the speed."""
        if self._before is None:
            return 0.0, 0.0
        if motion_xy is not None:
            self.speed_xy = motion_xy[0] / steps, motion_xy[1] / steps
            return motion_xy
        estimate = estimate_motion(self._before, pixels, self.max_value)
        if estimate is None:
            return self.speed_xy[0] * steps, self.speed_xy[1] * steps
        self.speed_xy = estimate[0] / (self._skipped + steps), estimate[1] / (self._skipped + steps)
        return estimate[0] - self._skipped_xy[0], estimate[1] - self._skipped_xy[1]

    def _detect_frame(self, pixels: Pixels, *, light: bool) -> Detections:
        if not isinstance(self.model, StripDetector):
            return detect_images(self.model, [pixels], self.categories, max_value=self.max_value)[0]
        image = to_tensor(unit_range(pixels, self.max_value)).to(self._device)
        output, self._state = self.model.step(image, self._state, self._motion_since_state(self._step_xy), light=light)
        self._state_motion_xy = (0.0, 0.0)
        return to_detections(output, self.categories)

    def _detect_new_region(self, pixels: Pixels) -> Detections | None:
        """Detect in the window of new surface; None if the whole frame is needed.

        Surface that entered during skipped frames was never processed, so the frame after them is processed whole.
        """
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        window = new_region_window(self._step_xy, size_hw)
        if window is None or self._last is None or self._skipped:
            return None
        share = (window.stop - window.start) / size_hw[1 - window.axis]
        proposals = math.ceil(share * self.model.rpn.post_nms_top_n())
        crop = np.ascontiguousarray(pixels[window.slices])
        (output,) = detect_images(self.model, [crop], self.categories, max_value=self.max_value, proposals=proposals)
        in_window = offset_detections(output, *window.offset_xy)
        self._state_motion_xy = _add(self._state_motion_xy, self._step_xy)
        return merge_new_region(self._last, in_window, window, self._step_xy, size_hw)

    @torch.inference_mode()
    def predict_next(self, motion_xy: MotionXY | None = None) -> Detections:
        """Predict the detections of the next frame before it arrives; empty at the start of a strip.

        Args:
            motion_xy: motion of the surface until then; None: the last known speed.
        """
        return self._calibrated(self._predict(motion_xy or self.speed_xy)[0])

    @torch.inference_mode()
    def skip(self, motion_xy: MotionXY | None = None) -> Detections:
        """Advance past a missing frame; returns the detections predicted for it.

        Args:
            motion_xy: motion since the previous frame, as measured by an encoder; None: the last known speed.
        """
        self.speed_xy = motion_xy or self.speed_xy
        detections, self._state = self._predict(self.speed_xy)
        self._state_motion_xy = (0.0, 0.0)
        self._skipped += 1
        self._skipped_xy = _add(self._skipped_xy, self.speed_xy)
        self._last = detections
        self._frames += 1
        return self._calibrated(detections)

    def _calibrated(self, detections: Detections) -> Detections:
        """Calibrate on return only: the stream keeps uncalibrated scores, so that none is calibrated twice."""
        return detections if self._calibrate is None else self._calibrate(detections)

    def _predict(self, motion_xy: MotionXY) -> tuple[Detections, MemoryState | None]:
        if self._last is None or self._size_hw is None:
            empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            return Detections(*empty, self.categories), None
        if isinstance(self.model, StripDetector) and self._state is not None:
            output, state = self.model.predict_next(self._state, self._motion_since_state(motion_xy), self._size_hw)
            return to_detections(output, self.categories), state
        return shift_detections(self._last, motion_xy, self._size_hw), None

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def _motion_since_state(self, motion_xy: MotionXY) -> torch.Tensor:
        """Motion since the frame of the state, given the motion since the previous frame."""
        return torch.tensor(_add(self._state_motion_xy, motion_xy), device=self._device)


def _add(a: MotionXY, b: MotionXY) -> MotionXY:
    return a[0] + b[0], a[1] + b[1]


def shift_detections(detections: Detections, motion_xy: MotionXY, size_hw: tuple[int, int]) -> Detections:
    """Move detections with the surface; boxes that leave the frame are removed.

    Args:
        detections: of the previous frame.
        motion_xy: pixels (right, down) that the surface has moved since then.
        size_hw: height and width of the frame.
    """
    boxes, inside = shift_and_clip(detections.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    scores, labels = detections.scores[inside], detections.labels[inside]
    return Detections(boxes[inside].astype(np.float32), scores, labels, detections.categories)


def detect_in_frame_order(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    key_frame_interval: int = 1,
    non_key_frames: NonKeyFrameMode | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Yield position and detections of each image of a data set, with uncalibrated scores.

    A detector with memory, or a key frame interval above 1, processes the frames of each strip in time order from the
    strip's start, and ``Stream.skip`` advances past missing frames. Other detectors, and data sets that contain still
    images, are processed image by image in batches.

    Args:
        model: in evaluation mode.
        dataset: supplies pixels; its labels are not used, recorded motion is used like an encoder's.
        categories: the model's category names.
        key_frame_interval, non_key_frames: as for ``Stream``.

    Raises:
        ConfigError: as ``Stream``.
    """
    needs_time = isinstance(model, StripDetector) or key_frame_interval > 1
    if not needs_time or any(image.frame is None for image in dataset.images):
        yield from enumerate(chain.from_iterable(detect_dataset(model, dataset, categories)))
        return
    for name, positions in frames_by_strip(dataset):
        stream = Stream(
            model,
            categories,
            key_frame_interval=key_frame_interval,
            non_key_frames=non_key_frames,
            channels=dataset.channels,
            max_value=dataset.max_value,
        )
        before: Frame | None = None
        for position in positions:
            frame = dataset.images[position].frame
            motion = None
            if before is not None and frame is not None:
                gap, total = frame.number - before.number, frame.motion_since(before)
                motion = None if total is None else (total[0] / gap, total[1] / gap)
                for _ in range(gap - 1):
                    stream.skip(motion)
            yield position, stream(dataset.pixels(position), strip=name, motion_xy=motion)
            before = frame
