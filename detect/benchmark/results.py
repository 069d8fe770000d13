"""Results of a benchmark: figures of all runs with intervals, as JSON, Markdown tables and a forest plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from statistics import fmean, stdev
from typing import Any, NamedTuple

from markupsafe import Markup

from ..data.dataset import read_dataset
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
from .runs import BenchFold, Plan, Run, RunState, failure_of, judge_run, scene_ids, shared_terms, state_of
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
    """Judge all finished runs together and measure their speed; what is missing or has failed is told in its place.

    Args:
        plan: the bench; nothing is trained.
        threads, device: that the speed is measured with.
        resamples: draws behind the intervals.
        say: gets a line for each step that takes a while.

    Returns:
        Plain JSON values, as bench.json has them; docs/bench.md tells each.

    Raises:
        DetectError: as ``state_of``.
    """
    names = [system.name for system in plan.systems]
    lacking = [run for run in plan.runs if state_of(run) is not RunState.DONE]
    done = [name for name in names if all(run.system != name for run in lacking)]
    data = {part: read_dataset(part.val, role="data.val") for part in plan.parts}
    say("judging all runs on the same resampled images")
    judged = {name: [_evaluated(plan.runs_of(name, part)) for part in plan.parts] for name in done}
    groups = _groups(data, plan.group_pattern)
    drawn = {name: resample(folds, resamples=resamples, groups=groups) for name, folds in judged.items()}
    say(f"measuring speed on {device}, in turns")
    speed = _speed(plan, done, next(iter(data.values())), threads=threads, device=device) if done else {}
    rows = {name: _state([run for run in lacking if run.system == name]) for name in names}
    for name in done:
        rows[name] |= _cost(plan.runs_of(name, plan.parts[0])[0], data[plan.parts[0]])
        rows[name] |= _scores(judged[name], drawn[name]) | _training(plan, name, judged[name])
        rows[name] |= {"ms_per_image": speed[name]}
        if plan.against in done and name != plan.against:
            rows[name]["difference"] = _difference(drawn[name], drawn[plan.against])
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


def _state(lacking: Sequence[Run]) -> dict[str, Any]:
    """Of a system, by those of its runs that aren't finished; a sentence for each of them."""
    reasons = [failure_of(run) for run in lacking]
    told = [
        f"{run} is {state_of(run).value}" if reason is None else f"{run} failed: {reason}"
        for run, reason in zip(lacking, reasons)
    ]
    return {"state": "failed" if any(reasons) else "unfinished" if lacking else "complete", "missing": told}


def _groups(data: Mapping[BenchFold, Dataset], group_pattern: str | None) -> list[list[int]]:
    """Scenes of each part's images in the judge's order, that of their ids; found among the images of all parts."""
    of_all = iter(scene_ids([image for dataset in data.values() for image in dataset.images], group_pattern))
    groups = []
    for part, dataset in data.items():
        ids = [item["id"] for item in coco.load(part.val)["images"]]
        groups.append([scene for _, scene in sorted(zip(ids, islice(of_all, len(dataset.images))))])
    return groups


def _evaluated(runs: Sequence[Run]) -> list[CocoEvaluation]:
    labels = check_truth(coco.load(runs[0].part.val))
    return [run_coco_eval(labels, check_detections(judge_run(run), labels), sizes=False) for run in runs]


def _scores(folds: Sequence[Sequence[CocoEvaluation]], drawn: BootstrapSamples) -> dict[str, Any]:
    """Mean over seeds and folds, spread over seeds, and intervals; per class likewise."""
    both, images = (confidence_intervals(drawn, include_seeds=each, confidence=CONFIDENCE) for each in (True, False))
    scores: dict[str, Any] = {"interval_covers": both.covers}
    for key in both.overall:
        scores[key] = _score(key, None, folds, both, images)
    scores["per_class"] = {
        name: {key: _score(key, k, folds, both, images) for key in both.overall}
        for k, name in enumerate(drawn.categories)
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
    interval, of_images = ((each.overall if name is None else each.per_class[name])[key] for each in (both, images))
    by_seed = [
        [value for run in runs if (value := average_precisions(run, category)[key]) is not None] for runs in zip(*folds)
    ]
    means = [fmean(values) for values in by_seed if values]
    return {
        "mean": interval.value,
        "sd": stdev(means) if len(means) > 1 else None,
        "low": interval.low,
        "high": interval.high,
        "images_only": [of_images.low, of_images.high],
    }


def _difference(a: BootstrapSamples, b: BootstrapSamples) -> dict[str, Any]:
    both, images = (
        paired_difference_intervals(a, b, include_seeds=each, confidence=CONFIDENCE) for each in (True, False)
    )
    told: dict[str, Any] = {"interval_covers": both.covers}
    for key, interval in both.overall.items():
        of_images = images.overall[key]
        told[key] = {
            **asdict(interval),
            "verdict": interval.verdict(),
            "images_only": [of_images.low, of_images.high],
        }
    return told


def _training(plan: Plan, name: str, judged: Sequence[Sequence[CocoEvaluation]]) -> dict[str, Any]:
    """Each run with its figures, and the mean time of their trainings, validations left out."""
    runs = []
    for part, evaluated in zip(plan.parts, judged):
        for run, each in zip(plan.runs_of(name, part), evaluated):
            minutes = sum(line["seconds"] for line in RunFolder(run.dir).read_log()) / 60
            place = {"dir": str(run.dir), "seed": run.seed, "fold": part.fold}
            runs.append({**place, "minutes": minutes, **average_precisions(each)})
    return {"training_minutes": fmean(run["minutes"] for run in runs), "runs": runs}


def _cost(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Of one image of the size that most have; the sizes of anchors, fitted to a fold, don't change it."""
    size_wh = Counter((image.width, image.height) for image in dataset.images).most_common(1)[0][0]
    return asdict(model_cost(load_checkpoint(run.dir / "last.pt").load_model(), size_wh)) | {"size_wh": list(size_wh)}


def _speed(plan: Plan, names: Sequence[str], dataset: Dataset, *, threads: int, device: str) -> dict[str, float]:
    runs = {name: plan.runs_of(name, plan.parts[0])[0] for name in names}
    predictors = {name: Predictor.load(run.dir / "last.pt", device=device) for name, run in runs.items()}
    step = max(1, len(dataset.images) // _SPEED_IMAGES)
    images = [read_image(image.path) for image in dataset.images[::step][:_SPEED_IMAGES]]
    return median_latencies_ms(predictors, images, threads=threads)


def _data_description(data: dict[BenchFold, Dataset], *, scenes: int) -> dict[str, Any]:
    images = [image for dataset in data.values() for image in dataset.images]
    return {
        "val": [str(part.val) for part in data],
        "images": len(images),
        "scenes": scenes,
        "boxes": sum(not box.crowd for image in images for box in image.boxes),
        "categories": list(next(iter(data.values())).categories),
    }


def mean_cell(score: dict[str, Any]) -> str:
    """A mean with the standard deviation from seed to seed, if there is one: ``0.512 ± 0.013``."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return "-" if score["mean"] is None else f"{score['mean']:.3f}{spread}"


def interval_cell(score: dict[str, Any]) -> str:
    """The ends of its interval: ``0.480 to 0.541``."""
    return "-" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


def difference_cell(score: dict[str, Any]) -> str:
    """A difference with the ends of its interval: ``+0.031 (+0.008 to +0.055)``."""
    if score["value"] is None:
        return "-"
    ends = "" if score["low"] is None else f" ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"{score['value']:+.3f}{ends}"


def short_count(count: int) -> str:
    """1234567 -> "1.23 M"; three figures."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{unit}"
    return str(count)


def to_markdown(results: dict[str, Any]) -> str:
    """What ``gather`` found, as tables of scores, of differences and of classes."""
    systems = results["systems"]
    complete = [row for row in systems if row["state"] == "complete"]
    lines = [_title(results), "", markdown_table(_SCORES, [_score_cells(row) for row in systems], numbers=True)]
    compared = [row for row in complete if "difference" in row]
    if compared:
        columns = [f"against {results['against']}", "AP50", "", "AP", "", "time an image"]
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
        lines += [f"\n{row['name']} has no figures: {'; '.join(row['missing'])}."] if row["missing"] else []
    if complete:
        lines += ["", _explanation(results, complete)]
    return "\n".join(lines) + "\n"


_SCORES = ["system", "parameters", "multiply-adds", "AP50", "95 %", "AP", "95 %", "training, minutes", "ms an image"]


def _title(results: dict[str, Any]) -> str:
    data, seeds, folds = results["data"], results["seeds"], results["folds"]
    trained = f"{seeds} seed{'s' * (seeds > 1)}" + (f" on each of {folds} folds" if folds else "")
    of = "" if data["scenes"] == data["images"] else f" of {data['scenes']:,} scenes"
    return f"Trained with {trained}, judged on {data['images']:,} images{of} with {data['boxes']:,} boxes."


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
        covers = "They cover the choice of images; with one seed nothing is known of other seeds."
    else:
        covers = "They cover the choice of images and of seeds: what would change if all were trained and judged anew."
    speed, percent = results["speed"], f"{100 * results['confidence']:g} %"
    return (
        "Scores are means over seeds ± the standard deviation from seed to seed, of the averaged weights after the "
        f"last epoch. Intervals hold {percent}, by {results['resamples']:,} bootstrap resamples. {covers} Differences "
        "are paired: both systems on the same resampled images. Times are medians from array to boxes, one image at "
        f"a time, on {speed['device']} with {speed['threads']} thread{'s' * (speed['threads'] > 1)}, all in turns."
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
    "time an image",
]


class _SystemRow(NamedTuple):
    """A system's figures in a bench, with those of the bench's reference, if that is complete."""

    bench: dict[str, Any]
    row: dict[str, Any]
    reference: dict[str, Any] | None

    def ratio(self, key: str) -> str:
        return "-" if self.reference is None else f"x {self.row[key] / self.reference[key]:.2f}"


def join(benches: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Tables of scores and of classes as Markdown, each system once, those of the first bench first.

    A system that several benches hold, the reference among them, is told by the one with most seeds. Times are ratios
    to the reference of the same bench, as minutes and milliseconds of two benches don't compare; where that lacks the
    reference, they are those of another bench that has it.

    Args:
        benches: each with a name for messages, and as bench.json has it.

    Raises:
        DataError: something else than a bench, or benches on other data, against another system, or trained on other
            terms; those of benches made before terms were written down aren't looked at.
    """
    for name, bench in benches:
        if not _is_bench(bench):
            fix = "give the bench.json of detect bench train"
            raise DataError("the file doesn't hold the figures of a bench", where=name, fix=fix)
    (first_name, first), *others = benches
    for name, bench in others:
        other = _other_terms(bench, first)
        if other:
            found = f"it differs from {first_name} in {', '.join(other)}, so that their scores don't compare"
            raise DataError(found, where=name, fix="join benches of one reference, on the same data and terms")
    told: dict[str, list[_SystemRow]] = {}
    for each in _complete(benches):
        told.setdefault(each.row["name"], []).append(each)
    rows = [sorted(each, key=lambda one: -one.bench["seeds"]) for each in told.values()]
    categories = first["data"]["categories"]
    columns = [each.format(first["against"]) for each in _COLUMNS]
    lines = [markdown_table(columns, [_joined_score_cells(each) for each in rows], numbers=True), ""]
    classes = [[most.row["name"], *_joined_class_cells(most.row, categories)] for most, *_ in rows]
    lines.append(markdown_table(["AP50 by class", *categories], classes, numbers=True))
    return "\n".join(lines) + "\n"


def _is_bench(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"against", "seeds", "folds", "data", "systems"} <= value.keys()
        and isinstance(value["data"], dict)
        and {"categories", "images", "boxes"} <= value["data"].keys()
        and all(isinstance(row, dict) and {"name", "state"} <= row.keys() for row in value["systems"])
    )


def _other_terms(bench: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """What two benches don't have in common."""
    other = [key for key in ("against", "folds", "group_pattern") if bench.get(key) != first.get(key)]
    other += [key for key in ("categories", "images", "boxes") if bench["data"][key] != first["data"][key]]
    mine, theirs = (each.get("terms", {}) for each in (bench, first))
    return other + [key for key in mine if key in theirs and mine[key] != theirs[key]]


def _complete(benches: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[_SystemRow]:
    for _, bench in benches:
        finished = [row for row in bench["systems"] if row["state"] == "complete"]
        reference = next((row for row in finished if row["name"] == bench["against"]), None)
        yield from (_SystemRow(bench, row, reference) for row in finished)


def _joined_score_cells(told: Sequence[_SystemRow]) -> list[str]:
    bench, row, _ = told[0]
    timed = next((each for each in told if each.reference is not None), None)
    return [
        row["name"],
        str(bench["seeds"]),
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
    """Where values lie on a panel."""

    left: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Of a value, in SVG units."""
        return self.left + (value - self.low) / (self.high - self.low) * _PANEL


def forest_plot(results: dict[str, Any], key: str = "AP50") -> str:
    """SVG text of what ``gather`` found; systems without figures are named and left blank.

    Args:
        results: as bench.json has them.
        key: "AP50", "AP75" or "AP".
    """
    rows = results["systems"]
    height = _TOP + _ROW * len(rows) + _BOTTOM
    second = _NAMES + _PANEL + _GAP
    width = second + _PANEL + _COLUMN + 10
    scores = Axis(_NAMES, *_range([v for row in rows for v in _extent(row.get(key), "mean")]))
    gains = Axis(second, *_range([0.0, *(v for row in rows for v in _extent(_drawn_difference(row, key), "value"))]))
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
        for score in [run[key] for run in row["runs"] if run[key] is not None]:  # a fold may hold no box
            ring = '<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="3"/>'
            parts.append(Markup(ring).format(scores.x(score), y))
        difference = _drawn_difference(row, key)
        if difference is not None:
            parts += _estimate(gains, y, difference, "value", clear=difference["verdict"] != "cannot tell")
            parts.append(svg_text(width - 10, y + 4, f"x {row['relative_latency']:.2f}", "", "end"))
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _drawn_difference(row: dict[str, Any], key: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = row.get("difference", {}).get(key)
    return found


def _extent(score: dict[str, Any] | None, middle: str) -> list[float]:
    if score is None:
        return []
    return [score[end] for end in ("low", middle, "high") if score[end] is not None]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values take."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = 0.06 * (high - low) or 0.05
    return low - spare, high + spare


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
