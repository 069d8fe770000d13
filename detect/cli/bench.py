"""``detect bench``: compare systems under the same conditions, and measure the speed of detectors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..released import is_released
from .common import UsageError, Verb, VerbGroup, display_path, read_json

if TYPE_CHECKING:
    from ..benchmark.runs import Plan
    from ..images import Pixels
    from ..structures import Dataset

_RUNTIMES = ("eager", "compile", "onnx", "openvino")
_PRECISIONS = ("fp32", "int8")
_SAMPLE_IMAGES = 24  # for speed, without --data
_CALIBRATION_IMAGES = 100


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, checkpoint files, or released")
    parser.add_argument(
        "--runtime", default="eager", metavar="NAME,NAME", help=f"runtimes: {', '.join(_RUNTIMES)} (default: eager)"
    )
    parser.add_argument("--precision", default="fp32", metavar="NAME,NAME", help="of fp32, int8 (default: fp32)")
    parser.add_argument("--threads", default="2", metavar="N,N", help="number of threads of the detector (default: 2)")
    parser.add_argument("--batch", default="1", metavar="N,N", help="images per call (default: 1)")
    parser.add_argument(
        "--calls", type=int, default=200, metavar="N", help="timed calls per row (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="JSON", help="COCO labels: measure on their images, and add the accuracy"
    )
    parser.add_argument("--calibration", type=Path, metavar="JSON", help="with int8: COCO labels of training images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file, as a list")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw accuracy against time; needs --data")


def _run(args: argparse.Namespace) -> int:
    runtimes = _among(args.runtime, _RUNTIMES, "--runtime")
    precisions = _among(args.precision, _PRECISIONS, "--precision")
    threads, batches = _counts(args.threads, "--threads"), _counts(args.batch, "--batch")
    if args.calls < 1:
        raise UsageError(f"--calls is {args.calls}", fix="give 1 or more")
    if args.plot is not None and args.data is None:
        raise UsageError("--plot needs the accuracy", fix="name COCO labels with --data")
    if "int8" in precisions and not {"onnx", "openvino"} & set(runtimes):
        raise UsageError("int8 is for exported models", fix="add onnx or openvino to --runtime")
    from contextlib import ExitStack

    from ..benchmark.speed import measure, pareto_plot, to_markdown, variants_of
    from ..fileio import write_json, write_text
    from ..models.checkpoint import load_checkpoint

    checkpoints = [load_checkpoint(run) for run in args.runs]
    channels = {each.detector.channels for each in checkpoints}
    if len(channels) > 1:
        raise UsageError("some of these detectors are for gray images and some for RGB", fix="measure them separately")
    images, truth = _images(args.data, channels.pop())
    calibration = _calibration(args, images) if "int8" in precisions else []
    with ExitStack() as stack:
        variants = [
            variant
            for run, checkpoint in zip(args.runs, checkpoints)
            for variant in stack.enter_context(
                variants_of(
                    _name(run),
                    checkpoint,
                    runtimes=runtimes,
                    precisions=precisions,
                    threads=threads,
                    example=images[0],
                    calibration=calibration,
                )
            )
        ]
        rows = measure(variants, images, batches=batches, calls=args.calls, truth=truth)
    print(to_markdown(rows), end="")
    if truth is None:
        print("measured on synthetic sample images; give images with --data to add the accuracy")
    if args.json is not None:
        write_json(args.json, rows, indent=1)
        print(f"wrote {display_path(args.json)}")
    if args.plot is not None:
        write_text(args.plot, pareto_plot(rows))
        print(f"wrote {display_path(args.plot)}")
    return 0


def _name(run: Path) -> str:
    if is_released(run):
        return str(run)
    path = run.resolve()
    return path.name if path.is_dir() else f"{path.parent.name}/{path.stem}"


def _among(text: str, known: Sequence[str], flag: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{flag} {unknown[0]!r} is not known", fix=f"choose among {', '.join(known)}")
    return names


def _counts(text: str, flag: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and 0 < int(part) < 1000 for part in parts):
        raise UsageError(f"{flag} is {text}", fix="give whole numbers from 1 on, such as 1,2")
    return list(dict.fromkeys(map(int, parts)))


def _images(data: Path | None, channels: int) -> tuple[list[Pixels], tuple[Dataset, dict[str, Any]] | None]:
    """Images as arrays for the networks, and their labels."""
    from ..data.dataset import as_channels

    if data is None:
        from ..synthetic.scenes import CATEGORIES, sample_image

        made = [sample_image(CATEGORIES[i % len(CATEGORIES)], i, seed=0)[0] for i in range(_SAMPLE_IMAGES)]
        return [as_channels(each, channels) for each in made], None
    import numpy as np

    from ..datasets import coco
    from ..images import read_image

    dataset, labels = coco.read(data), coco.load(data)
    images = [np.ascontiguousarray(as_channels(read_image(image.path), channels)) for image in dataset.images]
    if len({(image.shape, image.dtype) for image in images}) != 1:
        raise DataError("the images differ in size or depth", where=data, fix="measure on images of one size")
    return images, (dataset, labels)


def _calibration(args: argparse.Namespace, images: Sequence[Pixels]) -> list[Pixels]:
    if args.calibration is None:
        raise UsageError("int8 needs training images for its calibration", fix="name them with --calibration")
    from ..data.dataset import evenly_spaced

    found, _ = _images(args.calibration, 1 if images[0].ndim == 2 else 3)
    return [found[i] for i in evenly_spaced(len(found), _CALIBRATION_IMAGES)]


BENCH_INFER = Verb(
    summary="Measure the speed of detectors on this machine in each runtime, with their accuracy.",
    details=(
        "A call includes everything from image arrays to boxes. All rows are measured in turns, so that their ratios\n"
        "are valid on a busy machine too; exported models take one image at a time, whatever the batch. The last\n"
        "column is the time per image relative to the first row."
    ),
    examples=[
        "bench infer released",
        "bench infer runs/neu --data data/neu/val.json --runtime eager,onnx,openvino --threads 1,2 --batch 1,8",
        "bench infer runs/n runs/s --runtime onnx --precision fp32,int8 --calibration data/neu/train.json",
    ],
    add_arguments=_add_arguments,
    run=_run,
)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "given", nargs="+", metavar="CONFIG", help="YAML files, one per system; key=value overrides apply to all"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings per system (default: %(default)s)")
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validate on train and val data together")
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        help="group images whose paths share the match, for folds and intervals: '(coil\\d+)_'",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench"),
        metavar="DIR",
        help="folder of the runs and the table (default: %(default)s)",
    )
    parser.add_argument("--against", metavar="NAME", help="system that the others are compared with (default: first)")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY",
        help="key or section of the configuration that may differ between systems; may be repeated",
    )
    parser.add_argument("--gather-only", action="store_true", help="train nothing, make the table from finished runs")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings in parallel, which share the cores (default: 1)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="for the measurement of speed (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="for the measurement of speed (default: %(default)s)"
    )


def _run_train(args: argparse.Namespace) -> int:
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}", fix="give 1 or more")
    if args.jobs < 1:
        raise UsageError(f"--jobs is {args.jobs}", fix="give 1 or more")
    plan = _plan(args)
    from ..benchmark.results import forest_plot, gather, to_markdown
    from ..benchmark.runs import train_runs
    from ..fileio import write_json, write_text

    if not args.gather_only:
        train_runs(plan, jobs=args.jobs, say=_say)
    results = gather(plan, threads=args.threads, device=args.device, say=_say)
    table = to_markdown(results)
    write_json(args.out / "bench.json", results, indent=1)
    write_text(args.out / "bench.md", table)
    write_text(args.out / "bench.svg", forest_plot(results))
    print(f"\n{table}")
    for name in ("bench.md", "bench.json", "bench.svg"):
        print(f"wrote {display_path(args.out / name)}")
    failed = [system["name"] for system in results["systems"] if system["state"] == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}; run the same command to try again")
    return 2 if failed else 0


def _plan(args: argparse.Namespace) -> Plan:
    configs, overrides = _sorted(args.given)
    if not configs:
        raise UsageError("no configuration was given", fix="name one YAML file per system")
    from ..benchmark.runs import plan_runs, read_systems

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
        "Data, schedule and augmentation must be the same for all. Runs are evaluated with the averaged weights after\n"
        "the last epoch. After Ctrl-C the same command continues: finished runs are kept, interrupted ones resumed,\n"
        "failed ones tried again. A system that fails is named in the table, the others continue, and the exit code\n"
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
    on_interrupt=lambda _: "run the same command to continue",
)


def _add_join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="BENCH.json", help="written by 'bench train'")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table to this file")


def _run_join(args: argparse.Namespace) -> int:
    benches = [(display_path(path), read_json(path, fix="give a bench.json")) for path in args.files]
    from ..benchmark.results import join
    from ..fileio import write_text

    table = join(benches)
    print(table, end="")
    if args.out is not None:
        write_text(args.out, table)
        print(f"wrote {display_path(args.out)}")
    return 0


_JOIN = Verb(
    summary="Join several benchmarks to one table, each system against their common reference.",
    details=(
        "For systems that were trained under the same conditions, but not in one benchmark. Each is taken from the\n"
        "benchmark with most seeds, with its difference from the reference of that benchmark; times are ratios to the\n"
        "reference of the same benchmark. Benchmarks with other data or training conditions are refused."
    ),
    examples=["bench join runs/first/bench.json runs/second/bench.json --out table.md"],
    add_arguments=_add_join_arguments,
    run=_run_join,
)

BENCH = VerbGroup(
    "Compare systems under the same conditions: accuracy with intervals over seeds and images, and speed.",
    {"train": _TRAIN, "join": _JOIN, "infer": BENCH_INFER},
)
