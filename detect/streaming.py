"""Detections frame by frame over moving strips, by a detector that may remember what it saw before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN

from .boxes import carried
from .data import DetectionDataset, as_channels, check_depth, strips, to_tensor, unit_range
from .errors import ConfigError
from .images import Pixels
from .incoming import grown, incoming_window
from .models import State, StripDetector
from .motion import motion_between
from .prediction import detect_dataset, detect_images, to_detections
from .records import Detections, Frame

Motion = tuple[float, float]  # pixels (right, down) that the surface moves from a frame to the next
Between = Literal["light", "incoming"]


class Stream:
    """One camera over one strip after another; nothing is carried from a strip to the next.

    A detector with memory gets its state back with every frame. One without sees each frame alone, and foresees by
    moving its last boxes on.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        every: each how many frames a key frame is seen, all of it, by the full network.
        between: what happens in the frames between. "incoming": the full network looks at the surface that has come
            in, and what was found before is carried on; "light": the light network looks at all of it. None: by the
            light network where there is one.
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
        every: int = 1,
        between: Between | None = None,
        channels: int = 1,
        max_value: int | None = None,
        calibrate: Callable[[Detections], Detections] | None = None,
    ) -> None:
        has_light = isinstance(model, StripDetector) and model.light is not None
        if between == "light" and not has_light:
            raise ConfigError("the detector has no light network", where="between", fix="take 'incoming'")
        self.between: Between = between or ("light" if has_light else "incoming")
        self.model, self.categories, self.every, self.channels = model, categories, every, channels
        self.max_value, self._calibrate = max_value, calibrate
        self.strip: str | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first of a strip."""
        self._state: State | None = None
        self._behind_xy: Motion = (0.0, 0.0)  # how far the surface has moved since the state's frame
        self._frames = 0  # seen since the start of the strip
        self._before: Pixels | None = None  # the last frame with pixels
        self._skipped = 0  # frames since then that never came
        self._skipped_xy: Motion = (0.0, 0.0)  # how far the surface is taken to have moved in them
        self._last: Detections | None = None
        self._size_hw: tuple[int, int] | None = None
        self.speed_xy: Motion = (0.0, 0.0)  # pixels (right, down) per frame, as last known
        self._step_xy: Motion = (0.0, 0.0)  # since the frame before; several times the speed where frames were missed

    @torch.inference_mode()
    def __call__(
        self, pixels: Pixels, *, strip: str | None = None, motion_xy: Motion | None = None, missed: int = 0
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
        pixels = as_channels(check_depth(pixels, self.max_value), self.channels)
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        if strip != self.strip or size_hw != self._size_hw:
            self.reset()
        self.strip, self._size_hw = strip, size_hw
        self._step_xy = self._motion_to(pixels, motion_xy, missed + 1)
        between = self._frames % self.every > 0
        found = self._at_border(pixels) if between and self.between == "incoming" else None
        if found is None:
            found = self._whole(pixels, light=between and self.between == "light")
        self._frames += 1
        self._before, self._last = pixels, found
        self._skipped, self._skipped_xy = 0, (0.0, 0.0)
        return self._returned(found)

    def _motion_to(self, pixels: Pixels, motion_xy: Motion | None, steps: int) -> Motion:
        """How far the surface has moved in the ``steps`` frames since the one before; sets the speed."""
        if self._before is None:
            return 0.0, 0.0
        if motion_xy is not None:
            self.speed_xy = motion_xy[0] / steps, motion_xy[1] / steps
            return motion_xy
        read = motion_between(self._before, pixels, self.max_value)
        if read is None:
            return self.speed_xy[0] * steps, self.speed_xy[1] * steps
        self.speed_xy = read[0] / (self._skipped + steps), read[1] / (self._skipped + steps)
        return read[0] - self._skipped_xy[0], read[1] - self._skipped_xy[1]

    def _whole(self, pixels: Pixels, *, light: bool) -> Detections:
        if not isinstance(self.model, StripDetector):
            return detect_images(self.model, [pixels], self.categories, max_value=self.max_value)[0]
        image = to_tensor(unit_range(pixels, self.max_value)).to(self._device)
        output, self._state = self.model.see(image, self._state, self._since(self._step_xy), light=light)
        self._behind_xy = (0.0, 0.0)
        return to_detections(output, self.categories)

    def _at_border(self, pixels: Pixels) -> Detections | None:
        """By a look at what has come in; None where that won't do.

        What came in during skipped frames has not been seen, so the frame after them is seen whole.
        """
        size_hw = (int(pixels.shape[0]), int(pixels.shape[1]))
        window = incoming_window(self._step_xy, size_hw)
        if window is None or self._last is None or self._skipped:
            return None
        share = (window.stop - window.start) / size_hw[1 - window.axis]
        proposals = math.ceil(share * self.model.rpn.post_nms_top_n())
        look = np.ascontiguousarray(pixels[window.slices])
        (seen,) = detect_images(self.model, [look], self.categories, max_value=self.max_value, proposals=proposals)
        offset_xyxy = np.tile(np.asarray(window.offset_xy, np.float32), 2)
        placed = Detections(seen.boxes_xyxy + offset_xyxy, seen.scores, seen.labels, seen.categories)
        self._behind_xy = _sum(self._behind_xy, self._step_xy)
        return grown(self._last, placed, window, self._step_xy, size_hw)

    @torch.inference_mode()
    def foresee(self, motion_xy: Motion | None = None) -> Detections:
        """Detections of the frame that comes next, before it is seen; empty at the start of a strip.

        Args:
            motion_xy: how far the surface will have moved; None: as far as last time.
        """
        return self._returned(self._ahead(motion_xy or self.speed_xy)[0])

    @torch.inference_mode()
    def skip(self, motion_xy: Motion | None = None) -> Detections:
        """A frame that never came: what is foreseen for it, and time goes on.

        Args:
            motion_xy: what an encoder says of the motion since the frame before; None: taken as before.
        """
        self.speed_xy = motion_xy or self.speed_xy
        found, self._state = self._ahead(self.speed_xy)
        self._behind_xy = (0.0, 0.0)
        self._skipped += 1
        self._skipped_xy = _sum(self._skipped_xy, self.speed_xy)
        self._last = found
        self._frames += 1
        return self._returned(found)

    def _returned(self, found: Detections) -> Detections:
        """Detections as the stream returns them; inside it scores stay the network's own, to be calibrated once."""
        return found if self._calibrate is None else self._calibrate(found)

    def _ahead(self, motion_xy: Motion) -> tuple[Detections, State | None]:
        if self._last is None or self._size_hw is None:
            nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
            return Detections(*nothing, self.categories), None
        if isinstance(self.model, StripDetector) and self._state is not None:
            output, state = self.model.foresee(self._state, self._since(motion_xy), self._size_hw)
            return to_detections(output, self.categories), state
        return carried_on(self._last, motion_xy, self._size_hw), None

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def _since(self, motion_xy: Motion) -> torch.Tensor:
        """How far the surface has moved since the state's frame, if by ``motion_xy`` since the one before."""
        return torch.tensor(_sum(self._behind_xy, motion_xy), device=self._device)


def _sum(a: Motion, b: Motion) -> Motion:
    return a[0] + b[0], a[1] + b[1]


def carried_on(found: Detections, motion_xy: Motion, size_hw: tuple[int, int]) -> Detections:
    """Detections moved with the surface, those that leave the picture left out.

    Args:
        found: in the frame before.
        motion_xy: pixels (right, down) that the surface has moved since then.
        size_hw: height and width of the picture.
    """
    boxes, inside = carried(found.boxes_xyxy, motion_xy, size_hw[1], size_hw[0])
    return Detections(boxes[inside].astype(np.float32), found.scores[inside], found.labels[inside], found.categories)


def detect_in_time(
    model: FasterRCNN,
    dataset: DetectionDataset,
    categories: tuple[str, ...],
    *,
    every: int = 1,
    between: Between | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Position and detections of each image of a data set.

    A detector with memory, or one that doesn't see all of every frame, sees the frames of strips one after another,
    each strip from its beginning; frames that never came are skipped over. Else, and with still images among them, all
    are seen alone, in batches. Scores are the network's own.

    Args:
        model: in evaluation mode.
        dataset: pixels; labels aren't looked at, recorded motion is taken as an encoder's word.
        categories: the model's category names.
        every, between: which frames the full network sees, and what happens in the others, as for ``Stream``.

    Raises:
        ConfigError: as ``Stream``.
    """
    needs_time = isinstance(model, StripDetector) or every > 1
    if not needs_time or any(image.frame is None for image in dataset.images):
        position = 0
        for batch in detect_dataset(model, dataset, categories):
            for found in batch:
                yield position, found
                position += 1
        return
    for name, positions in strips(dataset):
        stream = Stream(
            model, categories, every=every, between=between, channels=dataset.channels, max_value=dataset.max_value
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
