"""Evaluate trained systems on moving strips: degraded frames, speed and frame prediction, compared with baselines.

    python benchmarks/judge_strips.py runs/strips_control runs/strips_still runs/strips --data data/strips/val.json
    python benchmarks/judge_strips.py runs/strips_control runs/strips --data data/strips/val.json --motion read

Each system processes the frames of each strip in temporal order. The first system is the reference for the others. A
folder of 'detect bench train' with seed0, seed1, ... in it is one system; its scores are means over seeds. Writes
strips.md and strips.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from torchvision.models.detection import FasterRCNN

from detect.benchmark.results import CONFIDENCE, difference_cell, mean_cell
from detect.benchmark.speed import in_turn, limited_to, measured_on
from detect.data.clips import estimate_motion
from detect.data.dataset import DetectionDataset, read_dataset
from detect.datasets import coco
from detect.errors import ConfigError, DetectError
from detect.evaluation.bootstrap import BootstrapSamples, confidence_intervals, paired_difference_intervals, resample
from detect.evaluation.coco_eval import average_precisions, run_coco_eval
from detect.evaluation.records import check_detections, check_truth
from detect.fileio import write_json, write_text
from detect.inference.detection import coco_results
from detect.models.distributed import resolve_device
from detect.models.faster_rcnn import StripDetector
from detect.report.tables import markdown_table
from detect.structures import Dataset, Detections, area, clip
from strip_systems import (
    AVERAGED,
    AVERAGED_MOVED,
    COPIED,
    LIGHT,
    MOVED,
    NEW_REGION,
    PER_FRAME,
    PREDICTED,
    SKIPPED_MOVED,
    SKIPPED_PREDICTED,
    ByPosition,
    FrameStep,
    KeyFrameStream,
    TrainedSystem,
    non_key_modes,
    read_trained_systems,
    run_key_frames,
    run_strips,
    steps_of,
)

CocoTruth = dict[str, Any]  # COCO data set whose image ids are positions + 1

ALL, CLEAN, DEGRADED, VISIBLE_BEFORE = "all", "clean", "degraded", "seen before"
MIN_VISIBLE_SHARE = 0.5  # of a box: with less, a predicted box may miss the IoU threshold of AP50


def by_condition(truth: CocoTruth, dataset: Dataset) -> dict[str, CocoTruth]:
    """Labels of all frames, of the clean frames, of each other condition, and of all frames that aren't clean.

    Only recorded conditions are returned; for data with clean frames only, this is "all".
    """
    conditions = [image.frame.condition if image.frame else CLEAN for image in dataset.images]
    others = sorted(set(conditions) - {CLEAN})
    parts = {ALL: truth}
    if others:
        for name in (CLEAN, *others):
            parts[name] = only(truth, [i for i, condition in enumerate(conditions) if condition == name])
        parts[DEGRADED] = only(truth, [i for i, condition in enumerate(conditions) if condition != CLEAN])
    return {name: part for name, part in parts.items() if part["images"]}


def only(truth: CocoTruth, positions: Collection[int]) -> CocoTruth:
    """Labels of the images at these positions."""
    ids = {position + 1 for position in positions}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in ids],
        "annotations": [each for each in truth["annotations"] if each["image_id"] in ids],
    }


def ignore_new_objects(truth: CocoTruth, strips: Sequence[Sequence[FrameStep]]) -> CocoTruth:
    """Labels of all frames except each strip's first, where objects that can't be predicted are ignored.

    An object counts if at least half of its box, moved back with the surface, was inside the previous frame. The others
    are marked as crowd: a detection there is neither a true nor a false positive.
    """
    motion: Mapping[int, tuple[float, float]] = {
        step.position + 1: step.total_xy for steps in strips for step in steps if step.gap
    }
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    later = only(truth, [image_id - 1 for image_id in motion])
    annotations = [
        each
        if _visible_share(each["bbox"], motion[each["image_id"]], sizes[each["image_id"]]) >= MIN_VISIBLE_SHARE
        else {**each, "iscrowd": 1}
        for each in later["annotations"]
    ]
    return {**later, "annotations": annotations}


def _visible_share(bbox: Sequence[float], motion_xy: tuple[float, float], size_wh: tuple[int, int]) -> float:
    """Share of the box area that was inside the image before the surface moved."""
    x, y, width, height = bbox
    before = np.array([x, y, x + width, y + height], np.float64) - np.tile(motion_xy, 2)
    return float(area(clip(before, *size_wh)) / max(float(area(before)), 1e-9))


STRIP_METRICS = ("AP50", "AP")


@dataclass(frozen=True, slots=True, eq=False)
class StripScores:
    """Scores of one system and mode on several parts of the data.

    Attributes:
        by_run: {part: [{metric: score}, ...]}, by seed.
        samples: {part: bootstrap samples over strips}.
    """

    by_run: dict[str, list[dict[str, float | None]]]
    samples: dict[str, BootstrapSamples]

    def as_dict(self, confidence: float) -> dict[str, Any]:
        """{part: {metric: {"mean", "sd", "low", "high"}}} as plain values."""
        return {part: {key: self._score(part, key, confidence) for key in STRIP_METRICS} for part in self.samples}

    def _score(self, part: str, key: str, confidence: float) -> dict[str, float | None]:
        interval = confidence_intervals(self.samples[part], confidence=confidence).overall[key]
        scores = [score for run in self.by_run[part] if (score := run[key]) is not None]
        sd = stdev(scores) if len(scores) > 1 else None
        return {"mean": interval.value, "sd": sd, "low": interval.low, "high": interval.high}


def score_detections(
    detections_by_run: Sequence[Mapping[int, Detections]],
    truths: Mapping[str, CocoTruth],
    strip_of: Sequence[int],
    *,
    resamples: int,
) -> StripScores:
    """Evaluate the detections of one system and mode on each part of the data.

    Args:
        detections_by_run: for each seed, detections by frame position, for all frames in ``truths``.
        truths: labels by name of the part.
        strip_of: strip number per frame; the frames of one strip are resampled together.
        resamples: number of bootstrap resamples for the intervals.
    """
    by_run: dict[str, list[dict[str, float | None]]] = {}
    samples = {}
    for part, truth in truths.items():
        labels = check_truth(truth)
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        positions = sorted(image["id"] - 1 for image in truth["images"])
        evaluations = []
        for detections in detections_by_run:
            results = [
                {**each, "image_id": positions[int(str(each["image_id"])) - 1] + 1}
                for each in coco_results([detections[position] for position in positions], ids)
            ]
            evaluations.append(run_coco_eval(labels, check_detections(results, labels), sizes=False))
        by_run[part] = [average_precisions(each) for each in evaluations]
        groups = [strip_of[position] for position in positions]
        samples[part] = resample([evaluations], resamples=resamples, groups=[groups])
    return StripScores(by_run, samples)


def score_difference(a: StripScores, b: StripScores, confidence: float) -> dict[str, Any]:
    """{part: {metric: {"value", "low", "high", "verdict"}}} of ``a`` minus ``b`` on the same resampled strips."""
    differences = {}
    for part in a.samples:
        intervals = paired_difference_intervals(a.samples[part], b.samples[part], confidence=confidence).overall
        differences[part] = {
            key: {**asdict(intervals[key]), "verdict": intervals[key].verdict()} for key in STRIP_METRICS
        }
    return differences


TimedMode = tuple[str, str]  # system, mode between key frames

_WARM_UP = 4  # untimed frames at the start of a strip


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Median milliseconds from the array of a frame to its boxes, for key frames and frames between them."""

    key_ms: float
    between_ms: float

    def frames_per_second(self, every: int) -> float:
        """Frames per second with a key frame every ``every`` frames."""
        return 1000 * every / (self.key_ms + (every - 1) * self.between_ms)


def frame_times(
    models: Mapping[str, FasterRCNN],
    dataset: Dataset,
    strip: Sequence[FrameStep],
    *,
    whites: Mapping[str, int | None],
    read_motion: bool,
    threads: int,
    rounds: int = 2,
) -> dict[TimedMode, FrameTimes]:
    """Median times per detector and mode between key frames, on a strip where every second frame is a key frame.

    Key frames and other frames are timed separately, so that the times can be combined for any key-frame interval. All
    detectors process each frame in turn, so that other load on the machine affects all equally. Only ratios within one
    call are comparable.

    Args:
        models: by name, in evaluation mode.
        dataset: the frames; read and decoded before timing.
        strip: at least two frames, in temporal order.
        whites: by name, white of 16-bit frames, as in training; None: 65535.
        read_motion: include the time to estimate the motion from the frames.
        threads: number of CPU threads of PyTorch.
        rounds: number of passes over the strip.
    """
    images = {
        name: DetectionDataset(dataset, channels=len(m.transform.image_mean), max_value=whites[name])
        for name, m in models.items()
    }
    for name, step in product(models, strip):
        images[name].pixels(step.position)
    modes = [(name, mode) for name, model in models.items() for mode in non_key_modes(model)]
    times: dict[TimedMode, tuple[list[float], list[float]]] = {each: ([], []) for each in modes}
    with limited_to(threads):
        for _ in range(rounds):
            streams = {
                (name, mode): KeyFrameStream(
                    models[name],
                    dataset.categories,
                    2,
                    mode,
                    channels=images[name].channels,
                    max_value=images[name].max_value,
                )
                for name, mode in modes
            }
            for number, step in enumerate(strip):
                before = strip[number - 1] if read_motion and number else None
                for each in in_turn(modes, number):
                    elapsed_ms = _elapsed_ms(streams[each], images[each[0]], step, number, before)
                    if number >= min(_WARM_UP, len(strip) - 2):
                        times[each][number % 2].append(elapsed_ms)
    return {each: FrameTimes(median(key), median(between)) for each, (key, between) in times.items()}


def _elapsed_ms(
    stream: KeyFrameStream, images: DetectionDataset, step: FrameStep, number: int, before: FrameStep | None
) -> float:
    """``before``: the frame from which to estimate the motion; None if the motion is known."""
    pixels = images.pixels(step.position)
    pixels_before = None if before is None else images.pixels(before.position)
    started = time.perf_counter()
    if pixels_before is not None:
        estimate_motion(pixels_before, pixels, images.max_value)
    stream(pixels, step, number)
    return 1000 * (time.perf_counter() - started)


DetectionsByRun = Sequence[ByPosition]  # by seed
DetectionsByMode = Mapping[str, Mapping[str, DetectionsByRun]]  # by system and mode


@dataclass(frozen=True, slots=True)
class StripScorer:
    """Settings of the evaluation: strip number per frame, number of resamples, confidence of the intervals."""

    strip_of: Sequence[int]
    resamples: int
    confidence: float

    def score(self, detections: DetectionsByRun, truths: Mapping[str, CocoTruth]) -> StripScores:
        """Scores of one system and mode on each part of the data."""
        return score_detections(detections, truths, self.strip_of, resamples=self.resamples)

    def row(self, name: str, scored: Mapping[str, StripScores], against: Sequence[str]) -> dict[str, Any]:
        """``scores`` and ``differences`` of row ``name``; it isn't compared with itself."""
        others = [other for other in dict.fromkeys(against) if other != name and other in scored]
        differences = {other: score_difference(scored[name], scored[other], self.confidence) for other in others}
        return {"scores": scored[name].as_dict(self.confidence), "differences": differences}


def row_label(system: str, mode: str) -> str:
    """Name of the row of a system and mode."""
    return system if mode == PER_FRAME else f"{system}, {mode}"


def _score_rows(
    detections: DetectionsByMode,
    modes: Sequence[str],
    truths: Mapping[str, CocoTruth],
    scorer: StripScorer,
    references: Callable[[str, str], Sequence[str]],
) -> list[dict[str, Any]]:
    """One row per system and mode that has detections; ``references(system, mode)``: rows to compare it with."""
    keys = [(name, mode) for name, by_mode in detections.items() for mode in modes if mode in by_mode]
    scored = {row_label(name, mode): scorer.score(detections[name][mode], truths) for name, mode in keys}
    rows = []
    for name, mode in keys:
        label = row_label(name, mode)
        scores = scorer.row(label, scored, references(name, mode))
        rows.append({"name": label, "system": name, "way": mode, **scores})
    return rows


def bad_frames(
    detections: DetectionsByMode, truths: Mapping[str, CocoTruth], scorer: StripScorer
) -> list[dict[str, Any]]:
    """Scores of each system, per frame and averaged over frames, on all frames and on each condition.

    Args:
        detections: {system: {mode: detections}}; both modes of the first system are the references.
        truths: labels by condition.
        scorer: settings of the evaluation.
    """
    modes = (PER_FRAME, AVERAGED)
    references = [row_label(next(iter(detections)), mode) for mode in modes]
    return _score_rows(detections, modes, truths, scorer, lambda name, mode: references)


def key_frames(
    every_frame: Mapping[str, DetectionsByRun],
    settings: Mapping[str, Mapping[tuple[str, int], DetectionsByRun]],
    times: Mapping[tuple[str, str], FrameTimes],
    truth: CocoTruth,
    scorer: StripScorer,
) -> list[dict[str, Any]]:
    """Scores and speed of each system for each mode and key-frame interval.

    A row is compared with the same system when every frame is a key frame, and with the modes of the first system at
    the same interval.

    Args:
        every_frame: {system: detections when every frame is a key frame}.
        settings: {system: {(mode between key frames, key-frame interval): detections}}.
        times: by system and mode.
        truth: labels of all frames.
        scorer: settings of the evaluation.
    """
    first = next(iter(every_frame))

    def label(name: str, mode: str, every: int) -> str:
        return f"{name}, {mode}, key frames every {every}" if every > 1 else name

    scored = {name: scorer.score(detections, {ALL: truth}) for name, detections in every_frame.items()}
    for name, of_system in settings.items():
        for (mode, every), detections in of_system.items():
            scored[label(name, mode, every)] = scorer.score(detections, {ALL: truth})
    rows = []
    for name in every_frame:
        any_mode = next(mode for system, mode in times if system == name)
        for mode, every in [(any_mode, 1), *settings.get(name, {})]:
            same_interval = [label(first, other, every) for other, k in settings.get(first, {}) if k == every]
            references = [name, *same_interval] if every > 1 else [first]
            frames_per_second = times[name, mode].frames_per_second(every)
            rows.append(
                {
                    "name": label(name, mode, every),
                    "system": name,
                    "between": mode if every > 1 else None,
                    "every": every,
                    "frames_per_second": frames_per_second,
                    "relative_frame_rate": frames_per_second / times[name, mode].frames_per_second(1),
                    **scorer.row(label(name, mode, every), scored, references),
                }
            )
    return rows


def prediction_rows(
    detections: DetectionsByMode, truths: Mapping[str, CocoTruth], scorer: StripScorer
) -> list[dict[str, Any]]:
    """Scores of the boxes predicted for the next frame: by the memory, and by baselines without memory.

    Args:
        detections: {system: {mode: detections}}; a memory is compared with the baselines of its own system and of the
            first system.
        truths: labels of all frames except each strip's first, with all objects and with predictable objects only.
        scorer: settings of the evaluation.
    """
    baselines = (MOVED, AVERAGED_MOVED, COPIED)
    first = next(iter(detections))

    def references(name: str, mode: str) -> list[str]:
        if mode != PREDICTED:
            return []
        return [row_label(system, baseline) for system in (name, first) for baseline in baselines]

    return _score_rows(detections, (PREDICTED, *baselines), truths, scorer, references)


Rows = Sequence[dict[str, Any]]


def to_markdown(results: dict[str, Any]) -> str:
    """Results of ``judge_strips`` as Markdown tables."""
    data = results["data"]
    conditions = ", ".join(f"{count:,} {name}" for name, count in data["conditions"].items())
    degraded = f" ({conditions})" if len(data["conditions"]) > 1 else ""
    size = f"{data['strips']:,} strips with {data['boxes']:,} boxes"
    title = f"Evaluated on {data['frames']:,} frames{degraded} of {size}."
    blocks = [title, _systems(results["systems"])]
    blocks += _bad_frames(results) + _key_frames(results) + _frame_prediction(results) + [_explanation(results)]
    return "\n\n".join(blocks) + "\n"


def _systems(systems: Rows) -> str:
    columns = ["system", "memory", "parameters", "runs", "epochs"]
    memory = {None: "none", True: "yes", False: "reset per frame"}
    return markdown_table(
        columns,
        [
            [
                row["name"],
                memory[row["memory"]],
                f"{row['parameters']:,}",
                str(len(row["runs"])),
                ", ".join(sorted({str(run["epoch"]) for run in row["runs"]})),
            ]
            for row in systems
        ],
        numbers=True,
    )


def _bad_frames(results: dict[str, Any]) -> list[str]:
    rows = results["bad_frames"]
    parts = list(rows[0]["scores"])
    blocks = ["## Bad frames"]
    for key in ("AP50", "AP"):
        cells = [[row["name"], *(mean_cell(row["scores"][part][key]) for part in parts)] for row in rows]
        blocks.append(markdown_table([key, *parts], cells, numbers=True))
    compared = [row for row in rows if (row["way"] == PER_FRAME) != (row["system"] == results["against"])]
    blocks += _compared(compared, [ALL, DEGRADED] if DEGRADED in parts else [ALL])
    text = (
        "The labels of degraded frames are those of the clean frames. Averaged over frames: boxes of earlier frames "
        "are moved with the surface and matched by class and IoU, and scores are averaged over the frames that "
        "contained the box centre, 0 for frames without a match. This baseline needs no training."
    )
    note = "" if DEGRADED in parts else " No frame is recorded as degraded."
    return [*blocks, text + note]


def _key_frames(results: dict[str, Any]) -> list[str]:
    rows = results["key_frames"]
    columns = ["system", "between", "key frame every", "AP50", "frames/s", "relative frame rate"]
    columns += ["AP50 against every frame", ""]
    cells = []
    for row in rows:
        figures = [
            mean_cell(row["scores"][ALL]["AP50"]),
            f"{row['frames_per_second']:.1f}",
            f"{row['relative_frame_rate']:.2f}",
        ]
        own = row["differences"].get(row["system"]) if row["every"] > 1 else None
        cells.append([row["system"], row["between"] or "-", str(row["every"]), *figures, *_verdict(own, ALL)])
    others = [
        {**row, "differences": {name: each for name, each in row["differences"].items() if name != row["system"]}}
        for row in rows
        if row["system"] != results["against"]
    ]
    speed = results["speed"]
    threads = f"{speed['threads']} thread{'s' * (speed['threads'] > 1)}"
    text = (
        f"Between key frames, '{LIGHT}' processes the whole frame with the light network. '{NEW_REGION}' processes the "
        "region that has come into view, with a margin, with the full network, and moves the other boxes with the "
        f"surface. '{SKIPPED_MOVED.capitalize()}' and '{SKIPPED_PREDICTED}' are baselines that skip the frame. "
        "Frames/s are computed from the median times of key frames and of frames between them, from array to boxes, "
        f"one frame at a time, on {speed['device']} with {threads}, systems in turn. Only ratios within one table are "
        "comparable."
    )
    return ["## Speed", markdown_table(columns, cells, numbers=True), *_compared(others, [ALL]), text]


def _frame_prediction(results: dict[str, Any]) -> list[str]:
    rows = results["frame_prediction"]
    parts = {ALL: "AP50, all objects", VISIBLE_BEFORE: "AP50, seen before"}
    cells = [[row["system"], row["way"], *(mean_cell(row["scores"][part]["AP50"]) for part in parts)] for row in rows]
    blocks = [
        "## Frame prediction",
        markdown_table(["system", "boxes of the next frame", *parts.values()], cells, numbers=True),
    ]
    blocks += _compared(rows, list(parts))
    text = (
        "Boxes predicted for the next frame, evaluated on all frames except each strip's first. Surface that has just "
        "come into view can't be predicted: in the column of objects seen before, objects are ignored if less than "
        "half of their box was inside the previous frame. All methods use the same expected motion of the surface."
    )
    return [*blocks, text]


def _compared(rows: Rows, parts: Sequence[str]) -> list[str]:
    """Table of the AP50 differences of each row from its references; empty list without references."""
    cells = [
        [row["name"], other, *(cell for part in parts for cell in _verdict(each, part))]
        for row in rows
        for other, each in row["differences"].items()
    ]
    columns = ["AP50 of", "against", *(name for part in parts for name in (part, ""))]
    return [markdown_table(columns, cells, numbers=True)] if cells else []


def _verdict(difference: dict[str, Any] | None, part: str) -> list[str]:
    if difference is None:
        return ["", ""]
    return [difference_cell(difference[part]["AP50"]), difference[part]["AP50"]["verdict"]]


def _explanation(results: dict[str, Any]) -> str:
    motion = {
        "recorded": "The motion between frames is taken from their recorded positions, as from an encoder.",
        "read": "The motion between frames is estimated from the frames; the next frame is expected to move as before.",
    }
    if results["interval_covers"] == "strips":
        covers = "They cover the choice of strips only: one run gives no variation between seeds."
    else:
        covers = "They cover the choice of strips and of seeds."
    return (
        f"{motion[results['motion']]} Scores are means over runs ± the standard deviation over runs, for the averaged "
        "weights after the last epoch. Differences are paired, both on the same resamples of whole strips. Intervals "
        f"have {100 * results['confidence']:g} % confidence ({results['resamples']:,} bootstrap resamples). {covers}"
    )


SCHEMA = 1
_TIMED_FRAMES = 24


def judge_strips(
    runs: Sequence[Path],
    data: Path,
    *,
    every: Sequence[int] = (1, 2, 3, 4),
    read_motion: bool = False,
    threads: int = 2,
    device: str = "cpu",
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run trained systems over strips in temporal order and evaluate degraded frames, speed and frame prediction.

    Args:
        runs: see ``read_trained_systems``; the first system is the reference.
        data: COCO JSON of strips.
        every: key-frame intervals; 1, the reference of the others, is always measured.
        read_motion: estimate the motion of the surface from the frames; else take it from their recorded positions.
        threads: number of CPU threads for the speed measurement.
        device: device for detection and speed.
        resamples: number of bootstrap resamples for the intervals.
        say: receives one line of text per slow step.

    Returns:
        The content of strips.json as plain JSON values. docs/bench.md describes each key.

    Raises:
        ConfigError: a key-frame interval below 1, or an unknown device.
        DataError: data without strips, or with other categories than those of a run.
        CheckpointError: a run that can't be read.
    """
    if any(each < 1 for each in every):
        raise ConfigError(f"the key-frame interval is {min(every)}", where="every", fix="give 1 or more")
    intervals = sorted({*every} - {1})
    dataset = read_dataset(data, role="--data")
    systems = read_trained_systems(runs, dataset)
    torch_device = resolve_device(device)
    whites = {system.name: system.runs[0].checkpoint.detector.max_value for system in systems}
    strips = steps_of(DetectionDataset(dataset, channels=1, max_value=whites[systems[0].name]), read_motion=read_motion)
    by_mode: dict[str, dict[str, list[ByPosition]]] = {}
    settings: dict[str, dict[tuple[str, int], list[ByPosition]]] = {}
    for system in systems:
        for number, run in enumerate(system.runs, start=1):
            say(f"{system.name} [{number}/{len(system.runs)}]: running on {len(strips)} strips")
            detector = run.checkpoint.detector
            images = DetectionDataset(dataset, channels=detector.channels, max_value=detector.max_value)
            model = run.checkpoint.load_model().to(torch_device)
            for mode, detections in run_strips(model, detector.categories, images, strips).items():
                by_mode.setdefault(system.name, {}).setdefault(mode, []).append(detections)
            for mode, interval in product(non_key_modes(model), intervals):
                detections = run_key_frames(model, detector.categories, images, strips, interval, mode)
                settings.setdefault(system.name, {}).setdefault((mode, interval), []).append(detections)
    say(f"measuring speed on {device}, detectors in turn")
    models = {system.name: system.runs[0].checkpoint.load_model().to(torch_device) for system in systems}
    longest = max(strips, key=len)[:_TIMED_FRAMES]
    times = frame_times(models, dataset, longest, whites=whites, read_motion=read_motion, threads=threads)
    say("evaluating all systems on the same resampled strips")
    truth = coco.to_dict(dataset, Path())
    scorer = StripScorer(_strip_numbers(strips, len(dataset.images)), resamples, CONFIDENCE)
    later = only(truth, [step.position for strip in strips for step in strip if step.gap])
    every_frame = {name: modes[PER_FRAME] for name, modes in by_mode.items()}
    return {
        "schema": SCHEMA,
        "against": systems[0].name,
        "motion": "read" if read_motion else "recorded",
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "interval_covers": "strips and seeds" if all(len(system.runs) > 1 for system in systems) else "strips",
        "data": _data_description(data, dataset, len(strips)),
        **measured_on(device, threads),
        "systems": [_system(system, models[system.name], times) for system in systems],
        "bad_frames": bad_frames(by_mode, by_condition(truth, dataset), scorer),
        "key_frames": key_frames(every_frame, settings, times, truth, scorer),
        "frame_prediction": prediction_rows(
            by_mode, {ALL: later, VISIBLE_BEFORE: ignore_new_objects(truth, strips)}, scorer
        ),
    }


def _system(system: TrainedSystem, model: FasterRCNN, times: Mapping[TimedMode, FrameTimes]) -> dict[str, Any]:
    own = {mode: each for (name, mode), each in times.items() if name == system.name}
    return {
        "name": system.name,
        "memory": model.memory.stateful if isinstance(model, StripDetector) else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "key_frame_ms": median(each.key_ms for each in own.values()),
        "frame_between_ms": {mode: each.between_ms for mode, each in own.items()},
        "runs": [{"weights": str(run.weights), "epoch": run.checkpoint.epoch} for run in system.runs],
    }


def _data_description(path: Path, dataset: Dataset, strips: int) -> dict[str, Any]:
    images = dataset.images
    return {
        "val": str(path),
        "strips": strips,
        "frames": len(images),
        "boxes": sum(not box.crowd for image in images for box in image.boxes),
        "conditions": dict(Counter(image.frame.condition for image in images if image.frame).most_common()),
        "categories": list(dataset.categories),
    }


def _strip_numbers(strips: Sequence[Sequence[FrameStep]], frames: int) -> list[int]:
    """Strip number per frame, by frame position."""
    numbers = [0] * frames
    for number, strip in enumerate(strips):
        for step in strip:
            numbers[step.position] = number
    return numbers


def _intervals(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 1,2,4") from None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a system of 'detect bench train'"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="COCO JSON of strips to evaluate on")
    parser.add_argument(
        "--every",
        type=_intervals,
        default=[1, 2, 3, 4],
        metavar="K,K",
        help="key-frame intervals in frames; the full network processes key frames (default: 1,2,3,4)",
    )
    parser.add_argument(
        "--motion",
        choices=["recorded", "read"],
        default="recorded",
        help="motion of the surface: from the frames' recorded positions, or estimated from the frames "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench_strips"),
        metavar="DIR",
        help="folder for the tables (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads of the speed measurement (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="device for detection and speed (default: cpu)")
    args = parser.parse_args(argv)
    for option, minimum in (("threads", args.threads), ("every", min(args.every))):
        if minimum < 1:
            parser.error(f"--{option} is {minimum}; give 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    try:
        results = judge_strips(
            args.runs,
            args.data,
            every=args.every,
            read_motion=args.motion == "read",
            threads=args.threads,
            device=args.device,
            say=lambda text: print(text, flush=True),
        )
        tables = to_markdown(results)
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "strips.json", results, indent=1)
        write_text(args.out / "strips.md", tables)
    except (DetectError, OSError) as error:
        print(f"judge_strips: {error}", file=sys.stderr)
        return 2
    print(f"\n{tables}")
    for name in ("strips.md", "strips.json"):
        print(f"wrote {args.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
