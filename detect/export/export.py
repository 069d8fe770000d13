"""The whole export: graph, file, parity check, golden images and an example, in a folder written atomically."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..data.dataset import as_channels
from ..datasets import coco
from ..errors import DataError
from ..evaluation.records import CocoEvaluation, Judgement
from ..evaluation.summary import judge
from ..images import Pixels, read_image, write_image
from ..inference.detection import coco_results, detect_images
from ..models.checkpoint import Checkpoint
from ..structures import Dataset, Detections
from .onnx import FixedSizeDetector, quantize, write_onnx
from .runtimes import FILE_NAME, Contract, Runner, load_exported, require_package, write_contract

MIN_COMPARED_SCORE = 0.05  # score from which on a detection has to have its like
TOLERANCE_PX = 0.1  # of each edge
TOLERANCE_SCORE = 0.001
MAX_RECALL_LOSS = 0.02  # share of a class's defects that int8 may lose


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two lists of detections agree.

    Attributes:
        compared: detections with a score of at least ``SURE``, of both.
        unmatched: of them, those without their like of the same class within the tolerances.
        largest_px: largest difference of an edge among those that have one.
        largest_score: likewise of a score.
    """

    compared: int
    unmatched: int
    largest_px: float
    largest_score: float

    @property
    def holds(self) -> bool:
        """Whether every detection has its like."""
        return self.unmatched == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, the tolerances with them."""
        return {
            "compared": self.compared,
            "unmatched": self.unmatched,
            "largest_px": round(self.largest_px, 6),
            "largest_score": round(self.largest_score, 7),
            "tolerance_px": TOLERANCE_PX,
            "tolerance_score": TOLERANCE_SCORE,
            "from_score": MIN_COMPARED_SCORE,
        }


def compare_detections(ours: Sequence[Detections], theirs: Sequence[Detections]) -> Parity:
    """Compare two detectors image by image; each detection looks for its like in all that the other found.

    Args:
        ours, theirs: one entry an image, in the same order.
    """
    compared, unmatched, px, score = 0, 0, 0.0, 0.0
    for one, other in zip(ours, theirs):
        for asking, asked in ((one, other), (other, one)):
            sure = asking.scores >= MIN_COMPARED_SCORE
            apart_px, apart_score = _nearest_distance(asking, asked)
            alike = (apart_px <= TOLERANCE_PX) & (apart_score <= TOLERANCE_SCORE)
            compared += int(sure.sum())
            unmatched += int((sure & ~alike).sum())
            px = max(px, float(apart_px[sure & alike].max(initial=0)))
            score = max(score, float(apart_score[sure & alike].max(initial=0)))
    return Parity(compared, unmatched, px, score)


def _nearest_distance(asking: Detections, asked: Detections) -> tuple[Any, Any]:
    """For each detection the distance, of edges and of score, to the one of its class that lies nearest."""
    if not len(asked) or not len(asking):
        return np.full(len(asking), np.inf), np.full(len(asking), np.inf)
    px = np.abs(asking.boxes_xyxy[:, None] - asked.boxes_xyxy[None]).max(axis=2).astype(np.float64)
    px[asking.labels[:, None] != asked.labels[None]] = np.inf
    nearest = px.argmin(axis=1)
    return px.min(axis=1), np.abs(asking.scores - asked.scores[nearest])


def recall_loss(
    before: CocoEvaluation, after: CocoEvaluation, thresholds: Mapping[str, float]
) -> dict[str, float | None]:
    """By class, the share of its defects found before and not after; below 0 where more are found, None if it has none.

    Args:
        before, after: two judgements by the same labels.
        thresholds: class -> score from which on a detection counts.
    """
    lost: dict[str, float | None] = {}
    for number, name in enumerate(before.truth.categories):
        mine = (before.truth.category == number) & ~before.truth.crowd
        found = [int(_is_detected(each, thresholds[name])[mine].sum()) for each in (before, after)]
        lost[name] = (found[0] - found[1]) / int(mine.sum()) if mine.any() else None
    return lost


def _is_detected(evaluated: CocoEvaluation, threshold: float) -> NDArray[np.bool_]:
    """Of each label, whether a detection with that score covers it with an IoU of at least 0.5."""
    by = evaluated.matches.matched_detection[0]
    scores = np.append(evaluated.found.scores, -1.0)  # the last one stands for no detection
    return np.asarray(scores[by] >= max(threshold, 0.0))


_PACKAGES = {"onnx": ("torch", "onnx", "onnxruntime"), "openvino": ("torch", "onnx", "openvino")}
_GOLDEN_IMAGES = 3
_CALIBRATION_IMAGES = 200  # images, evenly chosen


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: where it lies.
        proof: what was compared, and how far it agrees.
        scores: AP and AP50 of the detector, then of the exported model, on the images it was proved on.
    """

    folder: Path
    proof: dict[str, Any]
    scores: dict[str, dict[str, float | None]]


def export(
    checkpoint: Checkpoint,
    out: Path,
    *,
    runtime: str,
    int8: bool,
    size_hw: tuple[int, int],
    data: Path,
    calibration: Path | None,
    thresholds: Mapping[str, float],
    max_recall_loss: float = MAX_RECALL_LOSS,
    say: Callable[[str], None] = print,
) -> ExportResult:
    """Write a detector for another runtime, run the same evaluation on it, and keep it only if it finds the same.

    Args:
        checkpoint: the detector.
        out: folder to write; an earlier export there is replaced.
        runtime: "onnx" or "openvino".
        int8: convolutions and matrix products in 8 bits.
        size_hw: height and width in pixels of every image.
        data: COCO labels; those of its images that have this size are looked at by both.
        calibration: COCO labels whose images give int8 its ranges: training data.
        thresholds: class -> score from which on a detection counts, for what int8 may lose and for the golden images.
        max_recall_loss: share of a class's defects that int8 may lose, 0 to 1.
        say: gets a line now and then.

    Raises:
        DataError: no image of this size; or the exported model doesn't find the same, and nothing was written.
        ConfigError: a detector that can't be exported, or a package that isn't installed.
    """
    _check_free(out)
    detector = checkpoint.detector
    dataset, truth, images = _images_of_size(data, size_hw, detector.channels)
    contract = Contract.of(detector, runtime=runtime, precision="int8" if int8 else "fp32", like=images[0])
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        ranges = _calibration(calibration, size_hw, detector.channels) if int8 else []
        write_model(checkpoint, contract, part, ranges)
        write_contract(part, contract, {})
        runner = load_exported(part)
        say(f"looking at {len(images):,} images with both")
        model = checkpoint.load_model()
        ours = [detect_images(model, [image], detector.categories, max_value=detector.max_value)[0] for image in images]
        theirs = [runner(image) for image in images]
        judged = [_evaluate(found, dataset, truth) for found in (ours, theirs)]
        proof = _check_parity(ours, theirs, judged, thresholds, int8=int8, max_recall_loss=max_recall_loss)
        scores = {
            name: {key: each.summary[key] for key in ("AP", "AP50")}
            for name, each in zip(("detector", "exported"), judged)
        }
        told = {
            "thresholds": dict(thresholds),
            "proof": {"images": len(images), **proof, **scores},
            "golden": _write_golden(part, runner, images, thresholds),
            "versions": {"detect": __version__, **{name: version(name) for name in _PACKAGES[runtime]}},
        }
        write_contract(part, contract, told)
        shutil.copy(Path(__file__).parent / "examples" / f"{runtime}.txt", part / "example.py")
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ExportResult(out, proof, scores)


def _check_free(out: Path) -> None:
    if out.exists() and not (out / FILE_NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("there is something else than an export here", where=out, fix="choose another --out")


def _images_of_size(
    data: Path, size_hw: tuple[int, int], channels: int
) -> tuple[Dataset, dict[str, Any], list[Pixels]]:
    """The data set, its labels and its pixels as the graph takes them, cut down to the images of one size."""
    dataset, truth = coco.read(data), coco.load(data)
    keep = [i for i, image in enumerate(dataset.images) if (image.height, image.width) == size_hw]
    if not keep:
        sizes = sorted({f"{image.width}x{image.height}" for image in dataset.images})
        message = f"no image here has {size_hw[1]}x{size_hw[0]} px; there are {', '.join(sizes[:5])}"
        raise DataError(message, where=data, fix="give --size as the images have it, HEIGHTxWIDTH")
    ids = {truth["images"][i]["id"] for i in keep}
    kept = Dataset(tuple(dataset.images[i] for i in keep), dataset.categories)
    labels = {
        **truth,
        "images": [truth["images"][i] for i in keep],
        "annotations": [each for each in truth["annotations"] if each["image_id"] in ids],
    }
    pixels = [as_channels(read_image(image.path), channels) for image in kept.images]
    return kept, labels, [np.ascontiguousarray(each) for each in pixels]


def _calibration(data: Path | None, size_hw: tuple[int, int], channels: int) -> list[Pixels]:
    if data is None:
        message = "int8 needs training images to find the ranges of its numbers"
        raise DataError(message, fix="name their COCO labels with --calibration")
    _, _, images = _images_of_size(data, size_hw, channels)
    return images[:: max(len(images) // _CALIBRATION_IMAGES, 1)][:_CALIBRATION_IMAGES]


def write_model(checkpoint: Checkpoint, contract: Contract, folder: Path, calibration: Sequence[Pixels]) -> None:
    """Write the model's file of a contract, unproved.

    Args:
        checkpoint: the detector.
        contract: what it is to promise.
        folder: where the file goes.
        calibration: images that give int8 its ranges; none for float32.
    """
    model = checkpoint.load_model()
    graph = FixedSizeDetector(model, size_hw=contract.size_hw, channels=contract.channels, white=contract.white).eval()
    whole, small = folder / "whole.onnx", folder / "small.onnx"
    write_onnx(graph, contract, whole)
    if calibration:
        quantize(whole, small, calibration)
    made = small if calibration else whole
    if contract.runtime == "onnx":
        made.rename(folder / contract.model)
    else:
        openvino = require_package("openvino")
        openvino.save_model(openvino.convert_model(str(made)), str(folder / contract.model), compress_to_fp16=False)
    for each in (whole, small):
        each.unlink(missing_ok=True)


def _evaluate(found: Sequence[Detections], dataset: Dataset, truth: dict[str, Any]) -> Judgement:
    results = coco_results(found, dataset.category_ids())
    return judge(truth, coco.in_ids_of(truth, results, dataset))


def _check_parity(
    ours: Sequence[Detections],
    theirs: Sequence[Detections],
    judged: Sequence[Judgement],
    thresholds: Mapping[str, float],
    *,
    int8: bool,
    max_recall_loss: float,
) -> dict[str, Any]:
    if not int8:
        agreement = compare_detections(ours, theirs)
        if not agreement.holds:
            message = f"{agreement.unmatched} of {agreement.compared} detections have no like in the other's"
            raise DataError(
                f"the exported model finds something else: {message}", fix="nothing was written; report this"
            )
        return agreement.as_dict()
    lost = recall_loss(judged[0].evaluated, judged[1].evaluated, thresholds)
    over = [f"{name} {share:.1%}" for name, share in lost.items() if share is not None and share > max_recall_loss]
    if over:
        before, after = (each.summary["AP"] for each in judged)
        message = f"in int8, more than {max_recall_loss:.1%} of the defects found before are lost: {', '.join(over)}"
        message += "" if None in (before, after) else f"; AP is {after:.3f} after {before:.3f}"
        raise DataError(message, fix="nothing was written; keep fp32, or allow more with --max-recall-loss")
    return {"recall_loss": lost, "max_recall_loss": max_recall_loss}


def _write_golden(
    folder: Path, runner: Runner, images: Sequence[Pixels], thresholds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A few images with what the exported model finds in them, so that any program can be tested."""
    golden: list[dict[str, Any]] = []
    for image in images:
        found = [each for each in runner(image) if each.score >= thresholds[each.label]]
        if found and len(golden) < _GOLDEN_IMAGES:
            name = f"golden_{len(golden) + 1}.png"
            write_image(folder / name, image)
            listed = [[each.label, round(each.score, 4), [round(value, 2) for value in each.xyxy]] for each in found]
            golden.append({"file": name, "detections": listed})
    return golden
