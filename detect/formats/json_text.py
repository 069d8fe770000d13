"""JSON files -> plain values, with a sentence for each way in which a file can be broken."""

from __future__ import annotations

import mmap
import reprlib
from pathlib import Path
from typing import Any

from ..errors import DataError
from .files import read_json


def load_json(path: Path, *, fix: str, finite: bool = True) -> Any:
    """The values of a file; ``fix`` is what to do if it is no JSON, ``finite`` refuses NaN and Infinity.

    Raises:
        DataError: missing, unreadable, no JSON, nested too deeply, too large, or with a number that JSON does not
            know.
    """
    try:
        return read_json(path, finite=finite)
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        raise DataError(f"the file can't be read ({error.strerror})", where=path, fix="check it") from None
    except ValueError as error:  # broken JSON, broken encoding, NaN, a number of thousands of digits, a bomb
        raise DataError(f"the JSON can't be read ({error})", where=path, fix=fix) from None


def kind(value: Any) -> str:
    """A value in words, short enough for a sentence."""
    if value is None:
        return "missing"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    text = reprlib.repr(value)  # of a value however large or deep
    return f"{names.get(type(value), 'something else')} ({text if len(text) <= 40 else text[:37] + '...'})"


def holds_keys(path: Path, *keys: str) -> bool:
    """Whether a file seems to hold these keys: a quick look, so that a broken file is refused when it is read."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            encodings = ("utf-8", "utf-16-le", "utf-16-be")
            return any(all(text.find(f'"{key}"'.encode(e)) >= 0 for key in keys) for e in encodings)
    except OSError:  # the reader says why
        return True
