"""The data root: where a label file may lead to, so that a stranger's labels read nothing else of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError

VARIABLE = "DETECT_DATA_ROOTS"  # folders that are trusted besides; a machine's matter, not a file's

_TRUST = f"copy it there, or name its folder in the environment variable {VARIABLE} if you trust who wrote this"
_MOST_REMEMBERED = 20  # folders of one data set; of more, the folders that hold these


def roots_around(folder: Path) -> list[str]:
    """Where labels in a folder may lead: the folder above it, the working directory, and what the variable names.

    The folder above, because images lie beside labels as often as below them (``annotations/train.json`` and
    ``images/``); the working directory, where most people keep everything. Neither counts where it is the root of the
    whole file system. And what ``remember`` was told, as ``detect convert`` leaves images where they are.
    """
    here = folder.resolve()
    near = [each for each in (here.parent, Path.cwd()) if each != Path(each.anchor)]
    return _real([here, *near, *_trusted()])


def roots_of(sources: Iterable[Path]) -> list[str]:
    """Where links below folders given on the command line may lead: these folders, and what the variable names."""
    return _real([*sources, *_trusted()])


def remember(images: Iterable[Path], label_folder: Path) -> None:
    """Trust from now on the folders of images that this user had labels written for, wherever these are read.

    Kept in the user's own state folder, where no data set can write to. Where that can't be written to, labels of
    images elsewhere are refused when they are read, with what to do about it.

    Args:
        images: files that were read.
        label_folder: what needs no trust is not kept.
    """
    known = _real([label_folder.resolve().parent, *_trusted()])
    folders = _outermost({os.path.realpath(image.parent) for image in images})
    while len(folders) > _MOST_REMEMBERED:
        folders = _outermost({str(Path(folder).parent) for folder in folders})
    new = [each for each in folders if not is_inside(each, known) and each != Path(each).anchor]
    file = _memory()
    if not new or file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", errors="surrogateescape") as lines:
            lines.write("".join(f"{folder}\n" for folder in new if "\n" not in folder))
    except OSError:
        pass


def is_inside(path: str | os.PathLike[str], roots: Sequence[str]) -> bool:
    """Whether a path, all its links followed, is one of the roots or lies below one."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):  # a name that no file can have
        return False
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def image_beside(folder: Path, file_name: str) -> Path:
    """The image that labels in a folder name.

    Raises:
        DataError: the name leads out of the data root.
    """
    path = folder / file_name
    if not is_inside(path, roots_around(folder)):
        raise leads_out(f"the name {file_name!r}", folder)
    return path


def leads_out(what: str, where: Path) -> DataError:
    """The refusal of ``what``, named in ``where``."""
    return DataError(f"{what} leads out of the data", where=where, fix=_TRUST)


def _trusted() -> list[Path]:
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    try:
        file = _memory()
        if file is not None:
            named += file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:  # nothing was remembered yet
        pass
    return [Path(each) for each in named if each]


def _memory() -> Path | None:
    """The file of remembered folders; None for a user without a home."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "detect" / "data_roots.txt"


def _outermost(folders: set[str]) -> list[str]:
    """Those that lie in no other."""
    return sorted(each for each in folders if not any(str(above) in folders for above in Path(each).parents))


def _real(folders: Iterable[Path]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]
