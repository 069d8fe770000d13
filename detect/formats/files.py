"""Label files and images found below folders in a steady order; files written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..encoding import decode
from ..errors import DataError
from ..whole import whole_file
from .room import room_for_values
from .roots import is_inside, leads_out, roots_of

DRAWING_SUFFIX = ".detections.png"  # of the pictures that detect infer --draw writes
_DIGITS = re.compile(r"(\d+)")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``a_2`` comes before ``a_10``."""
    pieces = _DIGITS.split(text)
    # isdecimal, not isdigit: "²" is a digit that int() refuses.
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in pieces if p)


def stem(path: Path) -> str:
    """The name without its suffix, in one Unicode form: macOS stores "ü" as two characters, others as one."""
    return unicodedata.normalize("NFC", path.stem)


def walk(roots: Sequence[Path], suffixes: Iterable[str], *, anywhere: bool = False) -> list[Path]:
    """All files with one of ``suffixes`` (lower case, any case matches) at or below ``roots``, each once.

    Hidden files and folders (a leading dot) are not looked at; links are followed, loops don't hang.

    Args:
        roots: folders or files.
        suffixes: of the files.
        anywhere: follow links that lead out of the roots, too.

    Raises:
        DataError: a root does not exist, or a link leads out of them all.
    """
    wanted = tuple(suffixes)
    inside = None if anywhere else roots_of(roots)
    found: dict[str, Path] = {}
    for root in roots:
        for real, path in files_below(root, inside):
            if path.lower().endswith(wanted):
                found.setdefault(real, Path(path))
    return sorted(found.values(), key=lambda path: (natural_key(stem(path)), natural_key(str(path))))


def files_below(root: Path, inside: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Each file at or below ``root``: its place with all folders' links followed, and its path from ``root``.

    Args:
        root: folder or file.
        inside: where links may lead, as ``roots_of`` gives it; None: anywhere.

    Raises:
        DataError: ``root`` does not exist, or a link leads elsewhere.
    """
    if not root.exists():
        raise DataError("no such file or folder", where=root, fix="check the path")
    if root.is_file():
        yield f"{os.path.realpath(root.parent)}{os.sep}{root.name}", str(root)
        return
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [name for name in sorted(files) if not name.startswith(".")]
        if inside is not None:
            _check_links(folder, [*folders, *shown], inside)
        for name in shown:
            yield f"{real}{os.sep}{name}", f"{folder}{os.sep}{name}"


def _check_links(folder: str, names: Sequence[str], inside: Sequence[str]) -> None:
    for path in (Path(folder, name) for name in names):
        if path.is_symlink() and not is_inside(path, inside):
            raise leads_out(f"the link to {os.path.realpath(path)}", path)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each image that no other has, also when the suffix is left off; the path tells twins apart."""
    # Case is folded because macOS and Windows keep "A.png" and "a.png" in one file.
    stems = Counter(stem(path).casefold() for path in paths)
    taken = {stem(path).casefold() for path in paths if stems[stem(path).casefold()] == 1}
    names: list[str] = []
    for path in paths:
        if stems[stem(path).casefold()] == 1:
            names.append(path.name)
            continue
        parts = [part for part in path.parent.parts if part.strip("/\\:.")]
        candidates = ["_".join([*parts[start:], path.stem]) for start in range(len(parts) - 1, -1, -1)]
        free = (c for c in chain(candidates, _numbered(path.stem)) if c.casefold() not in taken)
        chosen = next(free)
        taken.add(chosen.casefold())
        names.append(chosen + path.suffix)
    return names


def references(paths: Sequence[Path], root: Path) -> list[str]:
    """File names relative to ``root`` with forward slashes; absolute where no relative path leads there."""
    # The folder's links are followed, the image's own are not: a link may carry the name that labels go by.
    prefixes = {folder: relative(folder, root) for folder in {path.parent for path in paths}}
    return [(prefixes[path.parent] / path.name).as_posix() for path in paths]


def relative(folder: Path, root: Path) -> Path:
    """The way from ``root`` to a folder, links followed; the folder itself where no relative path leads there."""
    real = folder.resolve()
    try:
        return Path(os.path.relpath(real, root.resolve()))
    except ValueError:  # on another drive of Windows
        return real


def write_text(path: Path, text: str, *, lasting: bool = False) -> None:
    """Write UTF-8 text as a ``whole_file``."""
    content = text.encode()
    with whole_file(path, lasting=lasting) as file:
        file.write(content)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write plain values as JSON, readable in any script; names that are no Unicode are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name in another encoding, as Linux allows
        text = json.dumps(value, allow_nan=False, indent=indent) + "\n"
    write_text(path, text)


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file of at most ``most`` bytes.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, or no file, in a sentence that fits into brackets.
    """
    if not path.is_file() and path.exists() and not path.is_dir():  # a pipe would be waited for, a device has no end
        raise ValueError("it is no file but a pipe or device")
    with path.open("rb") as file:
        larger = os.fstat(file.fileno()).st_size > most
        content = b"" if larger else file.read(most + 1)
    if larger or len(content) > most:
        raise ValueError(f"it is larger than the {most / 1e6:g} MB that are read")
    return content


def read_json(path: Path, *, finite: bool = False) -> Any:
    """A JSON file, if its values fit into half of the free memory, or into 0.7 GB.

    Args:
        path: the file.
        finite: refuse NaN and Infinity, which are no JSON, though some programs write them.

    Raises:
        OSError: it can't be read.
        ValueError: it is no JSON, or too large or too deep, in a sentence that fits into brackets.
    """
    room = room_for_values()
    content = read_bytes(path, room // 2)
    if _memory_of(content) > room:
        raise ValueError(f"its values would take over {room / 1e9:.1f} GB of memory; divide it into parts")
    try:
        return json.loads(decode(content), parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _memory_of(content: bytes) -> int:
    """Bytes that Python's values of a JSON text take at most, whatever it says: told by the marks between them."""
    objects, lists, values, keys = (content.count(mark) for mark in (b"{", b"[", b",", b":"))
    texts = max(content.count(b'"') // 2 - keys, 0)
    decoded = len(content) * (1 if content.isascii() else 4)
    return len(content) + decoded + 64 * objects + 64 * lists + 40 * values + 190 * keys + 64 * texts


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line, none if there is no file; what follows a line cut short is left out."""
    values = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(value, dict):
            break
        values.append(value)
    return values


def new_folder(out: Path, names: Sequence[str]) -> None:
    """Make ``out`` and refuse if one of ``names`` in it already holds something.

    Raises:
        DataError: the place is taken; nothing is ever mixed into it or deleted.
    """
    for name in names:
        place = out / name
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise DataError("the folder to write to is not empty", where=place, fix="choose another or empty it first")
    out.mkdir(parents=True, exist_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, not its read-only flag, as a ``whole_file``."""
    with source.open("rb") as original, whole_file(target) as file:
        shutil.copyfileobj(original, file)


def _numbered(name: str) -> Iterator[str]:
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
