"""Exported models at work: ONNX Runtime and OpenVINO behind one call, an array in and detections out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import as_channels
from ..errors import DataError
from ..images import Pixels
from ..records import Detections
from .contract import Contract, read_contract
from .packages import needed

RUNTIMES = ("onnx", "openvino")

Raw = Callable[[Pixels], Sequence[Any]]  # array -> boxes, scores, labels


class Runner:
    """An exported model.

    Attributes:
        contract: what it takes and gives.
        categories: names of its labels.
    """

    def __init__(self, contract: Contract, raw: Raw) -> None:
        self.contract, self.categories = contract, contract.categories
        self._raw = raw

    def __call__(self, image: Pixels) -> Detections:
        """Detections of one image, best first.

        Args:
            image: of the contract's size and depth; gray or RGB as it may be.

        Raises:
            DataError: another size or depth.
        """
        contract = self.contract
        if image.shape[:2] != contract.size_hw or image.dtype != np.dtype(contract.dtype):
            height, width = contract.size_hw
            found = f"an image of {image.shape[1]}x{image.shape[0]} px in {image.dtype} doesn't fit the exported model"
            raise DataError(found, fix=f"give {width}x{height} px in {contract.dtype}, or export with another --size")
        boxes, scores, labels = self._raw(np.ascontiguousarray(as_channels(image, contract.channels)))
        arrays = np.asarray(boxes, np.float32), np.asarray(scores, np.float32), np.asarray(labels, np.int64)
        return Detections(*arrays, self.categories)


def load(folder: Path, *, threads: int = 0) -> Runner:
    """The model that ``detect export`` wrote into a folder.

    Args:
        folder: with contract.json in it.
        threads: that it may use; 0: as many as the runtime likes.

    Raises:
        DataError: no export, or a model that its runtime refuses.
        ConfigError: the runtime isn't installed.
    """
    contract, _ = read_contract(folder)
    path = folder / contract.model
    if contract.runtime not in RUNTIMES or not path.is_file():
        found = f"there is no {contract.runtime} model {contract.model}"
        raise DataError(found, where=folder, fix="give a folder that 'detect export' wrote")
    opened = _onnx if contract.runtime == "onnx" else _openvino
    try:
        raw = opened(path, threads)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"the runtime can't load the model ({reason})", where=path, fix="export it again") from None
    return Runner(contract, raw)


def _onnx(path: Path, threads: int) -> Raw:
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common parent but this one
        raise RuntimeError(str(error)) from None
    return lambda image: list(session.run(["boxes", "scores", "labels"], {"image": image}))


def _openvino(path: Path, threads: int) -> Raw:
    core = needed("openvino").Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = model.create_infer_request()
    outputs = [model.output(name) for name in ("boxes", "scores", "labels")]

    def run(image: Pixels) -> list[Any]:
        found = request.infer({"image": image})
        return [found[output].copy() for output in outputs]

    return run
