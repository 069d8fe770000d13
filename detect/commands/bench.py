"""``detect bench``: systems compared on equal terms, by sub-verbs of what is compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .bench_infer import BENCH_INFER
from .console import shown
from .contestants import read_json
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
        "--group-pattern",
        metavar="REGEX",
        help="keep images in one fold, and draw them together, whose paths share what it matches: '(coil\\d+)_'",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="DIR", help="for runs and table (default: %(default)s)"
    )
    parser.add_argument("--against", metavar="NAME", help="system that the others are compared with (default: first)")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY", help="a key or section that may differ; may be repeated"
    )
    parser.add_argument("--gather-only", action="store_true", help="train nothing, make the table of what is there")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at a time, which share the cores (default: 1)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="that speed is measured with (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="to measure speed on (default: %(default)s)")


def _run_train(args: argparse.Namespace) -> int:
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}", fix="give 1 or more")
    if args.jobs < 1:
        raise UsageError(f"--jobs is {args.jobs}", fix="give 1 or more")
    plan = _plan(args)
    from ..bench import forest_plot, gather, to_markdown, train_runs
    from ..formats.files import write_json, write_text

    if not args.gather_only:
        train_runs(plan, jobs=args.jobs, say=_say)
    results = gather(plan, threads=args.threads, device=args.device, say=_say)
    table = to_markdown(results)
    write_json(args.out / "bench.json", results, indent=1)
    write_text(args.out / "bench.md", table)
    write_text(args.out / "bench.svg", forest_plot(results))
    print(f"\n{table}")
    for name in ("bench.md", "bench.json", "bench.svg"):
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
    return plan_runs(
        systems,
        args.out,
        seeds=args.seeds,
        folds=args.folds,
        vary=args.vary,
        against=args.against,
        group_pattern=args.group_pattern,
    )


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
        "is 2. Writes a run folder for each seed, bench.md, bench.json and bench.svg."
    ),
    examples=[
        "bench train configs/neu.yaml configs/plain3.yaml --seeds 3 --out runs/paper",
        "bench train configs/neu.yaml configs/plain3.yaml train.epochs=12 --seeds 2 --folds 5 --out runs/folds",
        "bench train mine.yaml --seeds 1 --folds 5 --group-pattern '(coil\\d+)_' --out runs/coils",
        "bench train configs/neu.yaml configs/plain3.yaml --seeds 3 --out runs/paper --gather-only",
    ],
    add_arguments=_add_train_arguments,
    run=_run_train,
    on_interrupt=lambda _: "the same command goes on from here",
)


def _distances(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 1,2,4") from None


def _add_strips_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a system of 'bench train'"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="COCO JSON of strips to judge on")
    parser.add_argument(
        "--every",
        type=_distances,
        default=[1, 2, 3, 4],
        metavar="K,K",
        help="each how many frames a key frame is seen by the full network (default: 1,2,3,4)",
    )
    parser.add_argument(
        "--motion",
        choices=["recorded", "read"],
        default="recorded",
        help="how far the surface moves: as the frames' recorded places say, or read from the frames "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench_strips"), metavar="DIR", help="for tables (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="that speed is measured with (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="to detect and measure on (default: cpu)")


def _run_strips(args: argparse.Namespace) -> int:
    for option, least in (("threads", args.threads), ("every", min(args.every))):
        if least < 1:
            raise UsageError(f"--{option} is {least}", fix="give 1 or more")
    from ..bench.strips import judge_strips, to_markdown
    from ..formats.files import write_json, write_text

    results = judge_strips(
        args.runs,
        args.data,
        every=args.every,
        read_motion=args.motion == "read",
        threads=args.threads,
        device=args.device,
        say=_say,
    )
    tables = to_markdown(results)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "strips.json", results, indent=1)
    write_text(args.out / "strips.md", tables)
    print(f"\n{tables}")
    for name in ("strips.md", "strips.json"):
        print(f"wrote {shown(args.out / name)}")
    return 0


_STRIPS = Verb(
    summary="Judge trained systems on moving strips: bad frames, speed and foreseeing, each against its controls.",
    details=(
        "Each system sees the frames of each strip in the order of time. The first is what the others are compared\n"
        "with. A folder of 'bench train' with seed0, seed1, ... in it is one system, its scores the means over seeds.\n"
        "Writes strips.md and strips.json."
    ),
    examples=[
        "bench strips runs/strips_control runs/strips_still runs/strips --data data/strips/val.json",
        "bench strips runs/compared/strips_control runs/compared/strips --data data/strips/val.json --every 1,2,4",
        "bench strips runs/strips_control runs/strips --data data/strips/val.json --motion read",
    ],
    add_arguments=_add_strips_arguments,
    run=_run_strips,
)


def _add_join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="BENCH.json", help="what 'bench train' wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there, too")


def _run_join(args: argparse.Namespace) -> int:
    benches = [(shown(path), read_json(path, fix="give a bench.json")) for path in args.files]
    from ..bench import join
    from ..formats.files import write_text

    table = join(benches)
    print(table, end="")
    if args.out is not None:
        write_text(args.out, table)
        print(f"wrote {shown(args.out)}")
    return 0


_JOIN = Verb(
    summary="Join several benches to one table, each system against the reference that they share.",
    details=(
        "For systems that were trained on the same terms, but not in one go. Each is told by the bench that gave it\n"
        "most seeds, with its difference from the reference of that bench; times are ratios to a reference measured\n"
        "beside it. Benches on other data, or trained on other terms, are refused."
    ),
    examples=["bench join runs/first/bench.json runs/second/bench.json --out table.md"],
    add_arguments=_add_join_arguments,
    run=_run_join,
)

BENCH = VerbGroup(
    "Compare systems on equal terms: their accuracy with the spread of seeds and images, and their speed.",
    {"train": _TRAIN, "join": _JOIN, "strips": _STRIPS, "infer": BENCH_INFER},
)
