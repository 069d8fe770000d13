"""One detector in several forms: as PyTorch runs it, compiled, or exported for another runtime, in float32 or int8."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ...checkpoint import Checkpoint
from ...errors import ConfigError
from ...export.contract import Contract, write_contract
from ...export.making import write_model
from ...export.runtimes import load
from ...images import Pixels
from ...prediction import detect_images
from ...records import Detections

Detect = Callable[[Sequence[Pixels]], Sequence[Detections]]  # a batch of arrays -> detections of each

RUNTIMES = ("eager", "compile", "onnx", "openvino")
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Variant:
    """A detector in one form, ready to be called.

    Attributes:
        system: name of the detector.
        runtime: one of ``RUNTIMES``.
        precision: one of ``PRECISIONS``; int8 only for exported models.
        threads: that it may use.
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
    """All forms that are asked for; exported files are gone afterwards.

    Args:
        name: of the system.
        checkpoint: the detector.
        runtimes, precisions, threads: every combination of these that there is.
        example: an image as the network takes it, gray or RGB, which all others are like.
        calibration: images that give int8 its ranges.

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
                    made = _exported(checkpoint, runtime, precision, example, calibration, Path(folder))
                    for count in threads:
                        variants.append(
                            Variant(name, runtime, precision, count, _one_by_one(load(made, threads=count)))
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
        found = f"torch.compile doesn't work here ({' '.join(str(error).split())[:120]})"
        raise ConfigError(found, where="--runtime", fix="install a C++ compiler, or leave compile out") from None
