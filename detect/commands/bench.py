"""``detect bench``: systems compared on equal terms, by sub-verbs of what is compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import shown
from .verb import UsageError, Verb, VerbGroup

if TYPE_CHECKING:
    from ..bench import Plan


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "given", nargs="+", metavar="CONFIG", help="YAML files, one a system; key=value among them holds for all"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each (default: %(default)s)")
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validate on train and val data together")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="DIR", help="for runs and table (default: %(default)s)"
    )
    parser.add_argument("--against", metavar="NAME", help="system that the others are compared with (default: first)")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY", help="a key or section that may differ; may be repeated"
    )
    parser.add_argument("--gather-only", action="store_true", help="train nothing, make the table of what is there")
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="that speed is measured with (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="to measure speed on (default: %(default)s)")


def _run_train(args: argparse.Namespace) -> int:
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}", fix="give 1 or more")
    plan = _plan(args)
    from ..bench import gather, to_markdown, train_runs
    from ..formats.files import write_json, write_text

    if not args.gather_only:
        train_runs(plan, say=_say)
    results = gather(plan, threads=args.threads, device=args.device, say=_say)
    table = to_markdown(results)
    write_json(args.out / "bench.json", results, indent=1)
    write_text(args.out / "bench.md", table)
    print(f"\n{table}")
    for name in ("bench.md", "bench.json"):
        print(f"wrote {shown(args.out / name)}")
    failed = [system["name"] for system in results["systems"] if system["state"] == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries again")
    return 2 if failed else 0


def _plan(args: argparse.Namespace) -> Plan:
    configs, overrides = _sorted(args.given)
    if not configs:
        raise UsageError("there is no configuration to train", fix="name one YAML file a system")
    from ..bench import plan_runs, read_systems

    systems = read_systems(configs, overrides)
    return plan_runs(systems, args.out, seeds=args.seeds, folds=args.folds, vary=args.vary, against=args.against)


def _sorted(given: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files and overrides; a file may have an equals sign in its name."""
    overrides = [each for each in given if "=" in each and not Path(each).exists()]
    return [Path(each) for each in given if each not in overrides], overrides


def _say(text: str) -> None:
    print(text, flush=True)


_TRAIN = Verb(
    summary="Train several configurations with several seeds, and compare them in one table.",
    details=(
        "Data, schedule and augmentation have to be the same for all. A run is judged by its averaged weights after\n"
        "the last epoch. The same command goes on after Ctrl-C: finished runs are kept, interrupted ones resumed,\n"
        "failed ones tried again. A system that fails is named in the table, the others go on, and the exit code\n"
        "is 2. Writes a run folder for each seed, bench.md and bench.json."
    ),
    examples=[
        "bench train configs/neu.yaml configs/plain3.yaml --seeds 3 --out runs/paper",
        "bench train configs/neu.yaml configs/plain3.yaml train.epochs=12 --seeds 2 --folds 5 --out runs/folds",
        "bench train configs/neu.yaml configs/plain3.yaml --seeds 3 --out runs/paper --gather-only",
    ],
    add_arguments=_add_train_arguments,
    run=_run_train,
    on_interrupt=lambda _: "the same command goes on from here",
)

BENCH = VerbGroup("Compare systems on equal terms, with the spread of seeds and images.", {"train": _TRAIN})
