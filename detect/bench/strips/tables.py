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
    every_frame: Mapping[str, Found],
    settings: Mapping[str, Mapping[tuple[str, int], Found]],
    times: Mapping[tuple[str, str], FrameTimes],
    truth: Truth,
    judge: Judge,
) -> list[dict[str, Any]]:
    """Each system with key frames near and far, against itself seeing all, and against the first one's simpler ways.

    Args:
        every_frame: {system: detections with every frame a key frame}.
        settings: {system: {(way between, distance of key frames): detections}}, the way last that looks at nothing.
        times: by system and way.
        truth: of all frames.
        judge: makes the scores.
    """
    first = next(iter(every_frame))

    def called(name: str, way: str, every: int) -> str:
        return f"{name}, {way}, key frames every {every}" if every > 1 else name

    scored = {name: judge.score(found, {ALL: truth}) for name, found in every_frame.items()}
    for name, of_system in settings.items():
        for (way, every), found in of_system.items():
            scored[called(name, way, every)] = judge.score(found, {ALL: truth})
    rows = []
    for name in every_frame:
        of_system = settings.get(name, {})
        any_way = next(way for system, way in times if system == name)
        for way, every in [(any_way, 1), *of_system]:
            same_distance = [called(first, each, every) for each, k in settings.get(first, {}) if k == every]
            against = [name, *same_distance] if every > 1 else [first]
            frames_per_second = times[name, way].frames_a_second(every)
            rows.append(
                {
                    "name": called(name, way, every),
                    "system": name,
                    "between": way if every > 1 else None,
                    "every": every,
                    "frames_per_second": frames_per_second,
                    "times_the_frames": frames_per_second / times[name, way].frames_a_second(1),
                    **judge.row(called(name, way, every), scored, against),
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
