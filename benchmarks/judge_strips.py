"""Judge trained systems on moving strips: bad frames, speed, predicted frames, each against its controls.

    python benchmarks/judge_strips.py runs/strips_control runs/strips_still runs/strips --data data/strips/val.json
    python benchmarks/judge_strips.py runs/strips_control runs/strips --data data/strips/val.json --motion read

Each system sees the frames of each strip in the order of time. The first is what the others are compared with. A folder
of 'detect bench train' with seed0, seed1, ... in it is one system, its scores the means over seeds. Writes strips.md
and strips.json.
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
    PREDICTED,
    SEEN,
    SKIPPED_MOVED,
    SKIPPED_PREDICTED,
    ByPosition,
    FrameStep,
    KeyFrameStream,
    TrainedSystem,
    read_trained_systems,
    steps_of,
    watch_all,
    watch_every,
    ways_between,
)

CocoTruth = dict[str, Any]  # a COCO data set; image ids are positions + 1

ALL, CLEAN, DEGRADED, SEEN_BEFORE = "all", "clean", "degraded", "seen before"
SHARE_SEEN = 0.5  # of a box: with less of it known, no foreseen box is sure to reach the IoU of AP50


def by_condition(truth: CocoTruth, dataset: Dataset) -> dict[str, CocoTruth]:
    """The truth of all frames, of the clean ones, of each other condition, and of all that are not clean.

    Only conditions that are recorded: of data that is clean throughout, "all" remains.
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
    """The truth of the images at these positions."""
    ids = {position + 1 for position in positions}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in ids],
        "annotations": [each for each in truth["annotations"] if each["image_id"] in ids],
    }


def seen_before(truth: CocoTruth, strips: Sequence[Sequence[FrameStep]]) -> CocoTruth:
    """The truth of all frames but each strip's first, where objects that nobody could foresee are ignored.

    An object counts if at least half of its box lay inside the frame before, seen from where the surface has moved
    since. The others are marked as crowd: the judge counts a box there neither as hit nor as false.
    """
    moved: Mapping[int, tuple[float, float]] = {
        step.position + 1: step.total_xy for steps in strips for step in steps if step.gap
    }
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    later = only(truth, [image_id - 1 for image_id in moved])
    annotations = [
        each
        if _share_inside(each["bbox"], moved[each["image_id"]], sizes[each["image_id"]]) >= SHARE_SEEN
        else {**each, "iscrowd": 1}
        for each in later["annotations"]
    ]
    return {**later, "annotations": annotations}


def _share_inside(bbox: Sequence[float], motion_xy: tuple[float, float], size_wh: tuple[int, int]) -> float:
    """Of a box, the share that was in view before the surface moved."""
    x, y, width, height = bbox
    then = np.array([x, y, x + width, y + height], np.float64) - np.tile(motion_xy, 2)
    return float(area(clip(then, *size_wh)) / max(float(area(then)), 1e-9))


STRIP_METRICS = ("AP50", "AP")


@dataclass(frozen=True, slots=True, eq=False)
class StripScores:
    """A system's way to detect, judged on several parts of the data.

    Attributes:
        by_run: {part: [{figure: score}, ...]}, by seed.
        drawn: {part: the same on resampled strips}.
    """

    by_run: dict[str, list[dict[str, float | None]]]
    drawn: dict[str, BootstrapSamples]

    def as_dict(self, confidence: float) -> dict[str, Any]:
        """{part: {figure: {"mean", "sd", "low", "high"}}}, plain values."""
        return {part: {key: self._score(part, key, confidence) for key in STRIP_METRICS} for part in self.drawn}

    def _score(self, part: str, key: str, confidence: float) -> dict[str, float | None]:
        interval = confidence_intervals(self.drawn[part], confidence=confidence).overall[key]
        scores = [score for run in self.by_run[part] if (score := run[key]) is not None]
        spread = stdev(scores) if len(scores) > 1 else None
        return {"mean": interval.value, "sd": spread, "low": interval.low, "high": interval.high}


def score_detections(
    detections_by_run: Sequence[Mapping[int, Detections]],
    truths: Mapping[str, CocoTruth],
    strip_of: Sequence[int],
    *,
    resamples: int,
) -> StripScores:
    """Judge one way to detect by the truth of each part.

    Args:
        detections_by_run: for each seed the detections of each frame by position, of all frames that any truth holds.
        truths: by the part's name.
        strip_of: a number a frame; frames of one strip share theirs, and are drawn together.
        resamples: draws behind the intervals.
    """
    by_run: dict[str, list[dict[str, float | None]]] = {}
    drawn = {}
    for part, truth in truths.items():
        labels = check_truth(truth)
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        positions = sorted(image["id"] - 1 for image in truth["images"])
        judged = []
        for found in detections_by_run:
            results = [
                {**each, "image_id": positions[int(str(each["image_id"])) - 1] + 1}
                for each in coco_results([found[position] for position in positions], ids)
            ]
            judged.append(run_coco_eval(labels, check_detections(results, labels), sizes=False))
        by_run[part] = [average_precisions(each) for each in judged]
        groups = [strip_of[position] for position in positions]
        drawn[part] = resample([judged], resamples=resamples, groups=[groups])
    return StripScores(by_run, drawn)


def score_difference(a: StripScores, b: StripScores, confidence: float) -> dict[str, Any]:
    """{part: {figure: {"value", "low", "high", "verdict"}}} of ``a`` minus ``b`` on the same resampled strips."""
    told = {}
    for part in a.drawn:
        intervals = paired_difference_intervals(a.drawn[part], b.drawn[part], confidence=confidence).overall
        told[part] = {key: {**asdict(intervals[key]), "verdict": intervals[key].verdict()} for key in STRIP_METRICS}
    return told


Contender = tuple[str, str]  # a system and its way between key frames

_WARM_UP = 4  # frames of a strip before the clock runs


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Median milliseconds from a frame's array to its boxes."""

    key_ms: float
    between_ms: float

    def frames_per_second(self, every: int) -> float:
        """With a key frame each ``every`` frames."""
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
) -> dict[Contender, FrameTimes]:
    """Each detector's times on the frames of a strip, every second one a key frame, by its ways between them.

    The two kinds of frame are timed apart and put together for any distance of key frames. All detectors see each
    frame one after the other, so that a busy moment hits them alike; their ratios hold, milliseconds compare with no
    other call's.

    Args:
        models: by name, in evaluation mode.
        dataset: the frames; read and decoded before the clock runs.
        strip: frames to see, in the order of time; two or more.
        whites: by name, white of 16-bit frames, as in training; None: 65535.
        read_motion: the time to read the motion from the frames counts too.
        threads: that PyTorch may use on a CPU.
        rounds: how often to go through the strip.
    """
    images = {
        name: DetectionDataset(dataset, channels=len(m.transform.image_mean), max_value=whites[name])
        for name, m in models.items()
    }
    for name, step in product(models, strip):
        images[name].pixels(step.position)
    contenders = [(name, way) for name, model in models.items() for way in ways_between(model)]
    times: dict[Contender, tuple[list[float], list[float]]] = {each: ([], []) for each in contenders}
    with limited_to(threads):
        for _ in range(rounds):
            watchers = {
                (name, way): KeyFrameStream(
                    models[name],
                    dataset.categories,
                    2,
                    way,
                    channels=images[name].channels,
                    max_value=images[name].max_value,
                )
                for name, way in contenders
            }
            for number, step in enumerate(strip):
                before = strip[number - 1] if read_motion and number else None
                for each in in_turn(contenders, number):
                    took = _took_ms(watchers[each], images[each[0]], step, number, before)
                    if number >= min(_WARM_UP, len(strip) - 2):
                        times[each][number % 2].append(took)
    return {each: FrameTimes(median(key), median(between)) for each, (key, between) in times.items()}


def _took_ms(
    watcher: KeyFrameStream, images: DetectionDataset, step: FrameStep, number: int, before: FrameStep | None
) -> float:
    """``before``: the frame to read the motion since; None where it is known."""
    pixels = images.pixels(step.position)
    pixels_before = None if before is None else images.pixels(before.position)
    started = time.perf_counter()
    if pixels_before is not None:
        estimate_motion(pixels_before, pixels, images.max_value)
    watcher(pixels, step, number)
    return 1000 * (time.perf_counter() - started)


DetectionsByRun = Sequence[ByPosition]  # detections of each run of a system, by seed


@dataclass(frozen=True, slots=True)
class StripScorer:
    """What scores are made with: a number for each frame's strip, draws behind the intervals, what these cover."""

    strip_of: Sequence[int]
    resamples: int
    confidence: float

    def score(self, found: DetectionsByRun, truths: Mapping[str, CocoTruth]) -> StripScores:
        """One way to detect on each part of the data."""
        return score_detections(found, truths, self.strip_of, resamples=self.resamples)

    def row(self, name: str, scored: Mapping[str, StripScores], against: Sequence[str]) -> dict[str, Any]:
        """``scores`` and ``differences`` of the way called ``name``; it isn't compared with itself."""
        others = [other for other in dict.fromkeys(against) if other != name and other in scored]
        differences = {other: score_difference(scored[name], scored[other], self.confidence) for other in others}
        return {"scores": scored[name].as_dict(self.confidence), "differences": differences}


def row_label(system: str, way: str) -> str:
    """What a row is called."""
    return system if way == SEEN else f"{system}, {way}"


def bad_frames(
    watched: Mapping[str, Mapping[str, DetectionsByRun]], truths: Mapping[str, CocoTruth], judge: StripScorer
) -> list[dict[str, Any]]:
    """Each system as it is and averaged over frames, on all frames and on those of each condition.

    Args:
        watched: {system: {way: detections}}; the first system, in both ways, is what the others are held against.
        truths: by condition.
        judge: makes the scores.
    """
    ways = (SEEN, AVERAGED)
    scored = {row_label(name, way): judge.score(found[way], truths) for name, found in watched.items() for way in ways}
    against = [row_label(next(iter(watched)), way) for way in ways]
    return [
        {"name": row_label(name, way), "system": name, "way": way, **judge.row(row_label(name, way), scored, against)}
        for name in watched
        for way in ways
    ]


def key_frames(
    every_frame: Mapping[str, DetectionsByRun],
    settings: Mapping[str, Mapping[tuple[str, int], DetectionsByRun]],
    times: Mapping[tuple[str, str], FrameTimes],
    truth: CocoTruth,
    judge: StripScorer,
) -> list[dict[str, Any]]:
    """Each system with key frames near and far, against itself seeing all, and against the first one's simpler ways.

    Args:
        every_frame: {system: detections with every frame a key frame}.
        settings: {system: {(way between, distance of key frames): detections}}, the way last that looks at nothing.
        times: by system and way.
        truth: of all frames.
        judge: makes the scores.
    """
    first = next(iter(every_frame))

    def called(name: str, way: str, every: int) -> str:
        return f"{name}, {way}, key frames every {every}" if every > 1 else name

    scored = {name: judge.score(found, {ALL: truth}) for name, found in every_frame.items()}
    for name, of_system in settings.items():
        for (way, every), found in of_system.items():
            scored[called(name, way, every)] = judge.score(found, {ALL: truth})
    rows = []
    for name in every_frame:
        of_system = settings.get(name, {})
        any_way = next(way for system, way in times if system == name)
        for way, every in [(any_way, 1), *of_system]:
            same_distance = [called(first, each, every) for each, k in settings.get(first, {}) if k == every]
            against = [name, *same_distance] if every > 1 else [first]
            frames_per_second = times[name, way].frames_per_second(every)
            rows.append(
                {
                    "name": called(name, way, every),
                    "system": name,
                    "between": way if every > 1 else None,
                    "every": every,
                    "frames_per_second": frames_per_second,
                    "relative_frame_rate": frames_per_second / times[name, way].frames_per_second(1),
                    **judge.row(called(name, way, every), scored, against),
                }
            )
    return rows


def prediction_rows(
    watched: Mapping[str, Mapping[str, DetectionsByRun]], truths: Mapping[str, CocoTruth], judge: StripScorer
) -> list[dict[str, Any]]:
    """What each system says of frames before it has seen them, a memory against what needs none.

    Args:
        watched: {system: {way: detections}}; a memory is held against its own last boxes and the first system's.
        truths: of all frames but each strip's first, and of what could be foreseen in them.
        judge: makes the scores.
    """
    simple = (MOVED, AVERAGED_MOVED, COPIED)
    scored = {
        row_label(name, way): judge.score(found[way], truths)
        for name, found in watched.items()
        for way in (PREDICTED, *simple)
        if way in found
    }
    first = next(iter(watched))
    rows = []
    for name, found in watched.items():
        for way in (PREDICTED, *simple):
            if way in found:
                against = [row_label(each, control) for each in (name, first) for control in simple]
                row = judge.row(row_label(name, way), scored, against if way == PREDICTED else [])
                rows.append({"name": row_label(name, way), "system": name, "way": way, **row})
    return rows


Rows = Sequence[dict[str, Any]]


def to_markdown(results: dict[str, Any]) -> str:
    """What ``judge_strips`` found."""
    data = results["data"]
    conditions = ", ".join(f"{count:,} {name}" for name, count in data["conditions"].items())
    bad = f" ({conditions})" if len(data["conditions"]) > 1 else ""
    title = f"Judged on {data['frames']:,} frames{bad} of {data['strips']:,} strips with {data['boxes']:,} boxes."
    blocks = [title, _systems(results["systems"])]
    blocks += _bad_frames(results) + _key_frames(results) + _foreseeing(results) + [_explanation(results)]
    return "\n\n".join(blocks) + "\n"


def _systems(systems: Rows) -> str:
    columns = ["system", "memory", "parameters", "runs", "epochs"]
    memory = {None: "none", True: "yes", False: "forgets"}
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
    compared = [row for row in rows if (row["way"] == SEEN) != (row["system"] == results["against"])]
    blocks += _compared(compared, [ALL, DEGRADED] if DEGRADED in parts else [ALL])
    text = (
        "Frames in bad condition are judged by the boxes of what they ought to show. Averaged over frames: boxes of "
        "earlier frames, carried on with the surface and matched by class and IoU, and scores averaged over the frames "
        "that saw the place, 0 where one found nothing. It needs no training, so a memory has to beat it."
    )
    none = "" if DEGRADED in parts else " No frame is recorded to be in bad condition."
    return [*blocks, text + none]


def _key_frames(results: dict[str, Any]) -> list[str]:
    rows = results["key_frames"]
    columns = ["system", "between", "key frame every", "AP50", "frames/s", "times the frames"]
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
        f"Between key frames, by the {LIGHT}: it sees the frame. By the {NEW_REGION}: the full network looks at what "
        "has just come into view and a margin, and the other boxes are moved with the surface. "
        f"'{SKIPPED_MOVED.capitalize()}' and '{SKIPPED_PREDICTED}' look at nothing, which the others have to beat. "
        "Frames/s "
        "come from the median time of a key frame and of one between, from array to boxes, one frame at a time, on "
        f"{speed['device']} with {threads}, all in turns: ratios hold, frames/s compare with no other table's."
    )
    return ["## Speed", markdown_table(columns, cells, numbers=True), *_compared(others, [ALL]), text]


def _foreseeing(results: dict[str, Any]) -> list[str]:
    rows = results["frame_prediction"]
    parts = {ALL: "AP50, all objects", SEEN_BEFORE: "AP50, seen before"}
    cells = [[row["system"], row["way"], *(mean_cell(row["scores"][part]["AP50"]) for part in parts)] for row in rows]
    blocks = [
        "## Foreseeing",
        markdown_table(["system", "boxes of the next frame", *parts.values()], cells, numbers=True),
    ]
    blocks += _compared(rows, list(parts))
    text = (
        "Boxes of a frame before it is seen, judged on all frames but each strip's first. Nobody can foresee surface "
        "that has just come into view; in the column of objects seen before, those of which less than half of the box "
        "was in view in the frame before count neither as hit nor as miss. All ways are told the same of how far the "
        "surface will have moved."
    )
    return [*blocks, text]


def _compared(rows: Rows, parts: Sequence[str]) -> list[str]:
    """AP50 of each row against each that it is held against; nothing where there is none."""
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
    told = {
        "recorded": "The motion between frames is taken from their recorded places, as an encoder would tell it.",
        "read": "The motion between frames is read from them; a frame not seen yet is taken to move on as before.",
    }
    if results["interval_covers"] == "strips":
        covers = "They cover the choice of strips; of a system with one run nothing is known of other seeds."
    else:
        covers = "They cover the choice of strips and of seeds."
    return (
        f"{told[results['motion']]} Scores are means over runs ± the standard deviation from run to run, of the "
        "averaged weights after the last epoch. Differences are paired, both on the same resampled strips, which are "
        "drawn whole. "
        f"Intervals hold {100 * results['confidence']:g} %, by {results['resamples']:,} bootstrap resamples. {covers}"
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
    """Let trained systems see strips in the order of time and judge what each claim about memory says.

    Args:
        runs: see ``read_trained_systems``; the first is what the others are compared with.
        data: COCO JSON of strips.
        every: distances of key frames; 1 is measured in any case, as what the others are held against.
        read_motion: read the surface's motion from the frames; else it is what their recorded places say.
        threads: that the speed is measured with.
        device: to detect and to measure on.
        resamples: draws behind the intervals.
        say: gets a line for each step that takes a while.

    Returns:
        Plain JSON values, as strips.json has them; docs/bench.md tells each.

    Raises:
        ConfigError: a distance of key frames below 1, or an unknown device.
        DataError: data without strips, or of other categories than a run was trained for.
        CheckpointError: a run that can't be read.
    """
    if any(each < 1 for each in every):
        raise ConfigError(f"a key frame every {min(every)} frames was asked for", where="every", fix="give 1 or more")
    distances = sorted({*every} - {1})
    dataset = read_dataset(data, role="--data")
    systems = read_trained_systems(runs, dataset)
    where = resolve_device(device)
    whites = {system.name: system.runs[0].checkpoint.detector.max_value for system in systems}
    strips = steps_of(DetectionDataset(dataset, channels=1, max_value=whites[systems[0].name]), read_motion=read_motion)
    watched: dict[str, dict[str, list[ByPosition]]] = {}
    settings: dict[str, dict[tuple[str, int], list[ByPosition]]] = {}
    for system in systems:
        for number, run in enumerate(system.runs, start=1):
            say(f"{system.name} [{number}/{len(system.runs)}] sees {len(strips)} strips")
            detector = run.checkpoint.detector
            images = DetectionDataset(dataset, channels=detector.channels, max_value=detector.max_value)
            model = run.checkpoint.load_model().to(where)
            for way, found in watch_all(model, detector.categories, images, strips).items():
                watched.setdefault(system.name, {}).setdefault(way, []).append(found)
            for way, each in product(ways_between(model), distances):
                found = watch_every(model, detector.categories, images, strips, each, way)
                settings.setdefault(system.name, {}).setdefault((way, each), []).append(found)
    say(f"measuring speed on {device}, in turns")
    models = {system.name: system.runs[0].checkpoint.load_model().to(where) for system in systems}
    longest = max(strips, key=len)[:_TIMED_FRAMES]
    times = frame_times(models, dataset, longest, whites=whites, read_motion=read_motion, threads=threads)
    say("judging all on the same resampled strips")
    truth = coco.to_dict(dataset, Path())
    judge = StripScorer(_strip_numbers(strips, len(dataset.images)), resamples, CONFIDENCE)
    later = only(truth, [step.position for strip in strips for step in strip if step.gap])
    every_frame = {name: ways[SEEN] for name, ways in watched.items()}
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
        "bad_frames": bad_frames(watched, by_condition(truth, dataset), judge),
        "key_frames": key_frames(every_frame, settings, times, truth, judge),
        "frame_prediction": prediction_rows(watched, {ALL: later, SEEN_BEFORE: seen_before(truth, strips)}, judge),
    }


def _system(system: TrainedSystem, model: FasterRCNN, times: Mapping[Contender, FrameTimes]) -> dict[str, Any]:
    own = {way: each for (name, way), each in times.items() if name == system.name}
    return {
        "name": system.name,
        "memory": model.memory.stateful if isinstance(model, StripDetector) else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "key_frame_ms": median(each.key_ms for each in own.values()),
        "frame_between_ms": {way: each.between_ms for way, each in own.items()},
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
    """Of each frame, by its position."""
    numbers = [0] * frames
    for number, strip in enumerate(strips):
        for step in strip:
            numbers[step.position] = number
    return numbers


def _distances(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers such as 1,2,4") from None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a system of 'detect bench train'"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="COCO JSON of strips to judge on")
    parser.add_argument(
        "--every",
        type=_distances,
        default=[1, 2, 3, 4],
        metavar="K,K",
        help="distances in frames between key frames, which the full network sees (default: 1,2,3,4)",
    )
    parser.add_argument(
        "--motion",
        choices=["recorded", "read"],
        default="recorded",
        help="motion of the surface: from the frames' recorded positions, or estimated from the frames "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench_strips"), metavar="DIR", help="for tables (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads of the speed measurement (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="to detect and measure on (default: cpu)")
    args = parser.parse_args(argv)
    for option, smallest in (("threads", args.threads), ("every", min(args.every))):
        if smallest < 1:
            parser.error(f"--{option} is {smallest}; give 1 or more")
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
