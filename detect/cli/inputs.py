"""Which image files the given paths, folders and globs mean."""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..datasets.paths import DRAWING_SUFFIX, files_below, natural_key, stem
from ..errors import DataError, DetectError
from ..images import FORMATS_READ, SUFFIXES, is_unread_image
from .common import expand_home


def find_images(inputs: Sequence[str]) -> tuple[list[Path], list[DataError]]:
    """Image files in the order given, each once.

    A file is taken as it is, whatever its name; a folder or glob means the files in it whose suffix is an image's,
    leaving out the pictures that an earlier call has drawn beside them. Other files that are images are counted on
    stderr.

    Returns:
        The files, and one error for each input that means none, its ``where`` the input.
    """
    found: dict[Path, Path] = {}
    errors: list[DataError] = []
    for given in inputs:
        path = expand_home(Path(given))
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = _images_among(given, list(_files(path)))
            files.sort(key=lambda file: (natural_key(stem(file)), natural_key(str(file))))
            if not files:
                fix = f"give a folder that holds {', '.join(SUFFIXES)} files"
                errors.append(DataError("no image in this folder", where=given, fix=fix))
        elif glob.has_magic(given):
            files = _images_among(given, [file for match in _matches(path) for file in _files(match)])
            files.sort(key=lambda file: natural_key(str(file)))
            if not files:
                errors.append(DataError("no image matches", where=given, fix="check the pattern"))
        else:
            files = []
            errors.append(DataError("no such image", where=given, fix="check the path"))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), errors


def _files(path: Path) -> Iterator[Path]:
    return (Path(below) for _, below in files_below(path)) if path.exists() else iter(())


def _matches(pattern: Path) -> list[Path]:
    """What matches; a folder whose own name stands in the pattern, such as ``coil[17]``, is meant by it."""
    literal, parts = Path(), list(pattern.parts)
    while parts and (literal / parts[0]).is_dir():
        literal /= parts.pop(0)
    each = (glob.glob(text, recursive=True) for text in (str(Path(glob.escape(str(literal)), *parts)), str(pattern)))  # noqa: PTH207
    return [Path(match) for match in next(each) or next(each)]


def _images_among(given: str, files: Sequence[Path]) -> list[Path]:
    """Those to read; the others that are images are said in a line."""
    candidates = [path for path in files if not path.name.endswith(DRAWING_SUFFIX)]
    left_out = [path for path in candidates if path.suffix.lower() not in SUFFIXES and is_unread_image(path)]
    if left_out:
        kinds = Counter(path.suffix.lower() or "without a suffix" for path in left_out)
        counts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        found = f"{len(left_out):,} images are left out by their suffix ({counts})"
        fix = f"save them as {FORMATS_READ}, or name the files one by one if they are of these formats"
        print(f"detect: {DetectError(found, where=given, fix=fix)}", file=sys.stderr)
    return [path for path in candidates if path.suffix.lower() in SUFFIXES]
