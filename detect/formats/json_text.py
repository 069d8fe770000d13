"""JSON files -> plain values, with a sentence for each way in which a file can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError


def load_json(path: Path, *, fix: str) -> Any:
    """The values of a file; ``fix`` is what to do if it is no JSON.

    Raises:
        DataError: missing, unreadable, no JSON, nested too deeply, or with a number that JSON does not know.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        raise DataError(f"the file can't be read ({error.strerror})", where=path, fix="check it") from None
    except RecursionError:
        raise DataError("the JSON is nested too deeply", where=path, fix=fix) from None
    except ValueError as error:  # broken JSON, broken encoding, NaN, a number of thousands of digits
        raise DataError(f"the JSON can't be read ({error})", where=path, fix=fix) from None


def kind(value: Any) -> str:
    """A value in words, short enough for a sentence."""
    if value is None:
        return "missing"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    text = repr(value)
    return f"{names.get(type(value), 'something else')} ({text if len(text) <= 40 else text[:37] + '...'})"


def holds_keys(path: Path, *keys: str) -> bool:
    """Whether a file seems to hold these keys: a quick look, so that a broken file is refused when it is read."""
    text = path.read_bytes()
    return all(f'"{key}"'.encode() in text for key in keys)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")
