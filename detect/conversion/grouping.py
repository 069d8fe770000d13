"""Images that belong together because their names say so: those of one coil, plate or day."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from ..records import Finding, Image


def named_groups(images: Sequence[Image], pattern: str) -> list[list[int]]:
    """Positions of the images by what a pattern finds in their names.

    Args:
        images: one at least.
        pattern: a regular expression, looked for in each path below the folder that all images share; its first
            group, or all that it matches where it has none, names the group of images.

    Raises:
        ConfigError: it is no regular expression.
        DataError: it doesn't match all names.
    """
    from ..evaluation.grouping import groups_of  # brings the whole judge along

    paths = [image.path.absolute() for image in images]
    if len({path.anchor for path in paths}) == 1:  # not on several drives
        shared = os.path.commonpath([path.parent for path in paths])
        paths = [path.relative_to(shared) for path in paths]
    entries = [{"id": i, "file_name": path.as_posix()} for i, path in enumerate(paths)]
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups_of(entries, pattern=pattern)):
        members[group].append(i)
    return list(members.values())


def told(images: Sequence[Image], groups: Sequence[Sequence[int]], pattern: str) -> Finding:
    """How the pattern grouped them, for who reads the audit."""
    largest = max(groups, key=len)
    message = (
        f"{len(images):,} images are {len(groups):,} groups by the pattern '{pattern}', of at most {len(largest):,} "
        "images; none was divided"
    )
    return Finding("grouped by name", "note", images[largest[0]].path, message)
