"""The command line: runs the verb, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from .. import __version__
from ..errors import DetectError, DistributedError, is_out_of_memory
from .audit import AUDIT
from .bench import BENCH
from .common import INTERRUPTED_EXIT, LOST_EXIT, UsageError, Verb, VerbGroup
from .compare import COMPARE
from .convert import CONVERT
from .evaluate import EVALUATE
from .export import EXPORT
from .infer import INFER
from .label_issues import LABEL_ISSUES
from .pre_annotate import PRE_ANNOTATE
from .sample import SAMPLE
from .search import SEARCH
from .serve import SERVE
from .train import TRAIN

__all__ = ["VERBS", "main"]

VERBS: dict[str, Verb | VerbGroup] = {
    "convert": CONVERT,
    "audit": AUDIT,
    "sample": SAMPLE,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "compare": COMPARE,
    "label-issues": LABEL_ISSUES,
    "infer": INFER,
    "pre-annotate": PRE_ANNOTATE,
    "export": EXPORT,
    "serve": SERVE,
    "bench": BENCH,
    "search": SEARCH,
}

_HELP = ("-h", "--help", "help")

USAGE_EXIT = 2
CLOSED_PIPE_EXIT = 141  # 128 + SIGPIPE
_LAST_STANDARD = 2  # descriptor of standard error

# Problems of the user's files and disk, as opposed to bugs of this program.
_DISK_ERRORS = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "ELOOP"),
        *("ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG"),
    )
    if hasattr(errno, name)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: the arguments after the program's name; None: those of this process.

    Returns:
        The exit code: 0 success, 2 an error in the input (one sentence on stderr), 75 another process of the same
        training was lost, 130 stopped by Ctrl-C, 141 the reader of the output was closed. A bug keeps its traceback.
    """
    with _standard_streams() as output:
        try:
            code = _report_errors(list(sys.argv[1:] if argv is None else argv), output)
            output.flush()
        except _ReaderClosed:
            return CLOSED_PIPE_EXIT
        if output.failure is None:
            return code
        if isinstance(output.failure, BrokenPipeError):  # as in `detect ... | head`
            return code or CLOSED_PIPE_EXIT
        return _print_error(f"not all of the output could be written: {output.failure.strerror}", USAGE_EXIT)


class _ReaderClosed(BaseException):
    """Ends a verb that only prints; on a BrokenPipeError rich would exit by itself."""


class _Output:
    """A text stream that survives the loss of its reader, so that a verb still finishes its files.

    Attributes:
        failure: the first error of writing, after which nothing more is written.
        needs_reader: raise ``_ReaderClosed`` at a closed pipe.
    """

    def __init__(self, stream: TextIO, *, needs_reader: bool) -> None:
        self._stream, self.needs_reader = stream, needs_reader
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text, unless an earlier write failed."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, unless an earlier write failed."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        if self.failure is not None:
            return
        try:
            action()
        except OSError as error:
            self.failure = error
            # the rest of the buffer would fail again at exit
            with suppress(OSError), Path(os.devnull).open("w") as null:
                os.dup2(null.fileno(), self._stream.fileno())
            if self.needs_reader and isinstance(error, BrokenPipeError):
                raise _ReaderClosed from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _standard_streams() -> Iterator[_Output]:
    """Standard streams on which no verb fails: if they are closed, lose their reader, or can't encode a character.

    Yields:
        The standard output.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):  # closed by the caller, as with `>&-`
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
            pass  # otherwise a file opened later would become a standard stream
        os.close(descriptor)
        null = Path(os.devnull)
        sys.stdin = sys.stdin or null.open()
        sys.stdout = sys.stdout or null.open("w", encoding="utf-8")
        sys.stderr = sys.stderr or null.open("w", encoding="utf-8")
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    output = _Output(sys.stdout, needs_reader=True)
    sys.stdout = cast(TextIO, output)
    sys.stderr = cast(TextIO, _Output(sys.stderr, needs_reader=False))
    try:
        yield output
    finally:
        output.needs_reader = False
        output.flush()
        sys.stdout, sys.stderr = before


def _report_errors(arguments: Sequence[str], output: _Output) -> int:
    try:
        return _run(arguments, output)
    except DistributedError as error:
        return _print_error(str(error), LOST_EXIT)
    except DetectError as error:
        return _print_error(str(error), USAGE_EXIT)
    except KeyboardInterrupt:
        return _print_error("stopped", INTERRUPTED_EXIT)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "detect":
            raise
        return _print_error(f"Python finds no module {error.name}; install this package (pip install .)", USAGE_EXIT)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _print_error("out of memory; use smaller batches, images or networks", USAGE_EXIT)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _print_error(f"{where}{error.strerror}; check the path, its permissions and the disk", USAGE_EXIT)


def _run(arguments: Sequence[str], output: _Output) -> int:
    if not arguments or arguments[0] in _HELP:
        print(_help())
        return 0 if arguments else USAGE_EXIT
    if arguments[0] in ("-V", "--version"):
        print(f"detect {__version__}")
        return 0
    name, *rest = arguments
    verb = _named(name, VERBS)
    if isinstance(verb, VerbGroup):
        if not rest or rest[0] in _HELP:
            print(verb.help(name))
            return 0 if rest else USAGE_EXIT
        second, *rest = rest
        name, verb = f"{name} {second}", _named(second, verb.verbs)
    try:
        values = verb.parse(name, rest)
    except SystemExit:  # argparse has printed the verb's help
        return 0
    output.needs_reader = verb.only_prints(values)
    try:
        return verb.run(values)
    except KeyboardInterrupt:
        return _print_error(f"stopped; {verb.on_interrupt(values)}", INTERRUPTED_EXIT)


_Named = TypeVar("_Named", Verb, Verb | VerbGroup)


def _named(name: str, verbs: Mapping[str, _Named]) -> _Named:
    if name in verbs:
        return verbs[name]
    near = difflib.get_close_matches(name, verbs, n=1)
    fix = f"did you mean '{near[0]}'?" if near else f"the verbs are {', '.join(verbs)}"
    raise UsageError(f"no verb '{name}'", fix=fix)


def _help() -> str:
    width = max(map(len, VERBS))
    return "\n".join(
        [
            "usage: detect VERB [arguments]",
            "",
            "Surface defects: convert labels, train a detector, evaluate it and run it.",
            "",
            "verbs:",
            *(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()),
            "",
            "options:",
            "  -h, --help     this text; detect VERB --help describes one verb",
            "  -V, --version  the version",
            "",
            "example, from sample data to images with drawn boxes:",
            "  detect sample --out data/demo/steel --images 300 --seed 0",
            "  detect convert data/demo/steel --out data/demo --split train=1-40,val=41-50",
            "  detect train configs/demo.yaml",
            "  detect evaluate runs/demo",
            "  detect infer data/demo/steel/IMAGES --draw --weights runs/demo --out runs/demo/detections",
        ]
    )


def _print_error(sentence: str, code: int) -> int:
    with suppress(_ReaderClosed):
        sys.stdout.flush()
    print(f"detect: {sentence}", file=sys.stderr)
    return code
