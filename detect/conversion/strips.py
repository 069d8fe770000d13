"""Moving strips in a conversion: their frames stay in one part, and are no duplicates of each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..audit import Link, Twins
from ..errors import DataError
from ..records import Finding, Image


def frames_by_strip(images: Sequence[Image]) -> dict[str, list[int]]:
    """Positions of the frames of each strip; still images are left out."""
    strips: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        if image.frame:
            strips[image.frame.strip].append(i)
    return dict(strips)


def scenes(twins: Sequence[Twins], images: Sequence[Image]) -> list[Twins]:
    """Twins that mean something: not frames of one strip, which overlap, nor dropped ones, which are all black."""
    meant = []
    for group in twins:
        seen = [i for i in group.members if not ((frame := images[i].frame) and frame.condition == "dropped")]
        places = {frame.strip if (frame := images[i].frame) else i for i in seen}
        if len(places) > 1:
            links = tuple(link for link in group.links if apart(link, images))
            meant.append(replace(group, members=tuple(seen), links=links))
    return meant


def apart(link: Link, images: Sequence[Image]) -> bool:
    """Whether a pair means something, as in ``scenes``."""
    one, other = images[link.first].frame, images[link.second].frame
    dropped = any(frame is not None and frame.condition == "dropped" for frame in (one, other))
    return not dropped and (one is None or other is None or one.strip != other.strip)


def refuse_torn(images: Sequence[Image], parts: Mapping[str, Sequence[int]]) -> None:
    """Raise DataError if a division puts frames of one strip into several parts."""
    found = torn(images, parts)
    if found:
        fix = "split strips by shares or into folds, which keep each whole"
        raise DataError(f"the split tears a strip: {found[0].message.partition(';')[0]}", fix=fix)


def torn(images: Sequence[Image], parts: Mapping[str, Sequence[int]]) -> list[Finding]:
    """A warning for each strip that stands in several parts: the judge sees the steel that was trained on."""
    part_of = {i: name for name, positions in parts.items() for i in positions}
    findings = []
    for strip, positions in frames_by_strip(images).items():
        homes = sorted({part_of[i] for i in positions if i in part_of})
        if len(homes) > 1:
            message = f"frames of strip {strip!r} stand in {' and '.join(homes)}; put them into one part"
            findings.append(Finding("strip across parts", "warning", images[positions[0]].path, message))
    return findings
