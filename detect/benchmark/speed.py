"""Cost of a detector: parameters, multiply-adds, and latency and accuracy per runtime on this machine."""

from __future__ import annotations

import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from markupsafe import Markup
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from .. import __version__
from ..datasets import coco
from ..errors import ConfigError
from ..evaluation.summary import judge
from ..export.export import write_model
from ..export.runtimes import Contract, load_exported, write_contract
from ..images import Pixels
from ..inference.detection import coco_results, detect_images
from ..inference.predictor import Predictor
from ..models.checkpoint import Checkpoint
from ..report.charts import nice_ticks, svg_line, svg_opening, svg_text
from ..report.tables import markdown_table
from ..structures import Dataset, Detections

Detect = Callable[[Sequence[Pixels]], Sequence[Detections]]  # a batch of arrays -> detections of each

RUNTIMES = ("eager", "compile", "onnx", "openvino")
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Variant:
    """A detector in one combination of runtime, precision and threads.

    Attributes:
        system: name of the detector.
        runtime: one of ``RUNTIMES``.
        precision: one of ``PRECISIONS``; int8 only for exported models.
        threads: number of CPU threads.
        detect: a batch of images of one size -> detections of each.
    """

    system: str
    runtime: str
    precision: str
    threads: int
    detect: Detect


@contextmanager
def variants_of(
    name: str,
    checkpoint: Checkpoint,
    *,
    runtimes: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    example: Pixels,
    calibration: Sequence[Pixels],
) -> Iterator[list[Variant]]:
    """Build the variants of a detector. Exported files are deleted on exit.

    Args:
        name: name of the system.
        checkpoint: the detector.
        runtimes, precisions, threads: every combination is built, except int8 outside onnx and openvino.
        example: an image as the network takes it, gray or RGB; all other images have the same form.
        calibration: images for the int8 ranges.

    Raises:
        ConfigError: a detector that can't be exported or compiled here, or a runtime that isn't installed.
    """
    detector = checkpoint.detector
    exported = [runtime for runtime in runtimes if runtime in ("onnx", "openvino")]
    variants: list[Variant] = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            for precision in precisions:
                if precision == "int8" and runtime not in exported:
                    continue
                if runtime in exported:
                    file = _exported(checkpoint, runtime, precision, example, calibration, Path(folder))
                    for count in threads:
                        variants.append(
                            Variant(name, runtime, precision, count, _one_by_one(load_exported(file, threads=count)))
                        )
                    continue
                model = checkpoint.load_model()
                if runtime == "compile":
                    model.backbone = torch.compile(model.backbone)

                def batch(images: Sequence[Pixels], model: torch.nn.Module = model) -> list[Detections]:
                    return detect_images(model, images, detector.categories, max_value=detector.max_value)

                _try(batch, example, runtime)
                variants += [Variant(name, runtime, precision, count, batch) for count in threads]
        yield variants


def _one_by_one(runner: Callable[[Pixels], Detections]) -> Detect:
    return lambda images: [runner(image) for image in images]


def _exported(
    checkpoint: Checkpoint,
    runtime: str,
    precision: str,
    example: Pixels,
    calibration: Sequence[Pixels],
    root: Path,
) -> Path:
    contract = Contract.of(checkpoint.detector, runtime=runtime, precision=precision, like=example)
    folder = root / f"{runtime}-{precision}"
    folder.mkdir()
    write_model(checkpoint, contract, folder, calibration if precision == "int8" else [])
    write_contract(folder, contract, {})
    return folder


def _try(batch: Detect, example: Pixels, runtime: str) -> None:
    try:
        batch([example])
    except RuntimeError as error:
        if runtime != "compile":
            raise
        message = f"torch.compile doesn't work here ({' '.join(str(error).split())[:120]})"
        raise ConfigError(message, where="--runtime", fix="install a C++ compiler, or leave compile out") from None


_WARM_UP = 3  # untimed calls: the first ones choose kernels and fill caches
_BLOCK = 10  # timed calls in a row before the next variant's turn


def measure(
    variants: Sequence[Variant],
    images: Sequence[Pixels],
    *,
    batches: Sequence[int],
    calls: int,
    truth: tuple[Dataset, dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Measure latency and accuracy: one row per variant and batch size, in the given order.

    Variants run in turn, in blocks of ten calls, so that other load on the machine affects all equally. Only ratios
    within one measurement are comparable.

    Args:
        variants: variants of the detectors.
        images: arrays of one size, as the networks take them; with ``truth``, the images of its data set in order.
        batches: numbers of images per call.
        calls: timed calls per row, rounded up to whole blocks.
        truth: data set and its COCO labels for the evaluation; None: no accuracy.

    Returns:
        Rows with ``system``, ``runtime``, ``precision``, ``threads``, ``batch``, ``calls``, ``p50_ms`` and ``p99_ms``
        per call, ``images_per_s`` from the median, and ``AP``, ``AP50`` (None without truth).
    """
    jobs = [(variant, batch) for variant in variants for batch in batches]
    times: list[list[float]] = [[] for _ in jobs]
    for turn in range(-(-calls // _BLOCK)):
        for number in in_turn(range(len(jobs)), turn):
            variant, batch = jobs[number]
            with limited_to(variant.threads):
                times[number] += _block(variant, batch, images, turn)
    scores = {id(variant): _scores(variant, images, truth) for variant in variants}
    return [
        {
            "system": variant.system,
            "runtime": variant.runtime,
            "precision": variant.precision,
            "threads": variant.threads,
            "batch": batch,
            "calls": len(each),
            "p50_ms": round(float(np.median(each)), 4),
            "p99_ms": round(float(np.percentile(each, 99)), 4),
            "images_per_s": round(1000 * batch / float(np.median(each)), 2),
            **scores[id(variant)],
        }
        for (variant, batch), each in zip(jobs, times)
    ]


def _block(variant: Variant, batch: int, images: Sequence[Pixels], turn: int) -> list[float]:
    """Milliseconds per call of one block."""
    times = []
    for call in range(-_WARM_UP, _BLOCK):
        first = (turn * _BLOCK + call) * batch
        inputs = [images[(first + i) % len(images)] for i in range(batch)]
        started = time.perf_counter()
        variant.detect(inputs)
        if call >= 0:
            times.append(1000 * (time.perf_counter() - started))
    return times


def _scores(
    variant: Variant, images: Sequence[Pixels], truth: tuple[Dataset, dict[str, Any]] | None
) -> dict[str, float | None]:
    if truth is None:
        return {"AP": None, "AP50": None}
    dataset, labels = truth
    with limited_to(variant.threads):
        detections = [variant.detect([image])[0] for image in images]
    results = coco.in_ids_of(labels, coco_results(detections, dataset.category_ids()), dataset)
    summary = judge(labels, results).summary
    return {key: None if summary[key] is None else round(summary[key], 4) for key in ("AP", "AP50")}


_COLUMNS = ["system", "runtime", "precision", "threads", "batch", "p50 ms", "p99 ms", "images/s", "AP50", "AP", "time"]


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table; ``time`` is the time per image relative to the first row."""
    first = rows[0]["images_per_s"]
    cells = [
        [
            row["system"],
            row["runtime"],
            row["precision"],
            str(row["threads"]),
            str(row["batch"]),
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['images_per_s']:.1f}",
            *("-" if row[key] is None else f"{row[key]:.3f}" for key in ("AP50", "AP")),
            f"x {first / row['images_per_s']:.2f}",
        ]
        for row in rows
    ]
    return markdown_table(_COLUMNS, cells, numbers=True) + "\n"


_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 60.0, 310.0, 40.0, 50.0
_STYLE = (
    ".front{fill:none;stroke:#0969da;stroke-width:2}.best{fill:#0969da}"
    ".beaten{fill:none;stroke:#57606a;stroke-width:1.5}"
)
_DARK = ".front{stroke:#4493f8}.best{fill:#4493f8}.beaten{stroke:#9198a1}"


def pareto_front(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of the Pareto-optimal rows, fastest first.

    No other row is at least as fast and as accurate, and better in one of the two.
    """
    front: list[int] = []
    for number in sorted(range(len(rows)), key=lambda i: (_ms(rows[i]), -rows[i]["AP50"])):
        if not front or rows[number]["AP50"] > rows[front[-1]]["AP50"]:
            front.append(number)
    return front


def pareto_plot(rows: Sequence[dict[str, Any]]) -> str:
    """SVG plot of AP50 against milliseconds per image (logarithmic axis); rows without AP50 are left out."""
    rows = [row for row in rows if row["AP50"] is not None]
    height = max(360.0, _TOP + 15 * len(rows) + _BOTTOM)
    times, scores = [math.log10(_ms(row)) for row in rows], [row["AP50"] for row in rows]
    low, high = min(times) - 0.08, max(times) + 0.08
    bottom, top = min(scores) - 0.02, max(scores) + 0.02

    def place(time: float, score: float) -> tuple[float, float]:
        x = _LEFT + (time - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        return x, height - _BOTTOM - (score - bottom) / (top - bottom) * (height - _TOP - _BOTTOM)

    front = pareto_front(rows)
    parts = [
        svg_opening(
            _WIDTH, height, f"AP50 against milliseconds per image of {len(rows)} variants", style=_STYLE, dark=_DARK
        ),
        svg_text(_LEFT, 20, "AP50 against milliseconds per image; filled: Pareto-optimal", "head"),
    ]
    for tick in nice_ticks(bottom, top, 5):
        _, y = place(low, tick)
        parts += [
            svg_line(_LEFT, _WIDTH - _RIGHT, y, y, "grid"),
            svg_text(_LEFT - 8, y + 4, f"{tick:g}", "small", "end"),
        ]
    for tick in nice_ticks(10**low, 10**high, 6):
        if tick > 0 and low <= math.log10(tick) <= high:
            x, _ = place(math.log10(tick), bottom)
            parts += [
                svg_line(x, x, _TOP, height - _BOTTOM, "grid"),
                svg_text(x, height - _BOTTOM + 18, f"{tick:g}", "small", "middle"),
            ]
    path = " ".join("{:.1f},{:.1f}".format(*place(times[i], scores[i])) for i in front)
    parts.append(Markup('<polyline class="front" points="{}"/>').format(path))
    labels: list[tuple[float, float]] = []
    for rank, number in enumerate(sorted(range(len(rows)), key=times.__getitem__), start=1):
        x, y = place(times[number], scores[number])
        style = "best" if number in front else "beaten"
        parts.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(style, x, y))
        label_y = y - 9
        while any(abs(label_y - other_y) < 12 and abs(x - other_x) < 14 for other_x, other_y in labels):
            label_y -= 12
        labels.append((x, label_y))
        parts.append(svg_text(x, label_y, str(rank), "small", "middle"))
        parts.append(svg_text(_WIDTH - _RIGHT + 16, _TOP + 15 * rank, f"{rank}  {_name(rows[number])}", "small"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _ms(row: dict[str, Any]) -> float:
    return 1000.0 / float(row["images_per_s"])


def _name(row: dict[str, Any]) -> str:
    return f"{row['system']} {row['runtime']} {row['precision']}, {row['threads']} thr., batch {row['batch']}"


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Number of parameters and multiply-adds of a detector.

    Attributes:
        parameters: number of parameters.
        multiply_adds: multiply-adds of all convolutions and matrix products for one image. Other arithmetic, such as
            normalisation, RoIAlign and non-maximum suppression, isn't counted.
    """

    parameters: int
    multiply_adds: int


@torch.no_grad()
def model_cost(detector: FasterRCNN, size_wh: tuple[int, int]) -> ModelCost:
    """Count parameters and multiply-adds of a detector on one image.

    The box head is counted with the maximum number of proposals, so that the result depends on the network and the
    image size only, not on the image content.

    Args:
        detector: in training or evaluation mode; the mode is restored.
        size_wh: width and height of the image in pixels, before the detector resizes or pads it.
    """
    parameters = list(detector.parameters())
    width, height = size_wh
    training = detector.training
    detector.eval()
    blank = torch.zeros(len(detector.transform.image_mean), height, width, device=parameters[0].device)
    heads, pool = detector.roi_heads, detector.roi_heads.box_roi_pool
    counter = FlopCounterMode(display=False)
    with counter:
        batch, _ = detector.transform([blank])
        levels = list(detector.backbone(batch.tensors).values())
        detector.rpn.head(levels)
        pooled = blank.new_zeros(detector.rpn.post_nms_top_n(), levels[0].shape[1], *pool.output_size)
        for stage in heads.stages():
            stage(pooled)
    detector.train(training)
    multiply_adds = counter.get_total_flops() // 2  # a multiplication and an addition count as two operations
    return ModelCost(sum(p.numel() for p in parameters), multiply_adds)


Named = TypeVar("Named")


def median_latencies_ms(
    predictors: Mapping[str, Predictor], images: Sequence[Pixels], *, threads: int, rounds: int = 3
) -> dict[str, float]:
    """Median milliseconds per detector from an image array to its boxes, one image at a time.

    Only ratios within one call are comparable, not times of different calls or machines.

    Args:
        predictors: by name.
        images: arrays as ``Predictor`` takes them; every detector gets each image in turn.
        threads: number of CPU threads of PyTorch.
        rounds: number of passes over the images.
    """
    names = list(predictors)
    times: dict[str, list[float]] = {name: [] for name in names}
    with limited_to(threads):
        for name in names:
            for i in range(_WARM_UP):
                predictors[name](images[i % len(images)])
        for turn in range(rounds * len(images)):
            for name in in_turn(names, turn):
                started = time.perf_counter()
                predictors[name](images[turn % len(images)])
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: median(each) for name, each in times.items()}


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Set the number of CPU threads of PyTorch, and restore the previous number on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turn(names: Sequence[Named], turn: int) -> list[Named]:
    """The names rotated by ``turn``, so that the starting point changes from turn to turn."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def measured_on(device: str, threads: int) -> dict[str, Any]:
    """Device, threads, machine and versions of a latency measurement, for bench.json."""
    return {
        "speed": {"device": device, "threads": threads, "machine": platform.processor() or platform.machine()},
        "versions": {"detect": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
