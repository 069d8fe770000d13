"""The three claims about memory as rows of figures, each way to detect beside those it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .scores import Scored, difference, score
from .speed import FrameTimes
from .truth import ALL, Truth
from .watching import AVERAGED, AVERAGED_MOVED, COPIED, FORESEEN, MOVED, SEEN, ByPosition

Found = Sequence[ByPosition]  # detections of each run of a system, by seed


@dataclass(frozen=True, slots=True)
class Judge:
    """What scores are made with: a number for each frame's strip, draws behind the intervals, what these cover."""

    strip_of: Sequence[int]
    resamples: int
    confidence: float

    def score(self, found: Found, truths: Mapping[str, Truth]) -> Scored:
        """One way to detect on each part of the data."""
        return score(found, truths, self.strip_of, resamples=self.resamples)

    def row(self, name: str, scored: Mapping[str, Scored], against: Sequence[str]) -> dict[str, Any]:
        """``scores`` and ``differences`` of the way called ``name``; it isn't compared with itself."""
        others = [other for other in dict.fromkeys(against) if other != name and other in scored]
        differences = {other: difference(scored[name], scored[other], self.confidence) for other in others}
        return {"scores": scored[name].told(self.confidence), "differences": differences}


def label(system: str, way: str) -> str:
    """What a row is called."""
    return system if way == SEEN else f"{system}, {way}"


def bad_frames(
    watched: Mapping[str, Mapping[str, Found]], truths: Mapping[str, Truth], judge: Judge
) -> list[dict[str, Any]]:
    """Each system as it is and averaged over frames, on all frames and on those of each condition.

    Args:
        watched: {system: {way: detections}}; the first system, in both ways, is what the others are held against.
        truths: by condition.
        judge: makes the scores.
    """
    ways = (SEEN, AVERAGED)
    scored = {label(name, way): judge.score(found[way], truths) for name, found in watched.items() for way in ways}
    against = [label(next(iter(watched)), way) for way in ways]
    return [
        {"name": label(name, way), "system": name, "way": way, **judge.row(label(name, way), scored, against)}
        for name in watched
        for way in ways
    ]


def key_frames(
    settings: Mapping[str, Mapping[int, Found]],
    between: Mapping[str, str],
    times: Mapping[str, FrameTimes],
    truth: Truth,
    judge: Judge,
) -> list[dict[str, Any]]:
    """Each system with key frames near and far, against itself seeing all and against the first one at that distance.

    Args:
        settings: {system: {distance of key frames: detections}}, 1 among the distances.
        between: {system: how it gets from key frame to key frame}.
        times: of each system.
        truth: of all frames.
        judge: makes the scores.
    """
    first = next(iter(settings))

    def called(name: str, every: int) -> str:
        return f"{name}, key frames every {every}"

    scored = {
        called(name, every): judge.score(found, {ALL: truth})
        for name, of_system in settings.items()
        for every, found in of_system.items()
    }
    rows = []
    for name, of_system in settings.items():
        for every in of_system:
            speed = times[name].frames_a_second(every)
            rows.append(
                {
                    "name": called(name, every),
                    "system": name,
                    "between": between[name],
                    "every": every,
                    "frames_per_second": speed,
                    "times_the_frames": speed / times[name].frames_a_second(1),
                    **judge.row(called(name, every), scored, [called(name, 1), called(first, every)]),
                }
            )
    return rows


def foreseeing(
    watched: Mapping[str, Mapping[str, Found]], truths: Mapping[str, Truth], judge: Judge
) -> list[dict[str, Any]]:
    """What each system says of frames before it has seen them, a memory against what needs none.

    Args:
        watched: {system: {way: detections}}; a memory is held against its own last boxes and the first system's.
        truths: of all frames but each strip's first, and of what could be foreseen in them.
        judge: makes the scores.
    """
    simple = (MOVED, AVERAGED_MOVED, COPIED)
    scored = {
        label(name, way): judge.score(found[way], truths)
        for name, found in watched.items()
        for way in (FORESEEN, *simple)
        if way in found
    }
    first = next(iter(watched))
    rows = []
    for name, found in watched.items():
        for way in (FORESEEN, *simple):
            if way in found:
                against = [label(each, control) for each in (name, first) for control in simple]
                row = judge.row(label(name, way), scored, against if way == FORESEEN else [])
                rows.append({"name": label(name, way), "system": name, "way": way, **row})
    return rows
