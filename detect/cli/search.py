"""``detect search``: hyperparameter search, by one or more workers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import UsageError, Verb, command, display_path, print_table

if TYPE_CHECKING:
    from ..benchmark.search import Space, Trial

_SHOWN = 10


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", type=Path, metavar="SPACE", help="a YAML file with the search space: docs/search.md")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="overrides of the base configuration, for all trials",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=30,
        metavar="N",
        help="total number of trials, with earlier ones (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/search"),
        metavar="DIR",
        help="folder of the study and the runs (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampler (default: %(default)s)")
    parser.add_argument("--no-prune", action="store_true", help="train every trial to its last epoch")


def _run(args: argparse.Namespace) -> int:
    if args.trials < 1:
        raise UsageError(f"--trials is {args.trials}", fix="give 1 or more")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}", fix="give 0 or more")
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError("detect search needs Optuna", fix="pip install 'surface-detect[search]'") from None
    from ..benchmark.search import read_space, search

    space = read_space(args.space, args.overrides)
    trials = search(
        space,
        args.out,
        trials=args.trials,
        seed=args.seed,
        prune=not args.no_prune,
        say=lambda text: print(text, flush=True),
    )
    _write(args.out, trials)
    _print(space, trials)
    complete = [trial for trial in trials if trial.state == "complete"]
    print(f"wrote {display_path(args.out / 'trials.json')}")
    if not complete:
        print("no trial was completed")
        return 2
    _write_best(args.out / "best.yaml", space, complete[0])
    print(f"wrote {display_path(args.out / 'best.yaml')}")
    print("The score of the best trial is biased upwards by the choice: train it and the base again with other seeds.")
    vary = [word for key in space.keys if not key.startswith("model.") for word in ("--vary", key)]
    print(
        "next: "
        + command(
            "bench", "train", display_path(space.base), display_path(args.out / "best.yaml"), "--seeds", "3", *vary
        )
    )
    return 0


def _write(out: Path, trials: Sequence[Trial]) -> None:
    from ..fileio import write_json

    rows = [asdict(trial) | {"folder": str(trial.folder)} for trial in trials]
    write_json(out / "trials.json", rows, indent=1)


def _write_best(path: Path, space: Space, best: Trial) -> None:
    """The complete configuration of the best trial."""
    from ..config.loading import to_yaml
    from ..fileio import write_text

    write_text(path, to_yaml(space.config(best.chosen, Path("runs/best"), 0)))


def _print(space: Space, trials: Sequence[Trial]) -> None:
    def row(trial: Trial) -> list[str]:
        score = "-" if trial.score is None else f"{trial.score:.3f}"
        return [str(trial.number), score, trial.state, *(trial.chosen[key] for key in space.keys)]

    counts: dict[str, Any] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    columns = ["trial", space.metric, "state", *(key.rpartition(".")[2] for key in space.keys)]
    print()
    print_table(f"{len(trials)} trials: {states}", columns, [row(trial) for trial in trials[:_SHOWN]])


SEARCH = Verb(
    summary="Search the configuration for a better score, trial by trial.",
    details=(
        "The study is stored on disk: after Ctrl-C or a crash the same command continues with the interrupted trial.\n"
        "Several workers can share a study: start the same command several times, on one machine or on several that\n"
        "share the folder. A trial far behind the others ends early. Writes trials.json and best.yaml."
    ),
    examples=[
        "search configs/search/around_neu.yaml --trials 40",
        "search configs/search/around_neu.yaml train.epochs=12 --trials 40 --out runs/search/short",
    ],
    add_arguments=_add_arguments,
    run=_run,
    on_interrupt=lambda _: "run the same command to continue",
)
