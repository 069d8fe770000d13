"""Results of a benchmark: metrics of all runs with confidence intervals, as JSON, Markdown tables and a forest plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from statistics import fmean, stdev
from typing import Any, NamedTuple

from markupsafe import Markup

from ..data.dataset import evenly_spaced, read_dataset
from ..datasets import coco
from ..engine.run_folder import RunFolder
from ..errors import DataError
from ..evaluation.bootstrap import (
    BootstrapSamples,
    MetricIntervals,
    confidence_intervals,
    paired_difference_intervals,
    resample,
)
from ..evaluation.coco_eval import average_precisions, run_coco_eval
from ..evaluation.records import CocoEvaluation, check_detections, check_truth
from ..images import read_image
from ..inference.predictor import Predictor
from ..models.checkpoint import load_checkpoint
from ..report.charts import nice_ticks, svg_line, svg_opening, svg_text
from ..report.tables import markdown_table
from ..structures import Dataset
from .runs import Fold, Plan, Run, RunState, failure_of, judge_run, scene_ids, shared_terms, state_of
from .speed import measured_on, median_latencies_ms, model_cost

SCHEMA = 1
CONFIDENCE = 0.95
_SPEED_IMAGES = 20


def gather(
    plan: Plan,
    *,
    threads: int = 2,
    device: str = "cpu",
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate all finished runs and measure their latency. Missing and failed runs are listed by system.

    Args:
        plan: the benchmark. Nothing is trained.
        threads, device: CPU threads and torch device for the latency measurement.
        resamples: number of bootstrap resamples for the intervals.
        say: receives one line of text per slow step.

    Returns:
        The content of bench.json as plain JSON values. docs/bench.md describes each key.

    Raises:
        DetectError: see ``state_of``.
    """
    names = [system.name for system in plan.systems]
    missing = [run for run in plan.runs if state_of(run) is not RunState.DONE]
    done = [name for name in names if all(run.system != name for run in missing)]
    data = {part: read_dataset(part.val, role="data.val") for part in plan.parts}
    say("evaluating all runs on the same resampled images")
    evaluated = {name: [_evaluate_runs(plan.runs_of(name, part)) for part in plan.parts] for name in done}
    groups = _groups(data, plan.group_pattern)
    samples = {name: resample(folds, resamples=resamples, groups=groups) for name, folds in evaluated.items()}
    say(f"measuring latency on {device}, detectors in turn")
    speed = _speed(plan, done, next(iter(data.values())), threads=threads, device=device) if done else {}
    rows = {name: _state([run for run in missing if run.system == name]) for name in names}
    for name in done:
        rows[name] |= _cost(plan.runs_of(name, plan.parts[0])[0], data[plan.parts[0]])
        rows[name] |= _scores(evaluated[name], samples[name]) | _training(plan, name, evaluated[name])
        rows[name] |= {"ms_per_image": speed[name]}
        if plan.against in done and name != plan.against:
            rows[name]["difference"] = _difference(samples[name], samples[plan.against])
            rows[name]["relative_latency"] = speed[name] / speed[plan.against]
    return {
        "schema": SCHEMA,
        "against": plan.against,
        "seeds": plan.seeds,
        "folds": None if plan.parts[0].fold is None else len(plan.parts),
        "group_pattern": plan.group_pattern,
        "terms": shared_terms([system.config for system in plan.systems]),
        "data": _data_description(data, scenes=sum(len(set(each)) for each in groups)),
        "confidence": CONFIDENCE,
        "resamples": resamples,
        **measured_on(device, threads),
        "systems": [{"name": name, **row} for name, row in rows.items()],
    }


def _state(missing: Sequence[Run]) -> dict[str, Any]:
    """State of a system, with one sentence per run that isn't finished."""
    reasons = [failure_of(run) for run in missing]
    sentences = [
        f"{run} is {state_of(run).value}" if reason is None else f"{run} failed: {reason}"
        for run, reason in zip(missing, reasons)
    ]
    return {"state": "failed" if any(reasons) else "unfinished" if missing else "complete", "missing": sentences}


def _groups(data: Mapping[Fold, Dataset], group_pattern: str | None) -> list[list[int]]:
    """Scene ids per part, ordered by image id as in the evaluator. Scenes are searched over all parts together."""
    all_scenes = iter(scene_ids([image for dataset in data.values() for image in dataset.images], group_pattern))
    groups = []
    for part, dataset in data.items():
        ids = [item["id"] for item in coco.load(part.val)["images"]]
        groups.append([scene for _, scene in sorted(zip(ids, islice(all_scenes, len(dataset.images))))])
    return groups


def _evaluate_runs(runs: Sequence[Run]) -> list[CocoEvaluation]:
    labels = check_truth(coco.load(runs[0].part.val))
    return [run_coco_eval(labels, check_detections(judge_run(run), labels), sizes=False) for run in runs]


def _scores(folds: Sequence[Sequence[CocoEvaluation]], samples: BootstrapSamples) -> dict[str, Any]:
    """Mean over seeds and folds, standard deviation over seeds, and intervals, overall and per class."""
    both, images = (confidence_intervals(samples, include_seeds=each, confidence=CONFIDENCE) for each in (True, False))
    scores: dict[str, Any] = {"interval_covers": both.covers}
    for key in both.overall:
        scores[key] = _score(key, None, folds, both, images)
    scores["per_class"] = {
        name: {key: _score(key, k, folds, both, images) for key in both.overall}
        for k, name in enumerate(samples.categories)
    }
    return scores


def _score(
    key: str,
    category: int | None,
    folds: Sequence[Sequence[CocoEvaluation]],
    both: MetricIntervals,
    images: MetricIntervals,
) -> dict[str, Any]:
    name = None if category is None else folds[0][0].truth.categories[category]
    interval, images_interval = (
        (each.overall if name is None else each.per_class[name])[key] for each in (both, images)
    )
    by_seed = [
        [value for run in runs if (value := average_precisions(run, category)[key]) is not None] for runs in zip(*folds)
    ]
    means = [fmean(values) for values in by_seed if values]
    return {
        "mean": interval.value,
        "sd": stdev(means) if len(means) > 1 else None,
        "low": interval.low,
        "high": interval.high,
        "images_only": [images_interval.low, images_interval.high],
    }


def _difference(a: BootstrapSamples, b: BootstrapSamples) -> dict[str, Any]:
    both, images = (
        paired_difference_intervals(a, b, include_seeds=each, confidence=CONFIDENCE) for each in (True, False)
    )
    differences: dict[str, Any] = {"interval_covers": both.covers}
    for key, interval in both.overall.items():
        images_interval = images.overall[key]
        differences[key] = {
            **asdict(interval),
            "verdict": interval.verdict(),
            "images_only": [images_interval.low, images_interval.high],
        }
    return differences


def _training(plan: Plan, name: str, folds: Sequence[Sequence[CocoEvaluation]]) -> dict[str, Any]:
    """Metrics per run, and the mean training time in minutes, without validation."""
    runs = []
    for part, evaluations in zip(plan.parts, folds):
        for run, evaluation in zip(plan.runs_of(name, part), evaluations):
            minutes = sum(line["seconds"] for line in RunFolder(run.dir).read_log()) / 60
            source = {"dir": str(run.dir), "seed": run.seed, "fold": part.fold}
            runs.append({**source, "minutes": minutes, **average_precisions(evaluation)})
    return {"training_minutes": fmean(run["minutes"] for run in runs), "runs": runs}


def _cost(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Cost for one image of the most frequent size. Anchor sizes, which are fitted per fold, don't change it."""
    size_wh = Counter((image.width, image.height) for image in dataset.images).most_common(1)[0][0]
    return asdict(model_cost(load_checkpoint(run.dir / "last.pt").load_model(), size_wh)) | {"size_wh": list(size_wh)}


def _speed(plan: Plan, names: Sequence[str], dataset: Dataset, *, threads: int, device: str) -> dict[str, float]:
    runs = {name: plan.runs_of(name, plan.parts[0])[0] for name in names}
    predictors = {name: Predictor.load(run.dir / "last.pt", device=device) for name, run in runs.items()}
    chosen = evenly_spaced(len(dataset.images), _SPEED_IMAGES)
    images = [read_image(dataset.images[i].path) for i in chosen]
    return median_latencies_ms(predictors, images, threads=threads)


def _data_description(data: dict[Fold, Dataset], *, scenes: int) -> dict[str, Any]:
    images = [image for dataset in data.values() for image in dataset.images]
    return {
        "val": [str(part.val) for part in data],
        "images": len(images),
        "scenes": scenes,
        "boxes": sum(not box.crowd for image in images for box in image.boxes),
        "categories": list(next(iter(data.values())).categories),
    }


def mean_cell(score: dict[str, Any]) -> str:
    """Mean, with the standard deviation over seeds if it is known: ``0.512 ± 0.013``."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return "-" if score["mean"] is None else f"{score['mean']:.3f}{spread}"


def interval_cell(score: dict[str, Any]) -> str:
    """Ends of the confidence interval: ``0.480 to 0.541``."""
    return "-" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


def difference_cell(score: dict[str, Any]) -> str:
    """Difference with the ends of its confidence interval: ``+0.031 (+0.008 to +0.055)``."""
    if score["value"] is None:
        return "-"
    ends = "" if score["low"] is None else f" ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"{score['value']:+.3f}{ends}"


def short_count(count: int) -> str:
    """Count with three significant digits: 1234567 -> "1.23 M"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{unit}"
    return str(count)


def to_markdown(results: dict[str, Any]) -> str:
    """Results of ``gather`` as Markdown tables of scores, differences and AP50 per class."""
    systems = results["systems"]
    complete = [row for row in systems if row["state"] == "complete"]
    lines = [_title(results), "", markdown_table(_SCORES, [_score_cells(row) for row in systems], numbers=True)]
    compared = [row for row in complete if "difference" in row]
    if compared:
        columns = [f"against {results['against']}", "AP50", "", "AP", "", "time per image"]
        lines += ["", markdown_table(columns, [_difference_cells(row) for row in compared], numbers=True)]
    categories = results["data"]["categories"]
    if complete:
        lines += [
            "",
            markdown_table(
                ["AP50 by class", *categories], [_class_cells(row, categories) for row in complete], numbers=True
            ),
        ]
    for row in systems:
        lines += [f"\n{row['name']} has no results: {'; '.join(row['missing'])}."] if row["missing"] else []
    if complete:
        lines += ["", _explanation(results, complete)]
    return "\n".join(lines) + "\n"


_SCORES = ["system", "parameters", "multiply-adds", "AP50", "95 %", "AP", "95 %", "training, minutes", "ms per image"]


def _title(results: dict[str, Any]) -> str:
    data, seeds, folds = results["data"], results["seeds"], results["folds"]
    trained = f"{seeds} seed{'s' * (seeds > 1)}" + (f" on each of {folds} folds" if folds else "")
    of = "" if data["scenes"] == data["images"] else f" of {data['scenes']:,} scenes"
    return f"Trained with {trained}, evaluated on {data['images']:,} images{of} with {data['boxes']:,} boxes."


def _score_cells(row: dict[str, Any]) -> list[str]:
    if row["state"] != "complete":
        return [row["name"], row["state"], *["-"] * (len(_SCORES) - 2)]
    return [
        row["name"],
        short_count(row["parameters"]),
        short_count(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean_cell(row[key]), interval_cell(row[key]))),
        f"{row['training_minutes']:.1f}",
        f"{row['ms_per_image']:.1f}",
    ]


def _difference_cells(row: dict[str, Any]) -> list[str]:
    cells = [row["name"]]
    for key in ("AP50", "AP"):
        each = row["difference"][key]
        cells += [difference_cell(each), each["verdict"]]
    return [*cells, f"x {row['relative_latency']:.2f}"]


def _class_cells(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    return [row["name"], *(mean_cell(row["per_class"][name]["AP50"]) for name in categories)]


def _explanation(results: dict[str, Any], complete: Sequence[dict[str, Any]]) -> str:
    if complete[0]["interval_covers"] == "images":
        covers = "They cover the choice of images only: one seed gives no variation between seeds."
    else:
        covers = "They cover the choice of images and of seeds, as if training and evaluation were repeated."
    speed, percent = results["speed"], f"{100 * results['confidence']:g} %"
    return (
        "Scores are means over seeds ± the standard deviation over seeds, for the averaged weights after the "
        f"last epoch. Intervals have {percent} confidence ({results['resamples']:,} bootstrap resamples). {covers} "
        "Differences are paired: both systems on the same resampled images. Times are medians from image array to "
        f"boxes, one image at a time, on {speed['device']} with {speed['threads']} "
        f"thread{'s' * (speed['threads'] > 1)}, systems in turn."
    )


_COLUMNS = [
    "system",
    "seeds",
    "parameters",
    "multiply-adds",
    "AP50",
    "95 %",
    "AP",
    "95 %",
    "AP50 against {}",
    "training time",
    "time per image",
]


class _SystemRow(NamedTuple):
    """One system's results in a benchmark, and those of the benchmark's reference if it is complete."""

    benchmark: dict[str, Any]
    row: dict[str, Any]
    reference: dict[str, Any] | None

    def ratio(self, key: str) -> str:
        return "-" if self.reference is None else f"x {self.row[key] / self.reference[key]:.2f}"


def join(benchmarks: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Markdown tables of scores and of AP50 per class over several benchmarks, each system once.

    Systems keep the order of the benchmarks. If several benchmarks contain a system (also the reference), the one with
    the most seeds is used. Times are ratios to the reference of the same benchmark, because minutes and milliseconds
    of two benchmarks aren't comparable. If that benchmark has no reference results, the ratios come from another
    benchmark that has them.

    Args:
        benchmarks: (name for messages, content of bench.json) per benchmark.

    Raises:
        DataError: a file isn't a benchmark, or the benchmarks differ in data, reference or shared settings. Shared
            settings are compared only where both files contain them (older files don't).
    """
    for name, benchmark in benchmarks:
        if not _is_benchmark(benchmark):
            fix = "give the bench.json of detect bench train"
            raise DataError("the file contains no benchmark results", where=name, fix=fix)
    (first_name, first), *others = benchmarks
    for name, benchmark in others:
        keys = _differing_terms(benchmark, first)
        if keys:
            message = f"it differs from {first_name} in {', '.join(keys)}, so their scores aren't comparable"
            raise DataError(message, where=name, fix="join benchmarks with the same reference, data and settings")
    by_name: dict[str, list[_SystemRow]] = {}
    for each in _complete(benchmarks):
        by_name.setdefault(each.row["name"], []).append(each)
    systems = [sorted(rows, key=lambda row: -row.benchmark["seeds"]) for rows in by_name.values()]
    categories = first["data"]["categories"]
    columns = [each.format(first["against"]) for each in _COLUMNS]
    lines = [markdown_table(columns, [_joined_score_cells(rows) for rows in systems], numbers=True), ""]
    classes = [[rows[0].row["name"], *_joined_class_cells(rows[0].row, categories)] for rows in systems]
    lines.append(markdown_table(["AP50 by class", *categories], classes, numbers=True))
    return "\n".join(lines) + "\n"


def _is_benchmark(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"against", "seeds", "folds", "data", "systems"} <= value.keys()
        and isinstance(value["data"], dict)
        and {"categories", "images", "boxes"} <= value["data"].keys()
        and all(isinstance(row, dict) and {"name", "state"} <= row.keys() for row in value["systems"])
    )


def _differing_terms(benchmark: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """Keys in which two benchmarks differ."""
    keys = [key for key in ("against", "folds", "group_pattern") if benchmark.get(key) != first.get(key)]
    keys += [key for key in ("categories", "images", "boxes") if benchmark["data"][key] != first["data"][key]]
    mine, theirs = (each.get("terms", {}) for each in (benchmark, first))
    return keys + [key for key in mine if key in theirs and mine[key] != theirs[key]]


def _complete(benchmarks: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[_SystemRow]:
    for _, benchmark in benchmarks:
        finished = [row for row in benchmark["systems"] if row["state"] == "complete"]
        reference = next((row for row in finished if row["name"] == benchmark["against"]), None)
        yield from (_SystemRow(benchmark, row, reference) for row in finished)


def _joined_score_cells(rows: Sequence[_SystemRow]) -> list[str]:
    """Cells of one system, from its rows in order of falling number of seeds."""
    benchmark, row, _ = rows[0]
    timed = next((each for each in rows if each.reference is not None), None)
    return [
        row["name"],
        str(benchmark["seeds"]),
        short_count(row["parameters"]),
        short_count(row["multiply_adds"]),
        *(text for key in ("AP50", "AP") for text in (mean_cell(row[key]), interval_cell(row[key]))),
        difference_cell(row["difference"]["AP50"]) if "difference" in row else "-",
        *("-" if timed is None else timed.ratio(key) for key in ("training_minutes", "ms_per_image")),
    ]


def _joined_class_cells(row: dict[str, Any], categories: Sequence[str]) -> list[str]:
    scores = [row["per_class"][name]["AP50"] for name in categories]
    return [mean_cell(each) if each["low"] is None else f"{mean_cell(each)} ({interval_cell(each)})" for each in scores]


_ROW, _TOP, _BOTTOM = 26.0, 46.0, 34.0
_NAMES, _PANEL, _GAP, _COLUMN = 170.0, 250.0, 34.0, 70.0
_TICKS = 5


_STYLE = (
    ".zero{stroke:#57606a}.span{stroke:#0969da;stroke-width:2}.mean{fill:#0969da}"
    ".seed{fill:none;stroke:#57606a}.clear{stroke:#bc4c00}"
)
_DARK = ".zero,.seed{stroke:#9198a1}.span{stroke:#4493f8}.mean{fill:#4493f8}.clear{stroke:#f0883e}"


class Axis(NamedTuple):
    """Horizontal value axis of a panel: left edge in SVG units and range of values."""

    left: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """X coordinate of a value, in SVG units."""
        return self.left + (value - self.low) / (self.high - self.low) * _PANEL


def forest_plot(results: dict[str, Any], key: str = "AP50") -> str:
    """Forest plot of the results of ``gather`` as SVG text. Systems without results get their name and state only.

    Args:
        results: content of bench.json.
        key: "AP50", "AP75" or "AP".
    """
    rows = results["systems"]
    height = _TOP + _ROW * len(rows) + _BOTTOM
    second = _NAMES + _PANEL + _GAP
    width = second + _PANEL + _COLUMN + 10
    scores = Axis(_NAMES, *_range([v for row in rows for v in _extent(row.get(key), "mean")]))
    gains = Axis(second, *_range([0.0, *(v for row in rows for v in _extent(_metric_difference(row, key), "value"))]))
    parts = [
        svg_opening(width, height, f"{key} of {len(rows)} systems with intervals", style=_STYLE, dark=_DARK),
        svg_text(_NAMES, 18, f"{key}, with {100 * results['confidence']:g} % interval and seeds", "head"),
        svg_text(second, 18, f"difference from {results['against']}", "head"),
        svg_text(width - 10, 18, "time", "head", "end"),
        *_grid(scores, height),
        *_grid(gains, height),
        svg_line(gains.x(0), gains.x(0), _TOP - 8, height - _BOTTOM, "zero"),
    ]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(svg_text(_NAMES - 14, y + 4, row["name"], "", "end"))
        if key not in row:
            parts.append(svg_text(_NAMES, y + 4, row["state"], "small"))
            continue
        parts += _estimate(scores, y, row[key], "mean", clear=False)
        for score in [run[key] for run in row["runs"] if run[key] is not None]:  # None for a fold without boxes
            ring = '<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            parts.append(Markup(ring).format(scores.x(score), y))
        difference = _metric_difference(row, key)
        if difference is not None:
            parts += _estimate(gains, y, difference, "value", clear=difference["verdict"] != "cannot tell")
            parts.append(svg_text(width - 10, y + 4, f"x {row['relative_latency']:.2f}", "", "end"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _metric_difference(row: dict[str, Any], key: str) -> dict[str, Any] | None:
    difference: dict[str, Any] | None = row.get("difference", {}).get(key)
    return difference


def _extent(score: dict[str, Any] | None, middle: str) -> list[float]:
    if score is None:
        return []
    return [score[end] for end in ("low", middle, "high") if score[end] is not None]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Range of the values with a margin of 6 % on both sides."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _grid(axis: Axis, height: float) -> list[Markup]:
    parts = []
    for tick in nice_ticks(axis.low, axis.high, _TICKS):
        parts.append(svg_line(axis.x(tick), axis.x(tick), _TOP - 8, height - _BOTTOM, "grid"))
        parts.append(svg_text(axis.x(tick), height - _BOTTOM + 16, f"{tick:g}", "small", "middle"))
    return parts


def _estimate(axis: Axis, y: float, score: dict[str, Any], middle: str, *, clear: bool) -> list[Markup]:
    parts = []
    if score["low"] is not None:
        parts.append(svg_line(axis.x(score["low"]), axis.x(score["high"]), y, y, "span clear" if clear else "span"))
    if score[middle] is not None:
        parts.append(Markup('<circle class="mean" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(axis.x(score[middle]), y))
    return parts
