"""Decoded images kept in memory, as many as there is room for, and what that takes, told before they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..data import DetectionDataset, free_bytes

_SHARE = 0.5  # of the free memory, where the configuration gives no limit
_GB = 1e9


def cache_room(cache_gb: float | None, processes: int) -> float | None:
    """Bytes for the images of one process; None where nobody knows how much is free.

    Args:
        cache_gb: the limit for all processes; None: half of what is free.
        processes: that keep images each.
    """
    if cache_gb is not None:
        return cache_gb * _GB / processes
    free = free_bytes()
    return None if free is None else _SHARE * free / processes


def fill(
    images: Sequence[DetectionDataset],
    room: float | None,
    *,
    say: Callable[[str], None],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Read all images once and keep those that there is room for.

    Args:
        images: each with its own cache; the first ones are kept first.
        room: bytes for all; 0: none is kept, None: no limit.
        say: gets a line before anything is read, and one if not all are kept.
        share: (rank, size) of this process among those that read the first of ``images``.
    """
    needed = sum(each.decoded_bytes() for each in images)
    if room == 0:
        say(f"decoded images take {_told(needed)}; they are read anew each time (data.cache)")
    elif room is None or needed <= room:
        say(f"decoded images take {_told(needed)} of memory{'' if room is None else f', of {_told(room)} for them'}")
    else:
        say(f"decoded images take {_told(needed)}, more than the {_told(room)} for them (data.cache_gb)")
    wanted = room != 0
    for number, each in enumerate(images):
        kept = each.preload(room, share=share if number == 0 else (0, 1))
        room = None if room is None else room - each.kept_bytes
        if wanted and kept < len(each):
            say(f"{kept:,} of {len(each):,} images are kept in memory, the others are read anew each time")


def _told(size: float) -> str:
    return f"{size / _GB:.2f} GB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
