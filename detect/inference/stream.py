"""Detections frame by frame over moving strips, by a detector that may remember earlier frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from ..data.clips import estimate_motion, frames_by_strip
from ..data.dataset import DetectionDataset, as_channels, check_bit_depth, unit_range
from ..data.loader import to_tensor
from ..errors import ConfigError
from ..images import Pixels
from ..models.faster_rcnn import StripDetector
from ..models.nms import nms_per_class
from ..models.recurrent import MemoryState
from ..structures import Array, Detections, Frame, area, iou, shift_and_clip
from .detection import detect_dataset, detect_images, to_detections

_BORDER_PX = 2.0  # pixels: boxes that end so near a border may go on beyond it
_MAX_WINDOW_SHARE = 0.75  # share of a frame from which on it is as well to look at all of it
_SIZE_MULTIPLE = 8  # pixels; the network pads to this anyway
_CONTEXT_PX = 64, 6  # known surface to look at with the new: so many pixels, or this part of the frame if that is more


@dataclass(frozen=True, slots=True)
class RegionWindow:
    """The part of a frame to look at: all of its width or height, at the border where surface comes in.

    Attributes:
        axis: 0 where the surface moves across, 1 where it moves up or down.
        start, stop: pixels along that axis.
        enters_high: surface comes in at the right or bottom border, not at the left or top one.
    """

    axis: int
    start: int
    stop: int
    enters_high: bool

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        along, across = slice(self.start, self.stop), slice(None)
        return (along, across) if self.axis == 1 else (across, along)

    @property
    def offset_xy(self) -> tuple[int, int]:
        """Of its first pixel."""
        return (self.start, 0) if self.axis == 0 else (0, self.start)


def new_region_window(
    motion_xy: tuple[float, float], size_hw: tuple[int, int], *, context: int | None = None
) -> RegionWindow | None:
    """Where to look in a frame; None where nothing less than all of it will do.

    Only the main direction counts: a strip that also wanders to the side shows a sliver there that isn't looked at.

    Args:
        motion_xy: pixels (right, down) that the surface moved since the frame before; nothing tells of no motion.
        size_hw: height and width of the frame.
        context: pixels of known surface to look at with the new, so that what the border had cut is seen whole; None:
            a sixth of the frame along the motion, 64 at least.
    """
    axis = 1 if abs(motion_xy[1]) >= abs(motion_xy[0]) else 0
    size, motion = size_hw[1 - axis], motion_xy[axis]
    known = max(_CONTEXT_PX[0], size // _CONTEXT_PX[1]) if context is None else context
    depth = math.ceil((abs(motion) + known) / _SIZE_MULTIPLE) * _SIZE_MULTIPLE
    if motion == 0 or depth > _MAX_WINDOW_SHARE * size:
        return None
    return RegionWindow(axis, size - depth, size, True) if motion < 0 else RegionWindow(axis, 0, depth, False)


def merge_new_region(
    before: Detections,
    new_found: Detections,
    window: RegionWindow,
    motion_xy: tuple[float, float],
    size_hw: tuple[int, int],
    *,
    same_iou: float = 0.5,
    max_detections: int = 100,
) -> Detections:
    """Detections of a frame from those of the frame before and those of a look through a window.

    What lay whole in the frame before is moved with the surface and stays as it was found. What the border had cut is
    met by what is seen now: the new box reaches as far back as the old one and as far ahead as the seen one. What is
    seen and is not known counts where it reaches into new surface; the rest was looked at before.

    Args:
        before: of the frame before.
        new_found: through the window, in pixels of the frame.
        window: that was looked through.
        motion_xy: pixels (right, down) that the surface moved since the frame before.
        size_hw: height and width of the frame.
        same_iou: from which IoU on, within the window, two boxes are of one object, and beyond which the lesser of
            two of one category goes.
        max_detections: how many to keep, by score.
    """
    size, axis = size_hw[1 - window.axis], window.axis
    boxes, inside = shift_and_clip(before.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    cut = np.asarray(_extent_along_motion(before.boxes_xyxy, window, size)[1] >= size - _BORDER_PX)
    boxes, cut = boxes[inside], cut[inside]
    scores, labels = before.scores[inside].copy(), before.labels[inside]
    found, new_px = new_found.boxes_xyxy, abs(motion_xy[axis])
    known = (window.start, window.stop - new_px) if window.enters_high else (new_px, float(window.stop))
    partners = _match_boxes(boxes, cut, labels, new_found, window, known, same_iou)
    starts, ends = _extent_along_motion(found, window, size)
    inner = window.start if window.enters_high else size - window.stop
    for i in np.flatnonzero(partners >= 0):
        j = int(partners[i])
        if cut[j]:
            boxes[j] = _merge_boxes(boxes[j], found[i], is_complete=starts[i] > inner + _BORDER_PX)
            scores[j] = max(scores[j], new_found.scores[i])
    new = (partners < 0) & (ends > size - new_px)
    boxes = np.concatenate([boxes, found[new]])
    scores, labels = np.concatenate([scores, new_found.scores[new]]), np.concatenate([labels, new_found.labels[new]])
    visible = np.flatnonzero(area(boxes) > 0)
    boxes, scores, labels = boxes[visible].astype(np.float32), scores[visible], labels[visible]
    kept = nms_per_class(boxes, scores, labels, same_iou)[:max_detections]
    return Detections(boxes[kept], scores[kept], labels[kept], before.categories)


def _extent_along_motion(boxes: Array, window: RegionWindow, size: int) -> tuple[Array, Array]:
    """Start and end of each box along the window's axis, counted so that surface comes in at ``size``."""
    low, high = boxes[:, window.axis], boxes[:, window.axis + 2]
    return (low, high) if window.enters_high else (size - high, size - low)


def _match_boxes(
    boxes: Array,
    cut: NDArray[np.bool_],
    labels: NDArray[np.int64],
    seen: Detections,
    window: RegionWindow,
    known: tuple[float, float],
    same_iou: float,
) -> NDArray[np.int64]:
    """For each seen box, best first, the carried one of its category that it agrees best with in the window, or -1.

    How far a cut one goes on was not seen, so of it and what it is held against only known surface counts.
    """
    partners = np.full(len(seen), -1, np.int64)
    if not len(boxes) or not len(seen):
        return partners
    found, old = seen.boxes_xyxy, _clip_along_axis(boxes, window.axis, (window.start, window.stop))
    overlaps = np.where(cut, iou(_clip_along_axis(found, window.axis, known), old), iou(found, old))
    overlaps[seen.labels[:, None] != labels[None, :]] = 0
    for i in np.argsort(-seen.scores, kind="stable"):
        j = int(overlaps[i].argmax())
        if overlaps[i, j] >= same_iou:
            partners[i] = j
            overlaps[:, j] = 0
    return partners


def _clip_along_axis(boxes: Array, axis: int, limits: tuple[float, float]) -> Array:
    """The parts of boxes that lie between two pixels along an axis."""
    parts: Array = boxes.copy()
    parts[:, axis], parts[:, axis + 2] = (np.clip(parts[:, k], *limits) for k in (axis, axis + 2))
    return parts


def _merge_boxes(old: Array, seen: Array, *, is_complete: bool) -> Array:
    """The seen box if the window showed it whole, else one that holds both."""
    if is_complete:
        return seen
    low, high = np.minimum(old[:2], seen[:2]), np.maximum(old[2:], seen[2:])
    return np.concatenate([low, high])


MotionXY = tuple[float, float]  # pixels (right, down) that the surface moves from a frame to the next
NonKeyFrameMode = Literal["light", "new_region"]


class Stream:
    """One camera over one strip after another; nothing is carried from a strip to the next.

    A detector with memory gets its state back with every frame. One without sees each frame alone, and foresees by
    moving its last boxes on.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        key_frame_interval: each how many frames a key frame is seen, all of it, by the full network.
        non_key_frames: what happens in the frames between. "new_region": the full network runs on the surface that has
            come in, and earlier detections move with the surface; "light": the light network runs on the whole frame.
            None: "light" where there is a light network.
        channels: 1 for gray, 3 for RGB, as the model asks; frames are brought to it.
        max_value: white of 16-bit frames, as in training; None: 65535.
        calibrate: applied to all detections that the stream returns; None: scores are the network's own.

    Raises:
        ConfigError: a light network is asked for, and there is none.
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
        """Forget everything: the next frame is the first of a strip."""
        self._state: MemoryState | None = None
        self._behind_xy: MotionXY = (0.0, 0.0)  # how far the surface has moved since the state's frame
        self._frames = 0  # seen since the start of the strip
        self._before: Pixels | None = None  # the last frame with pixels
        self._skipped = 0  # frames since then that never came
        self._skipped_xy: MotionXY = (0.0, 0.0)  # how far the surface is taken to have moved in them
        self._last: Detections | None = None
        self._size_hw: tuple[int, int] | None = None
        self.speed_xy: MotionXY = (0.0, 0.0)  # pixels (right, down) per frame, as last known
        self._step_xy: MotionXY = (0.0, 0.0)  # since the frame before; several times the speed where frames were missed

    @torch.inference_mode()
    def __call__(
        self, pixels: Pixels, *, strip: str | None = None, motion_xy: MotionXY | None = None, missed: int = 0
    ) -> Detections:
        """Detections of the next frame, best score first.

        Args:
            pixels: uint8 or uint16, [height, width] gray or [height, width, 3] RGB; another size than before starts a
                new strip.
            strip: a name for the strip; another one than before starts a new strip.
            motion_xy: what an encoder says of the motion since the frame before, also if that was skipped; None:
                read from this frame and the last one with pixels, or taken as before where they don't tell.
            missed: frames that never came since the frame before, so many more steps of the motion.

        Raises:
            DataError: gray values beyond ``max_value``.
        """
        pixels = as_channels(check_bit_depth(pixels, self.max_value), self.channels)
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        if strip != self.strip or size_hw != self._size_hw:
            self.reset()
        self.strip, self._size_hw = strip, size_hw
        self._step_xy = self._motion_to(pixels, motion_xy, missed + 1)
        is_non_key = self._frames % self.key_frame_interval > 0
        found = self._at_border(pixels) if is_non_key and self.non_key_frames == "new_region" else None
        if found is None:
            found = self._whole(pixels, light=is_non_key and self.non_key_frames == "light")
        self._frames += 1
        self._before, self._last = pixels, found
        self._skipped, self._skipped_xy = 0, (0.0, 0.0)
        return self._returned(found)

    def _motion_to(self, pixels: Pixels, motion_xy: MotionXY | None, steps: int) -> MotionXY:
        """How far the surface has moved in the ``steps`` frames since the one before; sets the speed."""
        if self._before is None:
            return 0.0, 0.0
        if motion_xy is not None:
            self.speed_xy = motion_xy[0] / steps, motion_xy[1] / steps
            return motion_xy
        read = estimate_motion(self._before, pixels, self.max_value)
        if read is None:
            return self.speed_xy[0] * steps, self.speed_xy[1] * steps
        self.speed_xy = read[0] / (self._skipped + steps), read[1] / (self._skipped + steps)
        return read[0] - self._skipped_xy[0], read[1] - self._skipped_xy[1]

    def _whole(self, pixels: Pixels, *, light: bool) -> Detections:
        if not isinstance(self.model, StripDetector):
            return detect_images(self.model, [pixels], self.categories, max_value=self.max_value)[0]
        image = to_tensor(unit_range(pixels, self.max_value)).to(self._device)
        output, self._state = self.model.step(image, self._state, self._since(self._step_xy), light=light)
        self._behind_xy = (0.0, 0.0)
        return to_detections(output, self.categories)

    def _at_border(self, pixels: Pixels) -> Detections | None:
        """By a look at what has come in; None where that won't do.

        What came in during skipped frames has not been seen, so the frame after them is seen whole.
        """
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        window = new_region_window(self._step_xy, size_hw)
        if window is None or self._last is None or self._skipped:
            return None
        share = (window.stop - window.start) / size_hw[1 - window.axis]
        proposals = math.ceil(share * self.model.rpn.post_nms_top_n())
        look = np.ascontiguousarray(pixels[window.slices])
        (seen,) = detect_images(self.model, [look], self.categories, max_value=self.max_value, proposals=proposals)
        offset_xyxy = np.tile(np.asarray(window.offset_xy, np.float32), 2)
        placed = Detections(seen.boxes_xyxy + offset_xyxy, seen.scores, seen.labels, seen.categories)
        self._behind_xy = _add(self._behind_xy, self._step_xy)
        return merge_new_region(self._last, placed, window, self._step_xy, size_hw)

    @torch.inference_mode()
    def predict_next(self, motion_xy: MotionXY | None = None) -> Detections:
        """Detections of the frame that comes next, before it is seen; empty at the start of a strip.

        Args:
            motion_xy: how far the surface will have moved; None: as far as last time.
        """
        return self._returned(self._ahead(motion_xy or self.speed_xy)[0])

    @torch.inference_mode()
    def skip(self, motion_xy: MotionXY | None = None) -> Detections:
        """A frame that never came: what is foreseen for it, and time goes on.

        Args:
            motion_xy: what an encoder says of the motion since the frame before; None: taken as before.
        """
        self.speed_xy = motion_xy or self.speed_xy
        found, self._state = self._ahead(self.speed_xy)
        self._behind_xy = (0.0, 0.0)
        self._skipped += 1
        self._skipped_xy = _add(self._skipped_xy, self.speed_xy)
        self._last = found
        self._frames += 1
        return self._returned(found)

    def _returned(self, found: Detections) -> Detections:
        """Detections as the stream returns them; inside it scores stay the network's own, to be calibrated once."""
        return found if self._calibrate is None else self._calibrate(found)

    def _ahead(self, motion_xy: MotionXY) -> tuple[Detections, MemoryState | None]:
        if self._last is None or self._size_hw is None:
            nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            return Detections(*nothing, self.categories), None
        if isinstance(self.model, StripDetector) and self._state is not None:
            output, state = self.model.predict_next(self._state, self._since(motion_xy), self._size_hw)
            return to_detections(output, self.categories), state
        return shift_detections(self._last, motion_xy, self._size_hw), None

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def _since(self, motion_xy: MotionXY) -> torch.Tensor:
        """How far the surface has moved since the state's frame, if by ``motion_xy`` since the one before."""
        return torch.tensor(_add(self._behind_xy, motion_xy), device=self._device)


def _add(a: MotionXY, b: MotionXY) -> MotionXY:
    return a[0] + b[0], a[1] + b[1]


def shift_detections(found: Detections, motion_xy: MotionXY, size_hw: tuple[int, int]) -> Detections:
    """Detections moved with the surface, those that leave the picture left out.

    Args:
        found: in the frame before.
        motion_xy: pixels (right, down) that the surface has moved since then.
        size_hw: height and width of the picture.
    """
    boxes, inside = shift_and_clip(found.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    return Detections(boxes[inside].astype(np.float32), found.scores[inside], found.labels[inside], found.categories)


def detect_in_frame_order(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    key_frame_interval: int = 1,
    non_key_frames: NonKeyFrameMode | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Position and detections of each image of a data set.

    A detector with memory, or one that doesn't see all of every frame, sees the frames of strips one after another,
    each strip from its beginning; frames that never came are skipped over. Else, and with still images among them, all
    are seen alone, in batches. Scores are the network's own.

    Args:
        model: in evaluation mode.
        dataset: pixels; labels aren't looked at, recorded motion is taken as an encoder's word.
        categories: the model's category names.
        key_frame_interval, non_key_frames: which frames the full network sees, and what happens in the others, as for
            ``Stream``.

    Raises:
        ConfigError: as ``Stream``.
    """
    needs_time = isinstance(model, StripDetector) or key_frame_interval > 1
    if not needs_time or any(image.frame is None for image in dataset.images):
        position = 0
        for batch in detect_dataset(model, dataset, categories):
            for found in batch:
                yield position, found
                position += 1
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
