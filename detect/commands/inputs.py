"""Which image files the given paths, folders and globs mean."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..formats.files import natural_key, walk
from ..images import SUFFIXES

PICTURE_SUFFIX = ".detections.png"


def find_images(inputs: Sequence[str]) -> tuple[list[Path], list[DataError]]:
    """Image files in the order given, each once.

    A file is taken as it is, whatever its name; a folder or glob means the files in it whose suffix is an image's,
    leaving out the pictures that an earlier call has drawn beside them.

    Returns:
        The files, and one error for each input that means none, its ``where`` the input.
    """
    found: dict[Path, Path] = {}
    errors: list[DataError] = []
    for given in inputs:
        files, problem = _expand(given)
        if problem is not None:
            errors.append(problem)
        for path in files:
            found.setdefault(path.resolve(), path)
    return list(found.values()), errors


def _expand(given: str) -> tuple[list[Path], DataError | None]:
    path = Path(given)
    if path.is_file():
        return [path], None
    if path.is_dir():
        files = [file for file in walk([path], SUFFIXES, anywhere=True) if not file.name.endswith(PICTURE_SUFFIX)]
        fix = f"give a folder that holds {', '.join(SUFFIXES)} files"
        return files, None if files else DataError("no image in this folder", where=given, fix=fix)
    if glob.has_magic(given):
        matches = (Path(match) for match in sorted(glob.glob(given, recursive=True), key=natural_key))  # noqa: PTH207
        files = [file for file in matches if _looks_like_an_image(file)]
        return files, None if files else DataError("no image matches", where=given, fix="check the pattern")
    return [], DataError("no such image", where=given, fix="check the path")


def _looks_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.endswith(PICTURE_SUFFIX) and path.is_file()
