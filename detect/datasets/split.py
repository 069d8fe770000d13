"""A data set divided into parts: by number, by fraction or into folds; classes even, groups whole, seeded."""

from __future__ import annotations

import math
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, DataError
from ..structures import Image

EXAMPLES = "write train=1-200,val=201-240 or train=0.8,val=0.1,test=0.1"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_FRACTION = re.compile(r"\d*\.\d+|1\.?|0\.?")
_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True)
class Ranges:
    """Parts by number; both ends of a range belong to it."""

    of: Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Fractions:
    """Parts by share of the images, above 0 and 1 in sum."""

    of: Mapping[str, float]


def parse_split(text: str) -> Ranges | Fractions:
    """``train=1-200,val=201-240`` or ``train=0.8,val=0.1,test=0.1``; a part named twice has both ranges.

    Raises:
        DataError: unreadable, ranges that overlap or run backwards, fractions that don't sum to 1, both mixed.
    """
    pairs: list[tuple[str, str]] = []
    for item in text.split(","):
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals or not value:
            raise DataError(f"split {text!r}: {item.strip()!r} is no name=value", fix=EXAMPLES)
        if not _PART.fullmatch(name):
            raise DataError(f"split {text!r}: a part can't be named {name!r}", fix="use letters, digits, - and _")
        pairs.append((name, value))
    if all(_FRACTION.fullmatch(value) for _, value in pairs):
        return _fractions(text, pairs)
    return _ranges(text, pairs)


_TAKEN = {"coco": {"audit"}, "yolo": {"names", "path", "nc", "kpt_shape"}}


def check_part_names(names: Iterable[str], target: str) -> None:
    """Check that parts can be files and folders of ``--out``.

    Raises:
        DataError: a name with a separator, or one that the target format needs for itself.
    """
    for name in names:
        is_path = name in ("", ".", "..") or any(sign in name for sign in "/\\:\0")
        if is_path or name.lower() in _TAKEN.get(target, ()):
            why = "it is a path" if is_path else f"{target} files use the name for something else"
            raise DataError(f"a part can't be named {name!r}: {why}", fix="rename it in the source, or use --split")


def split_by_number(stems: Sequence[str], split: Ranges) -> tuple[dict[str, list[int]], list[int]]:
    """Divide by the number at the end of each file's stem (``crazing_12`` has 12).

    Returns:
        Positions in ``stems`` by part, and the positions that are in no part.

    Raises:
        DataError: a part has no image.
    """
    parts: dict[str, list[int]] = {name: [] for name in split.of}
    rest: list[int] = []
    numbers = [int(match.group(1)) if (match := _NUMBER.search(stem)) else None for stem in stems]
    for i, value in enumerate(numbers):
        home = [name for name, ranges in split.of.items() if value is not None and _within(value, ranges)]
        (parts[home[0]] if home else rest).append(i)
    known = [value for value in numbers if value is not None]
    has = f"the numbers go from {min(known)} to {max(known)}" if known else "no file name ends in a number"
    for name, positions in parts.items():
        if not positions:
            ranges = ", ".join(f"{low}-{high}" for low, high in split.of[name])
            raise DataError(f"no image has a number in {name}={ranges}; {has}", fix="correct the split")
    return parts, rest


def split_by_fraction(
    labels: Sequence[Collection[str]], split: Fractions, *, groups: Sequence[int], seed: int
) -> dict[str, list[int]]:
    """Divide at random, so that every part has its share of every class's images.

    Iterative stratification (Sechidis et al., 2011), with groups in place of single images: the rarest class is
    distributed first, each group to the part that lacks most of the class.

    Args:
        labels: the classes in each image; images with none are distributed evenly too.
        split: share of each part.
        groups: images with the same number stay together.
        seed: same seed and input, same parts.

    Returns:
        Ascending positions in ``labels`` by part.

    Raises:
        DataError: a part gets no image.
    """
    names = list(split.of)
    dealt = _deal(labels, [split.of[name] for name in names], groups, seed)
    parts = {name: positions for name, positions in zip(names, dealt)}
    for name, positions in parts.items():
        if not positions:
            found = f"no image is left for part {name!r} of {len(labels)} images"
            raise DataError(found, fix="give it a larger share, or the data more images that are not copies")
    return parts


def split_into_folds(
    labels: Sequence[Collection[str]], count: int, *, groups: Sequence[int], seed: int
) -> dict[str, list[int]]:
    """``fold1_train``, ``fold1_val``, ... ``fold<count>_val``; each image is in exactly one val part.

    Args, stratification and errors as in ``split_by_fraction``.
    """
    if count < 2:
        raise DataError(f"{count} folds leave nothing to evaluate on", fix="ask for 2 or more")
    distinct = len(set(groups))
    if distinct < count:
        raise DataError(f"{distinct} images or groups of them can't fill {count} folds", fix="ask for fewer")
    dealt = _deal(labels, [1 / count] * count, groups, seed)
    parts: dict[str, list[int]] = {}
    for number, val in enumerate(dealt, start=1):
        if not val:
            raise DataError(f"no image is left for fold {number} of {count}", fix="ask for fewer")
        held_out = set(val)
        parts[f"fold{number}_train"] = [i for i in range(len(labels)) if i not in held_out]
        parts[f"fold{number}_val"] = val
    return parts


def _deal(labels: Sequence[Collection[str]], shares: list[float], groups: Sequence[int], seed: int) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    # An image without objects counts as a class of its own, whose name no label can have.
    content = {g: Counter(label for i in ids for label in (labels[i] or ("",))) for g, ids in members.items()}
    order = list(members)
    rng = random.Random(seed)
    rng.shuffle(order)
    order.sort(key=lambda g: -len(members[g]))  # large groups first, while there is room for them

    # Images of several classes are distributed evenly among themselves; those of one class then fill the parts.
    several = [g for g in order if len(content[g]) > 1]
    single = [g for g in order if len(content[g]) == 1]
    empty: dict[int, int] = {}
    first = _deal_groups(several, several, empty, members, content, shares, rng)
    home = _deal_groups(single, order, first, members, content, shares, rng)
    parts: list[list[int]] = [[] for _ in shares]
    for group, part in home.items():
        parts[part] += members[group]
    return [sorted(part) for part in parts]


def _deal_groups(
    waiting: Sequence[int],
    among: Sequence[int],
    home: Mapping[int, int],
    members: Mapping[int, list[int]],
    content: Mapping[int, Counter[str]],
    shares: list[float],
    rng: random.Random,
) -> dict[int, int]:
    """Find a part for each group of ``waiting``, so that ``among`` is even when those in ``home`` stay there."""
    totals = sum((content[g] for g in among), Counter[str]())
    lack = [{label: share * total for label, total in totals.items()} for share in shares]
    room = [share * sum(len(members[g]) for g in among) for share in shares]
    home = dict(home)

    def settle(group: int, part: int) -> None:
        home[group] = part
        room[part] -= len(members[group])
        for label, number in content[group].items():
            lack[part][label] -= number

    for group, part in list(home.items()):
        settle(group, part)
    left = dict.fromkeys(waiting)
    while left:
        remaining = sum((content[g] for g in left), Counter[str]())
        rarest = min(remaining, key=lambda label: (remaining[label], label))
        for group in [g for g in left if content[g][rarest]]:
            most = max(wanting[rarest] for wanting in lack)
            # Within one image of the greatest lack every part is as good for the class; then its room decides.
            near = [p for p in range(len(shares)) if lack[p][rarest] > most - 1]
            settle(group, max(near, key=lambda p: (round(room[p], 9), rng.random())))
            del left[group]
    return home


def _fractions(text: str, pairs: list[tuple[str, str]]) -> Fractions:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise DataError(f"split {text!r}: a part is named twice", fix=EXAMPLES)
    shares = {name: float(value) for name, value in pairs}
    if min(shares.values()) <= 0:
        raise DataError(f"split {text!r}: a part of share 0 has no image", fix="leave it out")
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-6:
        raise DataError(f"split {text!r}: the fractions sum to {total:g}, not to 1", fix=EXAMPLES)
    return Fractions(shares)


def _ranges(text: str, pairs: list[tuple[str, str]]) -> Ranges:
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    taken: list[tuple[int, int, str]] = []
    for name, value in pairs:
        match = _RANGE.fullmatch(value)
        if not match:
            mixed = " mixed with a range" if _FRACTION.fullmatch(value) else ""
            raise DataError(f"split {text!r}: {value!r}{mixed} is no range of numbers", fix=EXAMPLES)
        low, high = int(match.group(1)), int(match.group(2) or match.group(1))
        if high < low:
            raise DataError(f"split {text!r}: the range {value} runs backwards", fix=f"write {high}-{low}")
        for other_low, other_high, other in taken:
            if low <= other_high and other_low <= high:
                found = f"split {text!r}: {name}={value} overlaps {other}={other_low}-{other_high}"
                raise DataError(found, fix="an image can be in one part only")
        taken.append((low, high, name))
        ranges[name] = (*ranges.get(name, ()), (low, high))
    return Ranges(ranges)


def _within(value: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(low <= value <= high for low, high in ranges)


def groups_of(
    truth_images: Sequence[dict[str, Any]], *, key: str | None = None, pattern: str | None = None
) -> list[int]:
    """A number for each image, the same for those of one coil, plate or strip.

    Args:
        truth_images: the ``images`` of a COCO data set.
        key: of these images, whose value names the group: "video_id", "coil".
        pattern: or a regular expression, looked for in the file name; its first group, or all that it matches where it
            has none, names the group of images.

    Returns:
        Numbers from 0, in the judge's order of images, that of their ids.

    Raises:
        ConfigError: both or neither of key and pattern, or a pattern that is no regular expression.
        DataError: images that have no such key, or whose names the pattern doesn't match.
    """
    if (key is None) == (pattern is None):
        raise ConfigError("images are grouped by a key or by a pattern", fix="give one of them")
    names = [_value(image, key) for image in truth_images] if key is not None else _matched(truth_images, pattern or "")
    lacking = [str(image.get("file_name", image["id"])) for image, name in zip(truth_images, names) if name is None]
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else "")
        why = f"have no {key!r}" if key is not None else f"don't match the pattern '{pattern}'"
        fix = f"write {key!r} into each image of the labels" if key is not None else "change the pattern to match all"
        found = f"{len(lacking):,} of the {len(names):,} images {why}: {shown}"
        raise DataError(found, where="images", fix=fix)
    by_id = [name for _, name in sorted(zip((image["id"] for image in truth_images), names))]
    number = {name: i for i, name in enumerate(dict.fromkeys(by_id))}
    return [number[name] for name in by_id]


def _value(image: dict[str, Any], key: str) -> str | None:
    value = image.get(key)
    return None if value is None or isinstance(value, (dict, list)) else str(value)


def _matched(images: Sequence[dict[str, Any]], pattern: str) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the pattern '{pattern}' is no regular expression ({error})", fix="correct it") from None
    found = (compiled.search(str(image.get("file_name", ""))) for image in images)
    return [None if match is None else match[min(1, compiled.groups)] or None for match in found]  # "" names nothing


def named_groups(images: Sequence[Image], pattern: str) -> list[list[int]]:
    """Positions of the images by what a pattern finds in their names.

    Args:
        images: at least one.
        pattern: a regular expression, looked for in each path below the folder that all images share; its first
            group, or all that it matches where it has none, names the group of images.

    Raises:
        ConfigError: it is no regular expression.
        DataError: it doesn't match all names.
    """
    paths = [image.path.absolute() for image in images]
    if len({path.anchor for path in paths}) == 1:  # not on several drives
        shared = os.path.commonpath([path.parent for path in paths])
        paths = [path.relative_to(shared) for path in paths]
    entries = [{"id": i, "file_name": path.as_posix()} for i, path in enumerate(paths)]
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups_of(entries, pattern=pattern)):
        members[group].append(i)
    return list(members.values())
