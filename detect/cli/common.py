"""What the verbs share: arguments, tables, paths, the runs that are compared, and commands that can be pasted."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import DataError, DetectError, in_one_line
from ..released import HOME, WORD, is_released

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..inference.predictor import Predictor
    from ..inference.tiling import Tiling
    from ..structures import Dataset, Detections

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
                setattr(values, name, expand_home(value))
            elif isinstance(value, list):
                setattr(values, name, [expand_home(each) if isinstance(each, Path) else each for each in value])
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


def expand_home(path: Path) -> Path:
    """A path whose ``~`` the shell has left, in quotes or after ``--out=``, in the home folder that it means."""
    if not path.parts or path.parts[0][:1] != "~" or Path(path.parts[0]).exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def parse_names(text: str) -> list[str]:
    """An argument such as ``crazing,inclusion`` as its names."""
    return [name.strip() for name in text.split(",")]


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"see {self.prog} --help")


_FILE_WIDTH = 200  # columns; a file or a pipe has no edge to fold at


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> None:
    """Print a line and a table under it; all but the first ``text_columns`` columns are figures, to the right."""
    from rich import box
    from rich.table import Table

    if title:
        print(title)  # not as the table's own title, which rich folds to the table's width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text_columns else "right")
    for row in rows:
        table.add_row(*row)
    print_rich(table)


def print_rich(renderable: RenderableType) -> None:
    """Print what rich can draw: with colours in a terminal, plain and unfolded elsewhere."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(file=sys.stdout, markup=False, highlight=False, width=width).print(renderable)


def detections_to_json(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain JSON values: boxes in pixels, x1, y1, x2, y2."""
    return [
        {"label": one.label, "score": round(one.score, 6), "box_xyxy": [round(value, 3) for value in one.xyxy]}
        for one in found
    ]


def display_path(path: Path) -> str:
    """The path as seen from the current folder, if it is below it; on one line, whatever its name."""
    absolute = path.absolute()
    return in_one_line(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def command(*arguments: str) -> str:
    """A ``detect`` command line that works when pasted, also where its script is not on the PATH."""
    script = Path(sys.executable).parent / "detect"
    found = shutil.which("detect")
    if found is not None and Path(found).parent == script.parent:
        start = ["detect"]
    elif script.exists():
        start = [display_path(script)]
    else:
        start = [display_path(Path(sys.executable)), "-m", "detect"]
    return shlex.join([*start, *arguments])


def newest_weights(*, by: str = "--weights") -> Path:
    """The newest best.pt of the runs in the current folder, named on stderr; the released model where there is none.

    Args:
        by: what names other weights on the command line.
    """
    candidates = sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not candidates:
        return Path(WORD)
    print(f"detect: weights {candidates[-1]}, the newest in runs; {by} names others", file=sys.stderr)
    return candidates[-1]


def report_released_model(categories: Iterable[str], *, by: str = "--weights") -> None:
    """A line on stderr: what the released model finds, and what on the command line names another one."""
    known = ", ".join(categories)
    print(f"detect: the released model, trained on NEU-DET to find {known}; {by} names others", file=sys.stderr)


_OPTION = "--max-value"


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """``--max-value``."""
    parser.add_argument(
        _OPTION,
        type=int,
        metavar="GRAY",
        help="white of 16-bit images: 1023 of a camera of 10 bits, 4095 of 12 (default: as in training, else 65535)",
    )


def report_bit_depth(predictor: Predictor, *, drawn: bool = False) -> None:
    """Lines on stderr if the detector was given 16-bit images.

    Args:
        predictor: after it has seen them.
        drawn: pictures were made of them.
    """
    from ..data.dataset import describe_bit_depth

    if predictor.brightest is None:
        return
    before, now = predictor.trained_max_value, predictor.max_value
    setting = "data.max_value=" if now is not None and now == before else f"{_OPTION} "
    said, warning = describe_bit_depth(predictor.brightest, now, setting=setting)
    trained = "the detector was trained on 8 bits" if before is None else f"the detector was trained with {before:,}"
    trained = "as in training" if before is not None and now == before else trained
    shown = "; drawn pictures are stretched to 8 bits to be seen" if drawn else ""
    print(f"detect: {said}; {trained}{shown}", file=sys.stderr)
    if warning is not None:
        print(f"detect: check this: {warning}", file=sys.stderr)


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """``--tile`` and ``--overlap``."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="SIDE",
        help="see larger images in tiles of so many pixels a side; 0: see all whole (default: tiles as large as what "
        "was trained on, of images more than twice as wide or high)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="that neighbouring tiles share (default: a quarter of a tile)"
    )


def check_tile_arguments(args: argparse.Namespace) -> None:
    """Refuse what no tiles can be made of, before anything is read."""
    if args.tile is not None and args.tile < 0:
        raise UsageError(f"--tile is {args.tile}", fix="give a side in pixels, or 0 to see images whole")
    if args.tile == 0 and args.overlap is not None:
        raise UsageError("--overlap has no meaning with --tile 0", fix="leave one of them out")


def report_tiling(what: str, width: int, height: int, tiling: Tiling, *, asked: int | None) -> None:
    """A line on stderr.

    Args:
        what: is seen in tiles.
        width, height: of it in pixels.
        tiling: these.
        asked: what ``--tile`` said; None: nothing.
    """
    tiles = f"seen in {tiling.in_words(width, height)}"
    why = f"is much larger than the {tiling.side} px that were trained on, so it is {tiles}; --tile 0 sees it whole"
    print(f"detect: {what} ({width} x {height} px) {why if asked is None else f'is {tiles}'}", file=sys.stderr)


def report_dataset_tiling(predictor: Predictor, dataset: Dataset, args: argparse.Namespace) -> None:
    """The same for a data set: how many of its images, and the largest of them."""
    tilings = predictor.tilings(dataset, tile=args.tile, overlap=args.overlap)
    if not tilings:
        return
    largest = max(tilings, key=lambda i: dataset.images[i].width * dataset.images[i].height)
    image = dataset.images[largest]
    count = f"{len(tilings):,} of {len(dataset.images):,} images in tiles; the largest, {display_path(image.path)}"
    report_tiling(count, image.width, image.height, tilings[largest], asked=args.tile)


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    """``--group-key`` and ``--group-pattern``."""
    parser.add_argument(
        "--group-key", metavar="KEY", help="draw images together whose entries share it: video_id, coil"
    )
    parser.add_argument("--group-pattern", metavar="REGEX", help="or whose file names share what it matches")


def check_group_arguments(args: argparse.Namespace) -> None:
    """Refuse both at once.

    Raises:
        UsageError: two ways to group.
    """
    if args.group_key is not None and args.group_pattern is not None:
        raise UsageError("--group-key and --group-pattern both say what to draw", fix="give one of them")


def groups_from(args: argparse.Namespace, truth: dict[str, Any]) -> list[int] | None:
    """A number for each image of a COCO data set as the arguments group them; None where they don't.

    Raises:
        ConfigError, DataError: as ``groups_of``, or labels that can't be judged by.
    """
    from ..datasets.split import groups_of
    from ..evaluation.records import check_truth

    if args.group_key is None and args.group_pattern is None:
        return None
    check_truth(truth)
    return groups_of(truth["images"], key=args.group_key, pattern=args.group_pattern)


_SEED = re.compile(r"seed\d+(?:_fold(?P<fold>\d+))?")


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One training's detections.

    Attributes:
        detections: COCO results.
        labels: what they were judged by, as far as known.
        fold: that it was judged on, from 1; None without folds.
    """

    detections: Path
    labels: Path | None
    fold: int | None


def runs_of(given: Path) -> list[JudgedRun]:
    """The runs of one system: a file, a run folder, or a folder with runs named seed0 or seed0_fold1 and so on.

    Raises:
        UsageError: there is nothing of that kind, or a run without detections.
    """
    if is_released(given):
        if not HOME.is_dir():
            fix = "call detect evaluate released --data LABELS.json first"
            raise UsageError("the released model has not been judged here", fix=fix)
        given = HOME
    if given.is_file():
        return [JudgedRun(given, _labels(given.parent, given), None)]
    if not given.is_dir():
        raise UsageError(f"{given}: no such folder or file", fix="give a run folder or a file of COCO results")
    detections = _detections(given)
    if detections is not None:
        return [JudgedRun(detections, _labels(given, detections), None)]
    runs = []
    for folder in sorted(given.iterdir()):
        seed = _SEED.fullmatch(folder.name)
        if seed is None or not folder.is_dir():
            continue
        detections = _detections(folder)
        if detections is None:
            fix = f"finish its training, or call detect evaluate {folder}"
            raise UsageError(f"{folder} holds no detections.json", fix=fix)
        runs.append(JudgedRun(detections, _labels(folder, detections), int(seed["fold"]) if seed["fold"] else None))
    if not runs:
        fix = f"call detect evaluate {given} first" if (given / "config.yaml").exists() else "give a run folder"
        raise UsageError(f"{given} holds no detections.json and no runs seed0, seed1, ...", fix=fix)
    return runs


def system_names(given: Sequence[Path], wanted: Sequence[str] | None) -> list[str]:
    """What to call the systems: as wanted, else by file or folder, with folders above where two would be the same.

    Raises:
        UsageError: too few or equal names, or the same path twice.
    """
    if wanted is not None:
        if len(wanted) != len(given) or len(set(wanted)) < len(wanted) or not all(wanted):
            raise UsageError(
                f"--names gives {', '.join(wanted)} for {len(given)} systems", fix="give each its own name"
            )
        return list(wanted)
    parts = [_telling(path.resolve()) for path in given]
    for count in range(1, max(map(len, parts)) + 1):
        called = ["/".join(each[-count:]) for each in parts]
        if len(set(called)) == len(called):
            return called
    raise UsageError(f"two of {', '.join(map(str, given))} are the same", fix="name each system once")


def labels_by_fold(systems: Mapping[str, Sequence[JudgedRun]], given: Path | None) -> dict[int | None, Path]:
    """COCO labels of each fold, under None without folds: those given, else those of the first run that knows its own.

    Raises:
        UsageError: systems with other folds, or no labels.
    """
    (first, theirs), *others = ((name, sorted({run.fold or 0 for run in runs})) for name, runs in systems.items())
    for name, folds in others:
        if folds != theirs:
            told = [f"the folds {', '.join(map(str, each))}" if any(each) else "no folds" for each in (theirs, folds)]
            found = f"{first} has {told[0]} and {name} has {told[1]}"
            raise UsageError(found, fix="compare systems of one bench")
    if given is not None:
        if any(theirs):
            raise UsageError("--data has no meaning with folds", fix="leave it out: each fold has its own labels")
        return {None: given}
    data: dict[int | None, Path] = {}
    for fold in theirs:
        known = [run.labels for runs in systems.values() for run in runs if (run.fold or 0) == fold and run.labels]
        if not known:
            raise UsageError("nothing says what to judge by", fix="name the COCO labels with --data")
        if not known[0].exists():
            raise UsageError(f"the runs' labels {known[0]} aren't there", fix="name the COCO labels with --data")
        data[fold or None] = known[0]
    return data


def read_truth(path: Path) -> dict[str, Any]:
    """Labels to judge by, in any form of COCO JSON that can be converted; images may be without file names.

    Raises:
        DataError: as ``coco.load``.
    """
    from ..datasets import coco

    return coco.load(path, read_images=False)


def read_results(path: Path, image_ids: Iterable[int | str], category_ids: Iterable[int | str]) -> Any:
    """COCO results with ids in the form that those of the labels have; checked where they are judged.

    Raises:
        DataError: it can't be read or is no JSON.
    """
    from ..datasets import coco

    return coco.with_ids_of(read_json(path, fix="give COCO results"), image_ids, category_ids)


def read_json(path: Path, *, fix: str = "give a COCO JSON file") -> Any:
    """A JSON file; ``fix`` is what to do if it is none.

    Raises:
        DataError: it can't be read or is no JSON.
    """
    from .. import fileio as files

    try:
        return files.read_json(path)
    except OSError as error:
        raise DataError(f"can't read the file ({error.strerror})", where=path, fix="check the path") from None
    except ValueError as error:  # not JSON, or not even text
        raise DataError(f"the file is not valid JSON ({error})", where=path, fix=fix) from None


def _telling(path: Path) -> list[str]:
    """Parts of the path that tell systems apart; a run seed0 is named with its system."""
    parts = [*path.parts[1:-1], path.stem if path.is_file() else path.name]
    while len(parts) > 1 and parts[-1] in ("detections", "report"):
        parts.pop()
    if len(parts) > 1 and _SEED.fullmatch(parts[-1]):
        parts[-2:] = ["/".join(parts[-2:])]
    return parts


def _detections(folder: Path) -> Path | None:
    places = (folder / "detections.json", folder / "report" / "detections.json")
    return next((place for place in places if place.is_file()), None)


def _labels(run_dir: Path, detections: Path) -> Path | None:
    """What the report beside the detections was judged by, else the run's data.val."""
    report, config_file = detections.with_name("report.json"), run_dir / "config.yaml"
    if detections.name == "detections.json" and report.is_file():
        told = read_json(report)
        meta = told.get("meta") if isinstance(told, dict) else None
        if isinstance(meta, dict) and meta.get("data"):
            return Path(str(meta["data"]))
    if not config_file.exists():
        return None
    from ..config.loading import load_config

    return load_config(config_file, []).data.val
