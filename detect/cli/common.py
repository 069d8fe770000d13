"""Shared by the verbs: arguments, tables, paths, evaluated runs, and commands to paste."""

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
LOST_EXIT = 75  # EX_TEMPFAIL of sysexits.h: try again


class UsageError(DetectError):
    """An invalid command line."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command ``detect``.

    Attributes:
        summary: one line for the list of verbs.
        details: the rest of its help.
        examples: command lines without the leading ``detect``.
        add_arguments: declares its arguments.
        run: runs it and returns the exit code; heavy imports are inside, so that help is fast.
        on_interrupt: how to continue after Ctrl-C, given the arguments.
        only_prints: whether it only writes to standard output, given the arguments; then it stops without a reader.
    """

    summary: str
    details: str
    examples: Sequence[str]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    on_interrupt: Callable[[argparse.Namespace], str] = lambda _: "run the same command again to start over"
    only_prints: Callable[[argparse.Namespace], bool] = lambda _: False

    def parse(self, name: str, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments in any order; those after ``--`` are never options.

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
        """The help text: its verbs, with an example of each."""
        width = max(map(len, self.verbs))
        listed = [f"  {each:<{width}}  {verb.summary}" for each, verb in self.verbs.items()]
        examples = [f"  detect {verb.examples[0]}" for verb in self.verbs.values()]
        usage = f"usage: detect {name} {{{','.join(self.verbs)}}} [arguments]"
        return "\n".join([usage, "", self.summary, "", "verbs:", *listed, "", "examples:", *examples])


def expand_home(path: Path) -> Path:
    """Expand a leading ``~`` that the shell did not expand, in quotes or after ``--out=``."""
    if not path.parts or path.parts[0][:1] != "~" or Path(path.parts[0]).exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def parse_names(text: str) -> list[str]:
    """Split an argument such as ``crazing,inclusion`` into names."""
    return [name.strip() for name in text.split(",")]


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix=f"see {self.prog} --help")


_FILE_WIDTH = 200  # columns, where the output is a file or pipe


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> None:
    """Print a title and a table; all but the first ``text_columns`` columns are numbers, flush right."""
    from rich import box
    from rich.table import Table

    if title:
        print(title)  # not the table's own title, which rich wraps to the width of the table
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text_columns else "right")
    for row in rows:
        table.add_row(*row)
    print_rich(table)


def print_rich(renderable: RenderableType) -> None:
    """Print a rich renderable: with colours in a terminal, plain and not wrapped elsewhere."""
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
    """The path relative to the current folder, if it is below it; on one line."""
    absolute = path.absolute()
    return in_one_line(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def command(*arguments: str) -> str:
    """A ``detect`` command line to paste, also where the script is not on the PATH."""
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
    """The newest best.pt of the runs in the current folder, named on stderr; the released model if there is none.

    Args:
        by: the argument that gives other weights.
    """
    candidates = sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not candidates:
        return Path(WORD)
    print(f"detect: weights {candidates[-1]}, the newest in runs; {by} names others", file=sys.stderr)
    return candidates[-1]


def report_released_model(categories: Iterable[str], *, by: str = "--weights") -> None:
    """Name the released model's classes on stderr, and the argument that gives another model."""
    known = ", ".join(categories)
    print(f"detect: the released model, trained on NEU-DET to find {known}; {by} names others", file=sys.stderr)


_OPTION = "--max-value"


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-value``."""
    parser.add_argument(
        _OPTION,
        type=int,
        metavar="GRAY",
        help="white level of 16-bit images: 1023 for 10 bits, 4095 for 12 (default: as in training, else 65535)",
    )


def report_bit_depth(predictor: Predictor, *, drawn: bool = False) -> None:
    """Describe the bit depth on stderr if the detector was given 16-bit images.

    Args:
        predictor: after the detection.
        drawn: whether drawings were written.
    """
    from ..data.dataset import describe_bit_depth

    if predictor.brightest is None:
        return
    before, now = predictor.trained_max_value, predictor.max_value
    setting = "data.max_value=" if now is not None and now == before else f"{_OPTION} "
    said, warning = describe_bit_depth(predictor.brightest, now, setting=setting)
    trained = "the detector was trained on 8 bits" if before is None else f"the detector was trained with {before:,}"
    trained = "as in training" if before is not None and now == before else trained
    shown = "; drawings are stretched to 8 bits" if drawn else ""
    print(f"detect: {said}; {trained}{shown}", file=sys.stderr)
    if warning is not None:
        print(f"detect: check this: {warning}", file=sys.stderr)


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--tile`` and ``--overlap``."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="SIDE",
        help="process larger images in square tiles of this side in pixels; 0: no tiles (default: as large as the "
        "training images, for images more than twice as wide or high)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="overlap of neighbouring tiles (default: a quarter of a tile)"
    )


def check_tile_arguments(args: argparse.Namespace) -> None:
    """Check the arguments of tiles, before anything is read."""
    if args.tile is not None and args.tile < 0:
        raise UsageError(f"--tile is {args.tile}", fix="give a side in pixels, or 0 for no tiles")
    if args.tile == 0 and args.overlap is not None:
        raise UsageError("--overlap has no meaning with --tile 0", fix="leave one of them out")


def report_tiling(what: str, width: int, height: int, tiling: Tiling, *, asked: int | None) -> None:
    """Describe the tiles on stderr.

    Args:
        what: name of the image or strip.
        width, height: of it in pixels.
        tiling: the tiles.
        asked: the value of ``--tile``; None if it was not given.
    """
    tiles = f"processed in {tiling.in_words(width, height)}"
    why = f"is much larger than the training images ({tiling.side} px), so it is {tiles}; --tile 0: no tiles"
    print(f"detect: {what} ({width} x {height} px) {why if asked is None else f'is {tiles}'}", file=sys.stderr)


def report_dataset_tiling(predictor: Predictor, dataset: Dataset, args: argparse.Namespace) -> None:
    """The same for a data set: the number of its images in tiles, and the largest of them."""
    tilings = predictor.tilings(dataset, tile=args.tile, overlap=args.overlap)
    if not tilings:
        return
    largest = max(tilings, key=lambda i: dataset.images[i].width * dataset.images[i].height)
    image = dataset.images[largest]
    count = f"{len(tilings):,} of {len(dataset.images):,} images in tiles; the largest, {display_path(image.path)}"
    report_tiling(count, image.width, image.height, tilings[largest], asked=args.tile)


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--group-key`` and ``--group-pattern``."""
    parser.add_argument(
        "--group-key",
        metavar="KEY",
        help="group images by this key of their COCO entries, such as video_id or coil, for the intervals",
    )
    parser.add_argument("--group-pattern", metavar="REGEX", help="group images whose file names share the match")


def check_group_arguments(args: argparse.Namespace) -> None:
    """Check that only one of them is given.

    Raises:
        UsageError: both are given.
    """
    if args.group_key is not None and args.group_pattern is not None:
        raise UsageError("--group-key and --group-pattern exclude each other", fix="give one of them")


def groups_from(args: argparse.Namespace, truth: dict[str, Any]) -> list[int] | None:
    """The group number of each image of a COCO data set; None without these arguments.

    Raises:
        ConfigError, DataError: as ``groups_of`` and ``check_truth``.
    """
    from ..datasets.split import groups_of
    from ..evaluation.records import check_truth

    if args.group_key is None and args.group_pattern is None:
        return None
    check_truth(truth)
    return groups_of(truth["images"], key=args.group_key, pattern=args.group_pattern)


_SEED = re.compile(r"seed\d+(?:_fold(?P<fold>\d+))?")


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """The detections of one training.

    Attributes:
        detections: COCO results.
        labels: that they were evaluated against, if known.
        fold: that it was evaluated on, from 1; None without folds.
    """

    detections: Path
    labels: Path | None
    fold: int | None


def runs_of(given: Path) -> list[EvaluatedRun]:
    """The runs of one system: a file, a run folder, or a folder with runs named seed0 or seed0_fold1 and so on.

    Raises:
        UsageError: no such run, or a run without detections.
    """
    if is_released(given):
        if not HOME.is_dir():
            fix = "call detect evaluate released --data LABELS.json first"
            raise UsageError("the released model has not been evaluated here", fix=fix)
        given = HOME
    if given.is_file():
        return [EvaluatedRun(given, _labels(given.parent, given), None)]
    if not given.is_dir():
        raise UsageError(f"{given}: no such folder or file", fix="give a run folder or a file of COCO results")
    detections = _detections(given)
    if detections is not None:
        return [EvaluatedRun(detections, _labels(given, detections), None)]
    runs = []
    for folder in sorted(given.iterdir()):
        seed = _SEED.fullmatch(folder.name)
        if seed is None or not folder.is_dir():
            continue
        detections = _detections(folder)
        if detections is None:
            fix = f"finish its training, or call detect evaluate {folder}"
            raise UsageError(f"{folder} holds no detections.json", fix=fix)
        runs.append(EvaluatedRun(detections, _labels(folder, detections), int(seed["fold"]) if seed["fold"] else None))
    if not runs:
        fix = f"call detect evaluate {given} first" if (given / "config.yaml").exists() else "give a run folder"
        raise UsageError(f"{given} holds no detections.json and no runs seed0, seed1, ...", fix=fix)
    return runs


def system_names(given: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """The names of the systems: those given, else of files or folders, with parent folders where two are equal.

    Raises:
        UsageError: too few or equal names, or the same path twice.
    """
    if names is not None:
        if len(names) != len(given) or len(set(names)) < len(names) or not all(names):
            raise UsageError(f"--names gives {', '.join(names)} for {len(given)} systems", fix="give each its own name")
        return list(names)
    parts = [_distinctive_parts(path.resolve()) for path in given]
    for count in range(1, max(map(len, parts)) + 1):
        candidates = ["/".join(each[-count:]) for each in parts]
        if len(set(candidates)) == len(candidates):
            return candidates
    raise UsageError(f"two of {', '.join(map(str, given))} are the same", fix="name each system once")


def labels_by_fold(systems: Mapping[str, Sequence[EvaluatedRun]], given: Path | None) -> dict[int | None, Path]:
    """COCO labels of each fold, under None without folds: those given, else those of the first run with known labels.

    Raises:
        UsageError: systems with other folds, or no labels.
    """
    (first, theirs), *others = ((name, sorted({run.fold or 0 for run in runs})) for name, runs in systems.items())
    for name, folds in others:
        if folds != theirs:
            described = [f"folds {', '.join(map(str, each))}" if any(each) else "no folds" for each in (theirs, folds)]
            found = f"{first} has {described[0]} and {name} has {described[1]}"
            raise UsageError(found, fix="compare systems of one benchmark")
    if given is not None:
        if any(theirs):
            raise UsageError("--data has no meaning with folds", fix="leave it out: each fold has its own labels")
        return {None: given}
    data: dict[int | None, Path] = {}
    for fold in theirs:
        known = [run.labels for runs in systems.values() for run in runs if (run.fold or 0) == fold and run.labels]
        if not known:
            raise UsageError("there are no labels to evaluate against", fix="name the COCO labels with --data")
        if not known[0].exists():
            raise UsageError(f"the runs' labels {known[0]} don't exist", fix="name the COCO labels with --data")
        data[fold or None] = known[0]
    return data


def read_truth(path: Path) -> dict[str, Any]:
    """Labels in any form of COCO JSON that can be converted; images need no file names.

    Raises:
        DataError: as ``coco.load``.
    """
    from ..datasets import coco

    return coco.load(path, read_images=False)


def read_results(path: Path, image_ids: Iterable[int | str], category_ids: Iterable[int | str]) -> Any:
    """COCO results, with ids as text or numbers as in the labels; checked when they are evaluated.

    Raises:
        DataError: it can't be read or is no JSON.
    """
    from ..datasets import coco

    return coco.with_ids_of(read_json(path, fix="give COCO results"), image_ids, category_ids)


def read_json(path: Path, *, fix: str = "give a COCO JSON file") -> Any:
    """Read a JSON file; ``fix`` is the advice in errors.

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


def _distinctive_parts(path: Path) -> list[str]:
    """Parts of the path that distinguish systems; a run seed0 is named with its system."""
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
    """The labels in the report next to the detections, else the run's data.val."""
    report, config_file = detections.with_name("report.json"), run_dir / "config.yaml"
    if detections.name == "detections.json" and report.is_file():
        content = read_json(report)
        meta = content.get("meta") if isinstance(content, dict) else None
        if isinstance(meta, dict) and meta.get("data"):
            return Path(str(meta["data"]))
    if not config_file.exists():
        return None
    from ..config.loading import load_config

    return load_config(config_file, []).data.val
