"""Why the ids of detections and labels don't meet: the most likely cause, in one sentence."""

from __future__ import annotations

from typing import Any

from ..errors import DataError

_DATA_FIX = "judge against the data set that was detected on"


def image_mismatch(used: list[Any], known: list[Any]) -> DataError:
    """The refusal of image ids, ``used`` by detections, that are not all among those ``known`` to the truth."""
    unknown = [i for i in used if i not in set(known)]
    where = _how_many(unknown, used, "image id")
    if _is_text(unknown) and not _is_text(known):
        if all(i.isdecimal() for i in unknown):
            return DataError(f"{where}: they are text there and numbers in the truth", fix="write them as numbers")
        fix = "replace each by the id that the truth gives to that file"
        return DataError(f"{where}: they look like file names, the truth numbers its images", fix=fix)
    if _is_text(known) and not _is_text(unknown):
        return DataError(f"{where}: they are numbers, in the truth they are text", fix="write them as in the truth")
    if _starts_at_zero(used, known):
        return DataError(f"{where}: image ids start at 0, the truth's start at 1", fix="add 1 to each image id")
    if _starts_at_zero(known, used):
        return DataError(f"{where}: image ids start at 1, the truth's start at 0", fix="subtract 1 from each image id")
    return DataError(f"{where} ({_first(unknown)}): another part or another data set, it seems", fix=_DATA_FIX)


def category_mismatch(used: list[Any], known: list[Any]) -> DataError:
    """The refusal of category ids, likewise."""
    unknown = [i for i in used if i not in set(known)]
    where = _how_many(unknown, used, "category id")
    if _is_text(unknown) and not _is_text(known):
        return DataError(f"{where}: they are text ({_first(unknown)})", fix="give the truth's ids, not names")
    if _starts_at_zero(used, known):
        return DataError(f"{where}: category ids start at 0, the truth's start at 1", fix="add 1 to each category id")
    if _starts_at_zero(known, used) and unknown == [max(known) + 1]:
        fix = "subtract 1 from each category id"
        return DataError(f"{where}: category ids start at 1, the truth's start at 0", fix=fix)
    fix = "map the detector's categories to the truth's by name"
    return DataError(f"{where} ({_first(unknown)}; the truth has {_first(sorted(known))})", fix=fix)


def _how_many(unknown: list[Any], used: list[Any], what: str) -> str:
    if len(unknown) == len(used):
        if len(used) == 1:
            return f"the {what} {used[0]!r} is not in the truth"
        return f"none of the {len(used)} {what}s is in the truth"
    verb = "is" if len(unknown) == 1 else "are"
    return f"{len(unknown)} of the {len(used)} {what}s {verb} not in the truth"


def _first(ids: list[Any]) -> str:
    return ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _is_text(ids: list[Any]) -> bool:
    return bool(ids) and all(isinstance(i, str) for i in ids)


def _starts_at_zero(ids: list[Any], others: list[Any]) -> bool:
    """Whether ``ids`` count from 0 and would all be among ``others``, which count from 1, if they counted from 1."""
    if any(isinstance(i, str) for i in (*ids, *others)) or not ids or not others:
        return False
    return min(ids) == 0 and min(others) == 1 and all(1 <= i + 1 <= max(others) for i in ids)
