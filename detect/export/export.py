"""``export``: writes model file, contract, golden images and an example atomically, after a parity check."""

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
from ..data.dataset import as_channels, evenly_spaced
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

MIN_COMPARED_SCORE = 0.05  # minimum score of the detections that must have a match
TOLERANCE_PX = 0.1  # maximum difference of each box edge, pixels
TOLERANCE_SCORE = 0.001  # maximum difference of scores
MAX_RECALL_LOSS = 0.02  # maximum share of a class's defects that int8 may lose


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of the detections of two detectors.

    Attributes:
        compared: number of detections of both with a score of at least ``MIN_COMPARED_SCORE``.
        unmatched: number of those without a match of the same class within the tolerances.
        largest_px: largest difference of an edge among matched detections, pixels.
        largest_score: largest difference of a score among matched detections.
    """

    compared: int
    unmatched: int
    largest_px: float
    largest_score: float

    @property
    def holds(self) -> bool:
        """Whether every compared detection has a match."""
        return self.unmatched == 0

    def as_dict(self) -> dict[str, Any]:
        """Return the values and the tolerances as plain JSON values."""
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
    """Compare two detectors image by image; each detection is matched with all detections of the other.

    Args:
        ours, theirs: one entry per image, in the same order.
    """
    compared, unmatched, largest_px, largest_score = 0, 0, 0.0, 0.0
    for one, other in zip(ours, theirs):
        for queries, references in ((one, other), (other, one)):
            is_compared = queries.scores >= MIN_COMPARED_SCORE
            difference_px, difference_score = _nearest_distance(queries, references)
            is_match = (difference_px <= TOLERANCE_PX) & (difference_score <= TOLERANCE_SCORE)
            matched = is_compared & is_match
            compared += int(is_compared.sum())
            unmatched += int((is_compared & ~is_match).sum())
            largest_px = max(largest_px, float(difference_px[matched].max(initial=0)))
            largest_score = max(largest_score, float(difference_score[matched].max(initial=0)))
    return Parity(compared, unmatched, largest_px, largest_score)


def _nearest_distance(queries: Detections, references: Detections) -> tuple[Any, Any]:
    """Largest edge difference, pixels, and score difference of each query to the nearest reference of its class."""
    if not len(references) or not len(queries):
        return np.full(len(queries), np.inf), np.full(len(queries), np.inf)
    px = np.abs(queries.boxes_xyxy[:, None] - references.boxes_xyxy[None]).max(axis=2).astype(np.float64)
    px[queries.labels[:, None] != references.labels[None]] = np.inf
    nearest = px.argmin(axis=1)
    return px.min(axis=1), np.abs(queries.scores - references.scores[nearest])


def recall_loss(
    before: CocoEvaluation, after: CocoEvaluation, thresholds: Mapping[str, float]
) -> dict[str, float | None]:
    """Return the decrease of recall per class, 0 to 1, negative if recall increased; None for a class without defects.

    Args:
        before, after: two evaluations with the same labels.
        thresholds: class -> minimum score of a detection.
    """
    lost: dict[str, float | None] = {}
    for number, name in enumerate(before.truth.categories):
        of_class = (before.truth.category == number) & ~before.truth.crowd
        detected = [int(_is_detected(each, thresholds[name])[of_class].sum()) for each in (before, after)]
        lost[name] = (detected[0] - detected[1]) / int(of_class.sum()) if of_class.any() else None
    return lost


def _is_detected(evaluated: CocoEvaluation, threshold: float) -> NDArray[np.bool_]:
    """bool[labels]: whether a detection with at least this score matches the label with an IoU of at least 0.5."""
    detection = evaluated.matches.matched_detection[0]  # -1: none
    scores = np.append(evaluated.found.scores, -1.0)  # index -1 gives the score of no detection
    return np.asarray(scores[detection] >= max(threshold, 0.0))


_PACKAGES = {"onnx": ("torch", "onnx", "onnxruntime"), "openvino": ("torch", "onnx", "openvino")}
_GOLDEN_IMAGES = 3
_CALIBRATION_IMAGES = 200  # maximum, evenly spaced


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: of the export.
        proof: result of the parity check.
        scores: AP and AP50 of the detector, then of the exported model, on the images of the check.
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
    """Export a detector to another runtime, evaluate both, and keep the export only if the detections agree.

    Args:
        checkpoint: the detector.
        out: folder to write; an earlier export there is replaced.
        runtime: "onnx" or "openvino".
        int8: convolutions and matrix products in 8 bits.
        size_hw: height and width in pixels of every image.
        data: COCO labels; both models are evaluated on its images of this size.
        calibration: COCO labels of training images that give int8 its ranges.
        thresholds: class -> minimum score of a detection, for the recall loss of int8 and for the golden images.
        max_recall_loss: maximum share of a class's defects that int8 may lose, 0 to 1.
        say: called with progress messages.

    Raises:
        DataError: there is no image of this size, or the detections differ, in which case nothing is written.
        ConfigError: the detector can't be exported, or a package isn't installed.
    """
    out = out.absolute()
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
        say(f"running both models on {len(images):,} images")
        model = checkpoint.load_model()
        ours = [detect_images(model, [image], detector.categories, max_value=detector.max_value)[0] for image in images]
        theirs = [runner(image) for image in images]
        evaluations = [_evaluate(detections, dataset, truth) for detections in (ours, theirs)]
        proof = _check_parity(ours, theirs, evaluations, thresholds, int8=int8, max_recall_loss=max_recall_loss)
        scores = {
            name: {key: each.summary[key] for key in ("AP", "AP50")}
            for name, each in zip(("detector", "exported"), evaluations)
        }
        content = {
            "thresholds": dict(thresholds),
            "proof": {"images": len(images), **proof, **scores},
            "golden": _write_golden(part, runner, images, thresholds),
            "versions": {"detect": __version__, **{name: version(name) for name in _PACKAGES[runtime]}},
        }
        write_contract(part, contract, content)
        shutil.copy(Path(__file__).parent / "examples" / f"{runtime}.txt", part / "example.py")
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ExportResult(out, proof, scores)


def _check_free(out: Path) -> None:
    if out.exists() and not (out / FILE_NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("the folder holds something other than an export", where=out, fix="choose another --out")


def _images_of_size(
    data: Path, size_hw: tuple[int, int], channels: int
) -> tuple[Dataset, dict[str, Any], list[Pixels]]:
    """Read the images of one size: the data set, its labels, and its pixels in the graph's channels."""
    dataset, truth = coco.read(data), coco.load(data)
    keep = [i for i, image in enumerate(dataset.images) if (image.height, image.width) == size_hw]
    if not keep:
        sizes = sorted({f"{image.width}x{image.height}" for image in dataset.images})
        message = f"no image has {size_hw[1]}x{size_hw[0]} px; the sizes are {', '.join(sizes[:5])}"
        raise DataError(message, where=data, fix="give --size of the images, HEIGHTxWIDTH")
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
        message = "int8 needs training images for the ranges of its values"
        raise DataError(message, fix="name their COCO labels with --calibration")
    _, _, images = _images_of_size(data, size_hw, channels)
    return [images[i] for i in evenly_spaced(len(images), _CALIBRATION_IMAGES)]


def write_model(checkpoint: Checkpoint, contract: Contract, folder: Path, calibration: Sequence[Pixels]) -> None:
    """Write the model file of a contract, without a parity check.

    Args:
        checkpoint: the detector.
        contract: of the export.
        folder: of the file.
        calibration: images that give int8 its ranges; empty for float32.
    """
    model = checkpoint.load_model()
    graph = FixedSizeDetector(model, size_hw=contract.size_hw, channels=contract.channels, white=contract.white).eval()
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    write_onnx(graph, contract, fp32)
    is_int8 = contract.precision == "int8"
    if is_int8:
        quantize(fp32, int8, calibration)
    source = int8 if is_int8 else fp32
    if contract.runtime == "onnx":
        source.rename(folder / contract.model)
    else:
        openvino = require_package("openvino")
        openvino.save_model(openvino.convert_model(str(source)), str(folder / contract.model), compress_to_fp16=False)
    for path in (fp32, int8):
        path.unlink(missing_ok=True)


def _evaluate(detections: Sequence[Detections], dataset: Dataset, truth: dict[str, Any]) -> Judgement:
    results = coco_results(detections, dataset.category_ids())
    return judge(truth, coco.in_ids_of(truth, results, dataset))


def _check_parity(
    ours: Sequence[Detections],
    theirs: Sequence[Detections],
    evaluations: Sequence[Judgement],
    thresholds: Mapping[str, float],
    *,
    int8: bool,
    max_recall_loss: float,
) -> dict[str, Any]:
    if not int8:
        parity = compare_detections(ours, theirs)
        if not parity.holds:
            message = f"{parity.unmatched} of {parity.compared} detections have no match in the other model's"
            raise DataError(f"the exported model differs: {message}", fix="nothing was written; report this")
        return parity.as_dict()
    lost = recall_loss(evaluations[0].evaluated, evaluations[1].evaluated, thresholds)
    over = [f"{name} {share:.1%}" for name, share in lost.items() if share is not None and share > max_recall_loss]
    if over:
        before, after = (each.summary["AP"] for each in evaluations)
        message = f"int8 loses more than {max_recall_loss:.1%} of a class's defects: {', '.join(over)}"
        message += "" if None in (before, after) else f"; AP is {after:.3f} instead of {before:.3f}"
        raise DataError(message, fix="nothing was written; keep fp32, or allow more with --max-recall-loss")
    return {"recall_loss": lost, "max_recall_loss": max_recall_loss}


def _write_golden(
    folder: Path, runner: Runner, images: Sequence[Pixels], thresholds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Write a few images and the exported model's detections in them, as a test for programs that use the model."""
    golden: list[dict[str, Any]] = []
    for image in images:
        detections = [each for each in runner(image) if each.score >= thresholds[each.label]]
        if detections and len(golden) < _GOLDEN_IMAGES:
            name = f"golden_{len(golden) + 1}.png"
            write_image(folder / name, image)
            rows = [[each.label, round(each.score, 4), [round(value, 2) for value in each.xyxy]] for each in detections]
            golden.append({"file": name, "detections": rows})
    return golden
