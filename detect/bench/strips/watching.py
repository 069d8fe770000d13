"""A detector over moving strips, and beside it every simple way that a memory is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchvision.models.detection import FasterRCNN

from ...data import DetectionDataset, strips
from ...errors import DataError
from ...images import Pixels
from ...models import StripDetector
from ...motion import motion_between
from ...records import Detections, Frame
from ...streaming import Between, Motion, Stream, carried_on
from .averaging import Averaged, average, carry

SEEN, AVERAGED = "as it is", "averaged over frames"
FORESEEN, MOVED, AVERAGED_MOVED, COPIED = "foreseen", "last boxes, moved", "averaged boxes, moved", "last boxes, copied"
INCOMING, LIGHT, SKIPPED_FORESEEN, SKIPPED_MOVED = "incoming surface", "light network", "foreseen", "boxes moved"

ByPosition = dict[int, Detections]  # detections by the frame's position in the data set


@dataclass(frozen=True, slots=True)
class Step:
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
    motion_xy: Motion
    expected_xy: Motion

    @property
    def total_xy(self) -> Motion:
        """How far the surface moved since the frame before."""
        return self.motion_xy[0] * self.gap, self.motion_xy[1] * self.gap

    @property
    def expected_total_xy(self) -> Motion:
        """How far it was expected to."""
        return self.expected_xy[0] * self.gap, self.expected_xy[1] * self.gap

    @property
    def remaining_xy(self) -> Motion:
        """What is left of it once frames that never came have been skipped, each by the expected motion."""
        skipped = max(self.gap - 1, 0)
        return self.total_xy[0] - skipped * self.expected_xy[0], self.total_xy[1] - skipped * self.expected_xy[1]


def steps_of(images: DetectionDataset, *, read_motion: bool) -> list[list[Step]]:
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
    found_strips = strips(images)
    if max(len(positions) for _, positions in found_strips) < 2:
        fix = "give strips of several frames (detect sample --frames makes some)"
        raise DataError("no strip has two frames, so nothing moves", where=images.path(0), fix=fix)
    return [_steps(images, name, positions, read_motion) for name, positions in found_strips]


def _steps(images: DetectionDataset, name: str, positions: Sequence[int], read_motion: bool) -> list[Step]:
    steps = [Step(positions[0], name, 0, (0.0, 0.0), (0.0, 0.0))]
    speed: Motion = (0.0, 0.0)
    for before, after in pairwise(positions):
        first, second = _frame(images, before), _frame(images, after)
        gap, total = second.number - first.number, second.motion_since(first)
        if read_motion:
            total = motion_between(images.pixels(before), images.pixels(after), images.max_value)
        elif total is None:
            found = "the frame doesn't say where it lies on its strip, so its motion is unknown"
            raise DataError(found, where=images.path(after), fix="give frames origin_xy, or add --motion read")
        before_it, speed = speed, speed if total is None else (total[0] / gap, total[1] / gap)
        steps.append(Step(after, name, gap, speed, before_it if read_motion else speed))
    return steps


def watch_all(
    model: FasterRCNN, categories: tuple[str, ...], images: DetectionDataset, strips: Sequence[Sequence[Step]]
) -> dict[str, ByPosition]:
    """All that a detector says of strips with every frame a key frame, and what simple ways make of that.

    Args:
        model: in evaluation mode.
        categories: the model's category names.
        images: pixels; labels aren't looked at.
        strips: the frames of each in the order of time.

    Returns:
        Detections of each frame under ``SEEN`` and ``AVERAGED``; and those of each strip's frames but the first made
        before they were seen, under ``FORESEEN`` (where there is a memory), ``MOVED``, ``AVERAGED_MOVED`` and
        ``COPIED``. All are told the same of how far the surface will have moved: what an encoder says, or, where the
        motion is read from the frames, that it moves on as before.
    """
    seen = [_watch(model, categories, images, strip) for strip in strips]
    return {way: {k: v for ways in seen for k, v in ways[way].items()} for way in seen[0]}


def _watch(
    model: FasterRCNN, categories: tuple[str, ...], images: DetectionDataset, strip: Sequence[Step]
) -> dict[str, ByPosition]:
    ways: dict[str, ByPosition] = {name: {} for name in (SEEN, AVERAGED, MOVED, AVERAGED_MOVED, COPIED)}
    remembers = isinstance(model, StripDetector)
    if remembers:
        ways[FORESEEN] = {}
    stream = Stream(model, categories, channels=images.channels, max_value=images.max_value)
    last: Detections | None = None
    known: Averaged | None = None
    for step in strip:
        image = images.images[step.position]
        size_hw = (image.height, image.width)
        _skip_missing(stream, step)
        if last is not None and known is not None:
            ways[COPIED][step.position] = last
            ways[MOVED][step.position] = carried_on(last, step.expected_total_xy, size_hw)
            ways[AVERAGED_MOVED][step.position] = carry(known, step.expected_total_xy, size_hw).found
            if remembers:
                ways[FORESEEN][step.position] = stream.foresee(step.expected_xy)
        last = stream(images.pixels(step.position), strip=step.strip, motion_xy=step.remaining_xy)
        known = average(last, known, step.total_xy, size_hw)
        ways[SEEN][step.position], ways[AVERAGED][step.position] = last, known.found
    return ways


def ways_between(model: FasterRCNN) -> tuple[str, ...]:
    """How a detector can get from key frame to key frame; the last looks at nothing and is the others' control."""
    if not isinstance(model, StripDetector):
        return INCOMING, SKIPPED_MOVED
    return (INCOMING, SKIPPED_FORESEEN) if model.light is None else (LIGHT, INCOMING, SKIPPED_FORESEEN)


def watch_every(
    model: FasterRCNN,
    categories: tuple[str, ...],
    images: DetectionDataset,
    strips: Sequence[Sequence[Step]],
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
        watcher = InBetween(model, categories, every, way, channels=images.channels, max_value=images.max_value)
        seen.update(_each(watcher, images, strip))
    return seen


class InBetween:
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
        between: dict[str, Between] = {LIGHT: "light", INCOMING: "incoming"}
        self.looks = way in between
        self.every = every
        self.stream = Stream(
            model, categories, every=every, between=between.get(way), channels=channels, max_value=max_value
        )

    def __call__(self, pixels: Pixels, step: Step, number: int) -> Detections:
        """Detections of frame ``number`` of the strip, counted from 0."""
        if number % self.every and not self.looks:
            return self.stream.skip(step.remaining_xy)
        return self.stream(pixels, strip=step.strip, motion_xy=step.remaining_xy)


def _each(watcher: InBetween, images: DetectionDataset, strip: Sequence[Step]) -> Iterator[tuple[int, Detections]]:
    number = 0
    for step in strip:
        _skip_missing(watcher.stream, step)
        number += step.gap
        yield step.position, watcher(images.pixels(step.position), step, number)


def _skip_missing(stream: Stream, step: Step) -> None:
    for _ in range(step.gap - 1):
        stream.skip(step.expected_xy)


def _frame(images: DetectionDataset, position: int) -> Frame:
    frame = images.images[position].frame
    assert frame is not None, "still images are refused before"
    return frame
