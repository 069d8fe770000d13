"""Inference with exported models: their contract, and one ``Runner`` for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..data.dataset import MAX_UINT16, as_channels
from ..errors import ConfigError, DataError
from ..fileio import read_json, write_json
from ..images import Pixels
from ..models.checkpoint import DetectorSpec
from ..structures import Detections


def require_package(name: str) -> ModuleType:
    """Import a package of the extra ``export``.

    Raises:
        ConfigError: the package isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"exporting needs the package {name.partition('.')[0]}, which isn't installed"
        raise ConfigError(message, fix="install it with: pip install 'surface-detect[export]'") from None


FILE_NAME = "contract.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Contract:
    """Input and output format of an exported model.

    Attributes:
        model: name of the model file, in the same folder as the contract.
        runtime: "onnx" or "openvino".
        precision: "fp32" or "int8".
        size_hw: height and width in pixels of the image, one image per call.
        channels: 1: the array is [height, width], gray; 3: [height, width, 3], RGB.
        dtype: of the array, "uint8" or "uint16".
        white: the gray value of white.
        categories: names, starting with label 1.
    """

    model: str
    runtime: str
    precision: str
    size_hw: tuple[int, int]
    channels: int
    dtype: str
    white: int
    categories: tuple[str, ...]

    @classmethod
    def of(cls, detector: DetectorSpec, *, runtime: str, precision: str, like: Pixels) -> Contract:
        """Return a detector's contract for images of the size and dtype of ``like``, in the detector's channels."""
        is_16_bit = like.dtype == np.uint16
        return cls(
            "model.onnx" if runtime == "onnx" else "model.xml",
            runtime,
            precision,
            (like.shape[0], like.shape[1]),
            detector.channels,
            str(like.dtype),
            (detector.max_value or MAX_UINT16) if is_16_bit else 255,
            detector.categories,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.size_hw if self.channels == 1 else (*self.size_hw, 3)


def write_contract(folder: Path, contract: Contract, more: dict[str, Any]) -> None:
    """Write contract.json: the contract, the output format, and ``more``: thresholds, parity check and versions."""
    outputs = {
        "boxes": "float32[N, 4]: x1, y1, x2, y2 in pixels of the image, 0-based, x2 and y2 exclusive; best score first",
        "scores": "float32[N]: 0 to 1",
        "labels": "int64[N]: 1 is the first of categories",
    }
    write_json(
        folder / FILE_NAME,
        {"schema": SCHEMA, "input": "image", **asdict(contract), "shape": contract.shape, "outputs": outputs, **more},
        indent=1,
    )


def read_contract(folder: Path) -> tuple[Contract, dict[str, Any]]:
    """Read the contract of an exported model; returns it and the whole content of its file.

    Raises:
        DataError: the folder holds no export of this library.
    """
    path = folder / FILE_NAME
    fix = "give a folder that 'detect export' wrote"
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise KeyError
        keys = ("model", "runtime", "precision", "channels", "dtype", "white")
        height, width = content["size_hw"]
        size_hw, categories = (int(height), int(width)), tuple(map(str, content["categories"]))
        contract = Contract(**{key: content[key] for key in keys}, size_hw=size_hw, categories=categories)
    except OSError as error:
        raise DataError(f"can't read the contract ({error.strerror})", where=path, fix=fix) from None
    except (KeyError, TypeError, ValueError):
        raise DataError("the file is not the contract of an exported model", where=path, fix=fix) from None
    if Path(contract.model).name != contract.model:
        raise DataError(f"the model's name {contract.model!r:.60} is not a plain file name", where=path, fix=fix)
    return contract, content


RUNTIMES = ("onnx", "openvino")

InferFn = Callable[[Pixels], Sequence[Any]]  # array -> boxes, scores, labels


class Runner:
    """Runs an exported model.

    Attributes:
        contract: its input and output format.
        categories: names of its labels.
    """

    def __init__(self, contract: Contract, infer: InferFn) -> None:
        self.contract, self.categories = contract, contract.categories
        self._infer = infer

    def __call__(self, image: Pixels) -> Detections:
        """Return the detections of one image, best score first.

        Args:
            image: of the contract's size and dtype; gray or RGB, converted if needed.

        Raises:
            DataError: the size or dtype differs from the contract.
        """
        contract = self.contract
        if image.shape[:2] != contract.size_hw or image.dtype != np.dtype(contract.dtype):
            height, width = contract.size_hw
            message = (
                f"an image of {image.shape[1]}x{image.shape[0]} px in {image.dtype} doesn't fit the exported model"
            )
            raise DataError(message, fix=f"give {width}x{height} px in {contract.dtype}, or export with another --size")
        boxes, scores, labels = self._infer(np.ascontiguousarray(as_channels(image, contract.channels)))
        arrays = np.asarray(boxes, np.float32), np.asarray(scores, np.float32), np.asarray(labels, np.int64)
        return Detections(*arrays, self.categories)


def load_exported(folder: Path, *, threads: int = 0) -> Runner:
    """Load the model that ``detect export`` wrote into a folder.

    Args:
        folder: contains contract.json.
        threads: maximum number of threads; 0: the runtime decides.

    Raises:
        DataError: the folder holds no export, or the runtime can't load the model.
        ConfigError: the runtime isn't installed.
    """
    contract, _ = read_contract(folder)
    path = folder / contract.model
    if contract.runtime not in RUNTIMES or not path.is_file():
        message = f"the folder has no {contract.runtime} model {contract.model}"
        raise DataError(message, where=folder, fix="give a folder that 'detect export' wrote")
    load = _load_onnx if contract.runtime == "onnx" else _load_openvino
    try:
        infer = load(path, threads)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"the runtime can't load the model ({reason})", where=path, fix="export it again") from None
    return Runner(contract, infer)


def _load_onnx(path: Path, threads: int) -> InferFn:
    runtime = require_package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the only common base class of ONNX Runtime's exceptions
        raise RuntimeError(str(error)) from None
    return lambda image: list(session.run(["boxes", "scores", "labels"], {"image": image}))


def _load_openvino(path: Path, threads: int) -> InferFn:
    core = require_package("openvino").Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = model.create_infer_request()
    outputs = [model.output(name) for name in ("boxes", "scores", "labels")]

    def run(image: Pixels) -> list[Any]:
        results = request.infer({"image": image})
        return [results[output].copy() for output in outputs]

    return run
