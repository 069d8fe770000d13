"""What a verb of the command line is, and how its arguments become values or one clear sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..errors import DetectError

INTERRUPTED_EXIT = 130  # 128 + SIGINT, as shells count
LOST_EXIT = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong here, try again


class UsageError(DetectError):
    """A command line that can't be understood."""


@dataclass(frozen=True)
class Verb:
    """One thing that the command ``detect`` can do.

    Attributes:
        summary: one line for the list of verbs.
        details: what it reads and writes, for its own help.
        examples: command lines without the leading ``detect``.
        add_arguments: declares its arguments.
        run: does it and returns the exit code; imports what is heavy inside, so that help stays instant.
        on_interrupt: how to go on after Ctrl-C, given the arguments.
        only_prints: whether, given the arguments, standard output is all that is wanted: without a reader it stops.
    """

    summary: str
    details: str
    examples: Sequence[str]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    on_interrupt: Callable[[argparse.Namespace], str] = lambda _: "run the same command again to start over"
    only_prints: Callable[[argparse.Namespace], bool] = lambda _: False

    def parse(self, name: str, arguments: Sequence[str]) -> argparse.Namespace:
        """Arguments in any order -> their values; those after ``--`` are no options, whatever they begin with.

        Raises:
            UsageError: unknown, missing or malformed arguments.
        """
        parser = _Parser(
            prog=f"detect {name}",
            description=f"{self.summary}\n\n{self.details}",
            epilog="\n".join(["examples:", *(f"  detect {example}" for example in self.examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_arguments(parser)
        options, named = list(arguments), []
        if "--" in options:
            at = options.index("--")
            # argparse loses track of "--" between options and paths
            options, named = options[:at], [f"./{each}" if each[:1] == "-" else each for each in options[at + 1 :]]
        values = parser.parse_intermixed_args([*options, *named])
        for name, value in vars(values).items():
            if isinstance(value, Path):
                setattr(values, name, at_home(value))
            elif isinstance(value, list):
                setattr(values, name, [at_home(each) if isinstance(each, Path) else each for each in value])
        return values


@dataclass(frozen=True)
class VerbGroup:
    """Verbs that share a first word, such as ``detect bench train``.

    Attributes:
        summary: one line for the list of verbs.
        verbs: by their second word.
    """

    summary: str
    verbs: Mapping[str, Verb]

    def help(self, name: str) -> str:
        """What it can do, an example of each."""
        width = max(map(len, self.verbs))
        listed = [f"  {each:<{width}}  {verb.summary}" for each, verb in self.verbs.items()]
        examples = [f"  detect {verb.examples[0]}" for verb in self.verbs.values()]
        usage = f"usage: detect {name} {{{','.join(self.verbs)}}} [arguments]"
        return "\n".join([usage, "", self.summary, "", "verbs:", *listed, "", "examples:", *examples])


def at_home(path: Path) -> Path:
    """A path whose ``~`` the shell has left, in quotes or after ``--out=``, in the home folder that it means."""
    if not path.parts or path.parts[0][:1] != "~" or Path(path.parts[0]).exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def names(text: str) -> list[str]:
    """An argument such as ``crazing,inclusion`` as its names."""
    return [name.strip() for name in text.split(",")]


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"see {self.prog} --help")
