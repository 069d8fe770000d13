"""Files read strictly and written atomically: text, JSON and YAML, with a sentence for each fault."""

from __future__ import annotations

import codecs
import hashlib
import json
import mmap
import os
import re
import reprlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import yaml

from .errors import DataError

PART_SUFFIX = ".part"  # ends the name of a file that is being written


@contextmanager
def atomic_write(path: Path, *, lasting: bool = False) -> Iterator[BinaryIO]:
    """A file to write that takes ``path``'s place once it is whole: a reader sees the old one or the new, never a part.

    Args:
        path: its folder is made.
        lasting: wait until the disk has it, so that a power cut can't undo what was written before something else.

    Raises:
        OSError: it can't be written, the disk is full; names ``path``, which is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        with name_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                yield file
                if lasting:
                    fsync_file(file)
            part.replace(path)
            if lasting:
                _fsync_folder(path.parent)
    finally:
        with suppress(OSError):  # of a read-only disk, say, which has been reported already
            part.unlink(missing_ok=True)


@contextmanager
def name_os_errors(path: Path) -> Iterator[None]:
    """Errors of the system name ``path``: those of a write to an open file, such as a full disk, name none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def fsync_file(file: IO[Any]) -> None:
    """Wait until the disk has what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders can't be opened, and a rename lasts by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems can't do this for folders
            os.fsync(handle)
    finally:
        os.close(handle)


_MARKS = (  # UTF-32 first: its mark begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ACCENTED = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]+")
_SIGNS = re.compile(r"[\u00b0\u00b2\u00b3\u00b5]")  # degree, square, cube, micro: as in 25 °C or 3 µm
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_COMMON_HANZI = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")  # level 1 of GB 2312: the 3,755 characters in everyday use


def decode(data: bytes) -> str:
    """Text, without a byte order mark, in the encoding that ``encoding_of`` names.

    Raises:
        UnicodeError: the bytes fit no encoding, or more than one.
    """
    return data.decode(encoding_of(data)).removeprefix("\ufeff")


def encoding_of(data: bytes) -> str:
    """Python's name of the encoding: "utf-8" wherever the bytes are valid UTF-8.

    Of other text, Chinese in GBK comes as pairs of high bytes, most of them common characters, and Western European
    text in Windows-1252 as accented letters between ASCII letters. What could be either, or neither, is not guessed.

    Raises:
        UnicodeError: the bytes fit no encoding, or more than one.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    found = _utf_16_without_mark(data) or _eight_bit(data)
    if found is None:
        raise UnicodeError("the text is not UTF-8 and could be GBK, Windows-1252 or another encoding")
    return found


def _utf_16_without_mark(data: bytes) -> str | None:
    """ASCII characters in UTF-16 have a zero byte each, which no other text has."""
    start = data[:200]
    if len(data) % 2 or len(start) < 4:
        return None
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd and not even:
        return "utf-16-le"
    return "utf-16-be" if even and not odd else None


def _eight_bit(data: bytes) -> str | None:
    try:
        data.decode()
        return "utf-8"
    except UnicodeDecodeError:
        pass
    runs = _HIGH_RUN.findall(data)
    letters = [bool(_ACCENTED.fullmatch(run.decode("latin-1"))) for run in runs]
    signs = [bool(_SIGNS.fullmatch(run.decode("latin-1"))) for run in runs]
    if any(len(run) % 2 for run in runs):
        western = all(len(run) <= 2 and (letter or sign) for run, letter, sign in zip(runs, letters, signs))
        return "cp1252" if western else None  # longer runs of letters are another alphabet, Cyrillic say
    if any(len(run) == 2 and letter for run, letter in zip(runs, letters)):
        return None  # one Chinese character or two accented letters
    pairs = [run[i : i + 2] for run in runs for i in range(0, len(run), 2)]
    common = sum(bool(_COMMON_HANZI.fullmatch(pair)) for pair in pairs)
    try:
        data.decode("gb2312")
    except UnicodeDecodeError:
        return None
    return "gbk" if 2 * common > len(pairs) else None


_MERGE = "tag:yaml.org,2002:merge"  # several "<<" have a meaning
_TEXT, _BOOL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool"
_MOST_BYTES = 500_000  # PyYAML reads some 100 kB a second; nine thousand class names take a third of this
_MOST_VALUES = 100_000  # with what aliases repeat counted each time
_DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """YAML 1.2's words: only true and false are truth values, and a key is the text that stands there."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
            key.tag = _TEXT  # a class named no, on or 1.0 keeps its name
        return node


# PyYAML follows YAML 1.1, in which yes, no, on and off are truth values, and with them classes of these names.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class _AsWritten(_Loader):
    """All scalars are the text that stands there."""


_AsWritten.yaml_implicit_resolvers = {}


def read_yaml(path: Path, *, as_written: bool = False) -> Any:
    """Plain values of a file with one YAML document; None of an empty one.

    Args:
        path: the file, in UTF-8 or another encoding that ``decode`` recognises.
        as_written: numbers, truth values and nulls are the text that stands there.

    Raises:
        OSError: it can't be read.
        yaml.YAMLError: as ``load_yaml``, or it is no text.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for, a device has no end
        raise yaml.YAMLError("it is no file but a pipe or device")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise yaml.YAMLError(f"it is longer than the {_MOST_BYTES:,} bytes that are read")
        text = decode(data)
    except ValueError as error:  # an unknown encoding, or a name that no file can have
        raise yaml.YAMLError(str(error)) from None
    return load_yaml(text, as_written=as_written)


def load_yaml(text: str, *, as_written: bool = False) -> Any:
    """Plain values of one YAML document; None of an empty one. Keys are text.

    Raises:
        yaml.YAMLError: no YAML, a tag beyond plain values, a key twice in one mapping, a value that is none of its
            kind, or more text, values or depth than a file that somebody wrote has.
    """
    if len(text) > _MOST_BYTES:
        raise yaml.YAMLError(f"it is longer than the {_MOST_BYTES:,} characters that are read")
    loader = (_AsWritten if as_written else _Loader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError(f"it is nested more than {_DEEPEST} levels deep") from None
    except Exception as error:  # PyYAML lets through what int(), date() and the like say to a wrong value
        raise yaml.YAMLError(f"a value is none of its kind: {error}") from None
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse a tree that contains itself, or that aliases have made larger or deeper than anybody would write."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in open_:
            raise yaml.YAMLError("an alias stands for something that it is part of")
        if depth > _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} levels deep")
        if id(node) not in sizes:
            open_.add(id(node))
            inner = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [each for item in inner for each in (item if isinstance(item, tuple) else (item,))]
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
            open_.discard(id(node))
        if sizes[id(node)] > _MOST_VALUES:
            raise yaml.YAMLError(f"it holds more than {_MOST_VALUES:,} values, those that aliases repeat counted in")
        return sizes[id(node)]

    size(root, 0)


with suppress(ImportError):  # Windows has none
    import resource

_MEMINFO, _GROUP, _OWN = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/statm")
_MIN_BYTES, _SHARE = 700_000_000, 0.5  # a file may take the larger: bytes, or a share of what is free


def free_bytes() -> int | None:
    """Memory to be had without swapping, within the limits of container and process; None if unknown."""
    known = [value for value in (_available(), _left_in_group(), _left_of_limit()) if value is not None]
    return min(known) if known else _physical()


def value_memory_limit() -> int:
    """Bytes that the values of one file may take: half of what is free, and 0.7 GB where that is less."""
    free = free_bytes()
    return _MIN_BYTES if free is None else max(_MIN_BYTES, int(_SHARE * free))


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _left_in_group() -> int | None:
    """What a container has left (cgroup v2)."""
    try:
        most, used = ((_GROUP / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        return None if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None


def _left_of_limit() -> int | None:
    """What is left of the address space that the process was given (ulimit -v)."""
    try:
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY:
            return None
        return max(0, most - int(_OWN.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, NameError, OSError, ValueError):
        return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def write_text(path: Path, text: str, *, lasting: bool = False) -> None:
    """Write UTF-8 text as a ``atomic_write``."""
    content = text.encode()
    with atomic_write(path, lasting=lasting) as file:
        file.write(content)


def json_text(value: Any, encoding: str | None = None, *, indent: int | None = None) -> str:
    """Plain values as JSON and a line break; characters that the encoding (None: UTF-8) lacks are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:  # also a file name that is no Unicode, as Linux allows
        return json.dumps(value, allow_nan=False, indent=indent) + "\n"
    return text


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write plain values as JSON in UTF-8."""
    write_text(path, json_text(value, indent=indent))


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A regular file of at most ``max_bytes`` bytes.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, or no file, in a sentence that fits into brackets.
    """
    if not path.is_file() and path.exists() and not path.is_dir():  # a pipe would be waited for, a device has no end
        raise ValueError("it is no file but a pipe or device")
    with path.open("rb") as file:
        larger = os.fstat(file.fileno()).st_size > max_bytes
        content = b"" if larger else file.read(max_bytes + 1)
    if larger or len(content) > max_bytes:
        raise ValueError(f"it is larger than the {max_bytes / 1e6:g} MB that are read")
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
    room = value_memory_limit()
    content = read_bytes(path, room // 2)
    if _memory_of(content) > room:
        raise ValueError(f"its values would take over {room / 1e9:.1f} GB of memory; divide it into parts")
    try:
        return json.loads(decode(content), parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _memory_of(content: bytes) -> int:
    """An upper limit of the bytes that the values of a JSON text take, from its brackets, commas and colons."""
    objects, lists, values, keys = (content.count(mark) for mark in (b"{", b"[", b",", b":"))
    texts = max(content.count(b'"') // 2 - keys, 0)
    decoded = len(content) * (1 if content.isascii() else 4)
    return len(content) + decoded + 64 * objects + 64 * lists + 40 * values + 190 * keys + 64 * texts


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, none if there is no file; a line cut short and all after it are left out."""
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


def is_taken(place: Path) -> bool:
    """Whether a path is a file, or a folder that is not empty."""
    return place.exists() and (not place.is_dir() or any(place.iterdir()))


def new_folder(out: Path, names: Sequence[str]) -> None:
    """Make ``out`` and refuse if one of ``names`` in it already holds something.

    Raises:
        DataError: the place is taken; nothing is ever mixed into it or deleted.
    """
    for name in names:
        place = out / name
        if is_taken(place):
            raise DataError("the folder to write to is not empty", where=place, fix="choose another or empty it first")
    out.mkdir(parents=True, exist_ok=True)


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, not its read-only flag, as a ``atomic_write``."""
    with source.open("rb") as original, atomic_write(target) as file:
        shutil.copyfileobj(original, file)


def load_json(path: Path, *, fix: str, finite: bool = True) -> Any:
    """The values of a file; ``fix`` is what to do if it is no JSON, ``finite`` refuses NaN and Infinity.

    Raises:
        DataError: missing, unreadable, no JSON, nested too deeply, too large, or with a number that JSON does not
            know.
    """
    with read_errors(path, "the JSON", fix=fix):  # broken, NaN, a number of thousands of digits, a bomb
        return read_json(path, finite=finite)


@contextmanager
def read_errors(path: Path, what: str, *, fix: str) -> Iterator[None]:
    """Raise DataError for errors of reading a file.

    Args:
        path: the file.
        what: is read, such as "the JSON", and can't be used where there is a ValueError.
        fix: what to do then.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="check the path") from None
    except OSError as error:
        raise DataError(f"the file can't be read ({error.strerror})", where=path, fix="check it") from None
    except ValueError as error:
        raise DataError(f"{what} can't be read ({error})", where=path, fix=fix) from None


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


def is_cut_short(path: Path) -> bool:
    """Whether a file is empty, or ends without the bracket that closes all JSON but single values."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 100))
            end = file.read().replace(b"\0", b"").strip()
    except OSError:
        return False
    return end[-1:] not in (b"}", b"]")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
