"""Writing the graph as ONNX, in float32 or in int8."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ..images import Pixels
from .contract import Contract
from .graph import FixedGraph
from .packages import needed

OPSET = 17
_OUTPUTS = ("boxes", "scores", "labels")


def write_onnx(graph: FixedGraph, contract: Contract, path: Path) -> None:
    """Write the graph, its contract's essentials in the file's metadata."""
    onnx = needed("onnx")
    example = torch.zeros(contract.shape, dtype=torch.uint8)
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            graph,
            (example,),
            str(path),
            dynamo=False,  # the other exporter doesn't know the choice of proposals
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(_OUTPUTS),
            dynamic_axes={name: {0: "detections"} for name in _OUTPUTS},
        )
    model = onnx.load(str(path))
    if contract.dtype == "uint16":  # which the tracer can't say; the graph's first step, a cast, takes either
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT16
    told = {"categories": "\n".join(contract.categories), "white": str(contract.white), "made_by": "detect export"}
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def quantize(source: Path, target: Path, images: Sequence[Pixels]) -> None:
    """An int8 copy: convolutions and matrix products in 8 bits, by the ranges that calibration images give.

    The outputs of the heads stay in float32: offsets of boxes and scores near a threshold suffer most from rounding.

    Args:
        source: ONNX file in float32.
        target: file to write.
        images: as the graph takes them, of the training data.
    """
    quantization = needed("onnxruntime.quantization")
    prepared = target.with_suffix(".prepared.onnx")
    try:
        with _quiet():
            needed("onnxruntime.quantization.shape_inference").quant_pre_process(
                str(source), str(prepared), skip_symbolic_shape=True
            )
            quantization.quantize_static(
                str(prepared),
                str(target),
                _Calibration(images),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                nodes_to_exclude=_last_layers(str(prepared)),
                per_channel=True,
                reduce_range=True,  # processors without VNNI saturate in 8 full bits
            )
    finally:
        prepared.unlink(missing_ok=True)


class _Calibration:
    """Images one by one, as the quantizer asks for them."""

    def __init__(self, images: Sequence[Pixels]) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": image}


def _last_layers(path: str) -> list[str]:
    """Nodes of the layers that give logits and offsets: of the proposals, and of the boxes."""
    named = ("cls_logits", "bbox_pred", "score", "offset", "quality")
    nodes = needed("onnx").load(path).graph.node
    weights = ("Conv", "MatMul", "Gemm")
    return [n.name for n in nodes if n.op_type in weights and any(each in n.name.split("/") for each in named)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's and the quantizer's remarks, which say nothing about this graph."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
