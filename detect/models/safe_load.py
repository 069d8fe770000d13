"""Files of torch.save, looked through before they are loaded: plain values and tensors, no code, no bomb."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import CheckpointError

_MAX_PICKLE_BYTES = 4_000_000  # bytes; all that describes a large detector and its optimiser takes a tenth of it
_ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch(\.nn\.parameter)? (Parameter|Size)"
)
_FORBIDDEN_OPCODES = {
    "STACK_GLOBAL",
    "INST",
    "OBJ",
    "NEWOBJ",
    "NEWOBJ_EX",
    "EXT1",
    "EXT2",
    "EXT4",
}  # other ways to name and make things
_LEGACY_PICKLES = 5  # at the start of a file of torch before 1.6


def load_tensors(path: Path, *, map_location: str | torch.device = "cpu", third_party: bool = False) -> Any:
    """What ``torch.save`` wrote, if it is plain values and tensors.

    torch itself refuses code, but trusts sizes: it unpacks compressed tensors, and lets a file ask for any amount of
    memory. So the file is looked through first: nothing may be named in it but tensors, and nothing in it may be
    larger than the file.

    Args:
        path: the file.
        map_location: device of the tensors.
        third_party: it may be of another program: of a torch before 1.6, and without checksums.

    Raises:
        CheckpointError: it is damaged, names anything else, or would grow when it is loaded.
        OSError: it can't be read.
    """
    named = _disallowed_global(path, third_party)
    if named is not None:
        raise _not_a_checkpoint_error(path, f" (it names {named})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about files that are refused below
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        raise _not_a_checkpoint_error(path) from None
    except OSError:
        raise
    except Exception as error:  # torch raises whatever the damage led to: RuntimeError, EOFError, struct.error, ...
        raise _damaged_error(path, error) from None
    if any(tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() for tensor in _tensors(content)):
        raise _too_large_error(path)
    return content


def _disallowed_global(path: Path, third_party: bool) -> str | None:
    """The first thing that a file names besides tensors and their parts."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
                if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                    raise _too_large_error(path)
                described = [entry for entry in entries if entry.filename.endswith("data.pkl")]
                if len(described) != 1 or described[0].file_size > _MAX_PICKLE_BYTES:
                    raise _not_a_checkpoint_error(path)
                if not third_party and archive.testzip() is not None:  # torch doesn't compare checksums
                    raise zipfile.BadZipFile("its content is not what was written")
                with archive.open(described[0]) as file:
                    return _first_disallowed(file)
        except (CheckpointError, OSError):
            raise
        except Exception as error:  # zipfile and pickletools, as torch above
            raise _damaged_error(path, error) from None
    with path.open("rb") as file:
        start = file.read(4)
        if not start or start[:2] == b"PK":
            raise _damaged_error(path, EOFError("Ran out of input"))
        if not third_party:
            raise _not_a_checkpoint_error(path)
        file.seek(0)
        try:
            return next((name for _ in range(_LEGACY_PICKLES) if (name := _first_disallowed(file)) is not None), None)
        except Exception as error:
            raise _damaged_error(path, error) from None


def _first_disallowed(file: IO[bytes]) -> str | None:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL" and not _ALLOWED_GLOBALS.fullmatch(str(argument)):
            return str(argument).replace(" ", ".")
        if opcode.name in _FORBIDDEN_OPCODES:
            return f"a pickle's {opcode.name}"
    return None


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in plain values, each once, however often and deep they are referred to."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value


def _not_a_checkpoint_error(path: Path, why: str = "") -> CheckpointError:
    found = f"the file holds code or is no checkpoint{why}, so it was not loaded"
    return CheckpointError(found, where=path, fix="give a checkpoint written by 'detect train'")


def _too_large_error(path: Path) -> CheckpointError:
    found = "the file would take more memory than it has bytes, as no checkpoint does"
    return CheckpointError(found, where=path, fix="give a checkpoint written by 'detect train'")


def _damaged_error(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).partition(". ")[0].split())
    found = f"the file is damaged or no checkpoint ({reason if ' ' in reason else type(error).__name__})"
    return CheckpointError(found, where=path, fix="use another checkpoint, last.pt or best.pt of a run")
