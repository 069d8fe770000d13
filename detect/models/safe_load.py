"""Safe loading of files of torch.save: only plain values and tensors, no code, and no more memory than the file."""

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

_MAX_PICKLE_BYTES = 4_000_000  # bytes; ten times the pickle of a large detector with its optimiser
_ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch(\.nn\.parameter)? (Parameter|Size)"
)
# other opcodes than GLOBAL that import names or create objects
_FORBIDDEN_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
_LEGACY_PICKLES = 5  # number of pickles at the start of a file of torch before 1.6


def load_tensors(path: Path, *, map_location: str | torch.device = "cpu", third_party: bool = False) -> Any:
    """Load a file of ``torch.save`` that contains only plain values and tensors.

    ``torch.load`` with ``weights_only`` refuses code, but trusts sizes: it unpacks compressed tensors and allocates
    any amount of memory that a file asks for. So the file is checked first: its pickle may refer only to tensors, and
    nothing in it may be larger than the file.

    Args:
        path: the file.
        map_location: device of the tensors.
        third_party: accept files of other programs, including torch before 1.6, and don't verify checksums.

    Raises:
        CheckpointError: the file is damaged, refers to anything else, or would need more memory than its size.
        OSError: the file can't be read.
    """
    disallowed = _disallowed_global(path, third_party)
    if disallowed is not None:
        raise _not_a_checkpoint_error(path, f" (it names {disallowed})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are refused below
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        raise _not_a_checkpoint_error(path) from None
    except OSError:
        raise
    except Exception as error:  # torch raises many types for damaged files: RuntimeError, EOFError, struct.error, ...
        raise _damaged_error(path, error) from None
    if any(tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() for tensor in _tensors(content)):
        raise _too_large_error(path)
    return content


def _disallowed_global(path: Path, third_party: bool) -> str | None:
    """The first name in a file's pickles other than tensors and their parts; None if there is no other."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
                if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                    raise _too_large_error(path)
                pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
                if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
                    raise _not_a_checkpoint_error(path)
                if not third_party and archive.testzip() is not None:  # torch doesn't verify checksums
                    raise zipfile.BadZipFile("its content is not what was written")
                with archive.open(pickles[0]) as file:
                    return _first_disallowed(file)
        except (CheckpointError, OSError):
            raise
        except Exception as error:  # zipfile and pickletools raise many types, as torch above
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
    """All tensors in nested containers, each once, also with repeated or circular references."""
    visited, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value


def _not_a_checkpoint_error(path: Path, why: str = "") -> CheckpointError:
    message = f"the file holds code or is no checkpoint{why}, so it was not loaded"
    return CheckpointError(message, where=path, fix="give a checkpoint written by 'detect train'")


def _too_large_error(path: Path) -> CheckpointError:
    message = "the file would take more memory than it has bytes, so it is no checkpoint"
    return CheckpointError(message, where=path, fix="give a checkpoint written by 'detect train'")


def _damaged_error(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).partition(". ")[0].split())
    message = f"the file is damaged or no checkpoint ({reason if ' ' in reason else type(error).__name__})"
    return CheckpointError(message, where=path, fix="use another checkpoint, last.pt or best.pt of a run")
