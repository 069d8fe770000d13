"""ONNX export: a detector as one graph of fixed input shape, from the camera's array to boxes; int8 quantization."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import batched_nms, nms, roi_align

from ..errors import ConfigError
from ..images import Pixels
from ..models.faster_rcnn import StripDetector
from ..models.nms import MIN_SIDE_PX, rescore_by_overlap
from .runtimes import Contract, require_package


def onnx_nms(boxes: Tensor, scores: Tensor, iou: float, max_output: int) -> Tensor:
    """Return the indices of the boxes to keep, Int64Tensor[N], best score first, at most ``max_output``."""
    kept: Tensor = _NonMaxSuppression.apply(boxes[None], scores[None, None], max_output, iou, None)
    return kept[:, 2]


def onnx_batched_nms(
    boxes: Tensor, scores: Tensor, iou: float, score_thresh: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """NMS per class.

    Args:
        boxes: FloatTensor[N, 4], xyxy.
        scores: FloatTensor[N, classes].
        iou: IoU threshold of the NMS.
        score_thresh: scores must be above it.
        max_output: maximum boxes per class; a constant of the graph, independent of the traced image.

    Returns:
        Int64Tensor[M], indices of boxes; Int64Tensor[M], their classes, 0-based.
    """
    kept: Tensor = _NonMaxSuppression.apply(boxes[None], scores.T[None], max_output, iou, score_thresh)
    return kept[:, 2], kept[:, 1]


class _NonMaxSuppression(torch.autograd.Function):
    """FloatTensor[1, N, 4], FloatTensor[1, classes, N] -> Int64Tensor[M, 3] of 0, class and box."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, max_output: int, iou: float, score_thresh: float | None
    ) -> Tensor:
        boxes, scores = boxes[0], scores[0].T
        if scores.shape[1] == 1 and score_thresh is None:
            kept = nms(boxes, scores[:, 0], iou)[:max_output]
            return torch.stack([torch.zeros_like(kept), torch.zeros_like(kept), kept], dim=1)
        box, category = torch.where(scores > (0 if score_thresh is None else score_thresh))
        kept = batched_nms(boxes[box], scores[box, category], category, iou)
        return torch.stack([torch.zeros_like(kept), category[kept], box[kept]], dim=1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, max_output: int, iou: float, score_thresh: float | None) -> Any:
        values = [torch.tensor([max_output], dtype=torch.int64), torch.tensor([iou], dtype=torch.float32)]
        if score_thresh is not None:
            values.append(torch.tensor([score_thresh], dtype=torch.float32))
        constants = [g.op("Constant", value_t=value) for value in values]
        return g.op("NonMaxSuppression", boxes, scores, *constants)


class FixedSizeDetector(nn.Module):
    """A detector for images of one size, built from operations that every runtime supports; same detections.

    Values that depend only on the image size, such as anchors and padding, are computed once in the constructor.

    Args:
        detector: in evaluation mode.
        size_hw: height and width in pixels of every image.
        channels: 1 for gray, 3 for RGB.
        white: gray value of white: 255 for 8-bit arrays.

    Raises:
        ConfigError: the detector has memory, so that it needs more than one image.
    """

    anchors: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, detector: FasterRCNN, *, size_hw: tuple[int, int], channels: int, white: int) -> None:
        super().__init__()
        if isinstance(detector, StripDetector):
            message = "a detector with memory needs earlier frames, and an exported graph gets a single image"
            raise ConfigError(message, where="model.memory", fix="export a detector without memory")
        self.detector, self.white = detector, white
        self.size_hw, self.channels = size_hw, channels
        with torch.no_grad():
            image = torch.zeros(channels, *size_hw)
            batch, _ = detector.transform([image])
            self.inner_hw: tuple[int, int] = batch.image_sizes[0]
            padded = batch.tensors.shape[-2:]
            self.padding = (0, padded[1] - self.inner_hw[1], 0, padded[0] - self.inner_hw[0])
            maps = list(detector.backbone(batch.tensors).values())
            anchors = detector.rpn.anchor_generator(batch, maps)[0]
        levels = detector.rpn.head.levels
        anchors_per_cell = detector.rpn.anchor_generator.num_anchors_per_location()
        self.counts = [m.shape[-2] * m.shape[-1] * a for m, a in zip(maps[-levels:], anchors_per_cell)]
        self.register_buffer("anchors", anchors)
        scale = 1 / (white * torch.tensor(detector.transform.image_std))
        shift = -torch.tensor(detector.transform.image_mean) / torch.tensor(detector.transform.image_std)
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the detections of an image, best score first.

        Args:
            image: [H, W] gray or [H, W, 3] RGB, the camera's unscaled values.

        Returns:
            boxes float32[N, 4], xyxy in pixels; scores float32[N]; labels int64[N], 1-based.
        """
        features = self.detector.backbone(self._preprocess(image))
        proposals = self._proposals(list(features.values()))
        boxes, scores = self._roi_outputs(features, proposals)
        return self._postprocess(boxes, scores)

    def _preprocess(self, image: Tensor) -> Tensor:
        planes = image.float()[None] if self.channels == 1 else image.float().permute(2, 0, 1)
        x = (planes * self.scale + self.shift)[None]
        if self.inner_hw != self.size_hw:
            x = F.interpolate(x, size=self.inner_hw, mode="bilinear", align_corners=False)
        return F.pad(x, self.padding) if any(self.padding) else x

    def _proposals(self, maps: list[Tensor]) -> Tensor:
        """Return FloatTensor[N, 4], xyxy, pixels of the resized image, best score first."""
        rpn = self.detector.rpn
        objectness, offsets = rpn.head(maps)
        flat = [_permute_and_flatten(level, 1)[:, 0] for level in objectness]
        deltas = torch.cat([_permute_and_flatten(level, 4) for level in offsets])
        top_per_level, first = [], 0
        for level, count in zip(flat, self.counts):
            top = level.topk(min(rpn.pre_nms_top_n(), count)).indices
            top_per_level.append(top + first)
            first += count
        indices = torch.cat(top_per_level)
        scores = torch.cat(flat)[indices].sigmoid()
        boxes = _clip_boxes(_decode_boxes(rpn.box_coder, deltas[indices], self.anchors[indices]), self.inner_hw)
        level_of = torch.cat([torch.full((len(top),), float(i)) for i, top in enumerate(top_per_level)])
        # boxes in the padding have no area after clipping, and would count towards the maximum number of proposals
        inside = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= rpn.min_size).nonzero()[:, 0]
        boxes, scores, level_of = boxes[inside], scores[inside], level_of[inside]
        shifted = boxes + (level_of * (max(self.inner_hw) + 1))[:, None]  # NMS per level: levels don't overlap
        kept = onnx_nms(shifted, scores, rpn.nms_thresh, rpn.post_nms_top_n())
        return boxes[kept]

    def _roi_outputs(self, features: dict[str, Tensor], proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes FloatTensor[N, 4] and scores FloatTensor[N, classes] of the proposals."""
        heads = self.detector.roi_heads
        scores = []
        for stage in heads.stages():
            output = stage(self._roi_align(features, proposals))
            proposals = _clip_boxes(_decode_boxes(heads.box_coder, output.deltas, proposals), self.inner_hw)
            scores.append(heads.class_scores(output))
        return proposals, scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)

    def _roi_align(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Pool each box on the FPN level of its size: FloatTensor[N, channels, pool, pool]."""
        pool = self.detector.roi_heads.box_roi_pool
        maps = [features[name] for name in pool.featmap_names]
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        side, samples = pool.output_size[0], pool.sampling_ratio
        if len(maps) == 1:
            return torch.as_tensor(roi_align(maps[0], rois, side, pool.scales[0], samples))
        mapper = pool.map_levels
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(mapper.lvl0 + torch.log2(area.sqrt() / mapper.s0) + mapper.eps)
        level = level.clamp(mapper.k_min, mapper.k_max) - mapper.k_min
        pooled, positions = [], []
        for number, (features_of_level, scale) in enumerate(zip(maps, pool.scales)):
            on_level = (level == number).nonzero()[:, 0]
            pooled.append(roi_align(features_of_level, rois[on_level], side, scale, samples))
            positions.append(on_level)
        original_order = torch.cat(positions).argsort()
        return torch.cat(pooled)[original_order]

    def _postprocess(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.detector.roi_heads
        is_valid = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIDE_PX
        scores = torch.where(is_valid[:, None] & (scores > heads.score_thresh), scores, 0.0)
        scores, class_boxes = rescore_by_overlap(boxes, scores, nms_method=heads.nms_method, voting=heads.voting)
        if heads.nms_method != "hard":
            proposal, category = (scores > heads.score_thresh).nonzero().unbind(dim=1)
        else:
            max_output = self.detector.rpn.post_nms_top_n()
            proposal, category = onnx_batched_nms(boxes, scores, heads.nms_thresh, heads.score_thresh, max_output)
        kept_scores = scores[proposal, category]
        order = kept_scores.argsort(descending=True)[: heads.detections_per_img]
        ratio_y, ratio_x = (size / inner for size, inner in zip(self.size_hw, self.inner_hw))
        to_image = torch.tensor([ratio_x, ratio_y, ratio_x, ratio_y])
        final_boxes = _clip_boxes(class_boxes[category[order], proposal[order]] * to_image, self.size_hw)
        return final_boxes, kept_scores[order], category[order] + 1


def _permute_and_flatten(level: Tensor, values: int) -> Tensor:
    """FloatTensor[1, anchors * values, H, W] -> [H * W * anchors, values], in row-major order of the cells."""
    _, planes, height, width = level.shape
    by_cell = level.view(planes // values, values, height, width).permute(2, 3, 0, 1)
    return by_cell.reshape(-1, values)


def _decode_boxes(coder: Any, offsets: Tensor, boxes: Tensor) -> Tensor:
    return torch.as_tensor(coder.decode_single(offsets, boxes))


def _clip_boxes(boxes: Tensor, size_hw: Sequence[int]) -> Tensor:
    height, width = size_hw
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


OPSET = 17
_OUTPUTS = ("boxes", "scores", "labels")


def write_onnx(graph: FixedSizeDetector, contract: Contract, path: Path) -> None:
    """Write the graph as ONNX; the file's metadata holds the categories and the gray value of white."""
    onnx = require_package("onnx")
    example = torch.zeros(contract.shape, dtype=torch.uint8)
    with torch.no_grad(), _silence_exporters():
        torch.onnx.export(
            graph,
            (example,),
            str(path),
            dynamo=False,  # the dynamo exporter doesn't support the NMS above
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(_OUTPUTS),
            dynamic_axes={name: {0: "detections"} for name in _OUTPUTS},
        )
    model = onnx.load(str(path))
    if contract.dtype == "uint16":  # tracing uses uint8; the graph's first step, a cast, accepts both
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT16
    metadata = {"categories": "\n".join(contract.categories), "white": str(contract.white), "made_by": "detect export"}
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def quantize(source: Path, target: Path, images: Sequence[Pixels]) -> None:
    """Write an int8 copy: convolutions and matrix products in 8 bits, with ranges from calibration images.

    The output layers of the heads stay in float32: rounding affects box deltas and scores near a threshold most.

    Args:
        source: ONNX file in float32.
        target: file to write.
        images: training images in the graph's input format.
    """
    quantization = require_package("onnxruntime.quantization")
    prepared = target.with_suffix(".prepared.onnx")
    try:
        with _silence_exporters():
            require_package("onnxruntime.quantization.shape_inference").quant_pre_process(
                str(source), str(prepared), skip_symbolic_shape=True
            )
            quantization.quantize_static(
                str(prepared),
                str(target),
                _CalibrationReader(images),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                nodes_to_exclude=_output_layers(str(prepared)),
                per_channel=True,
                reduce_range=True,  # 7 bits: processors without VNNI saturate at 8 bits
            )
    finally:
        prepared.unlink(missing_ok=True)


class _CalibrationReader:
    """Supplies the calibration images one by one, in the interface of ONNX Runtime's quantizer."""

    def __init__(self, images: Sequence[Pixels]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def _output_layers(path: str) -> list[str]:
    """Names of the nodes of the layers that output logits and deltas, of RPN and box heads."""
    layers = {"cls_logits", "bbox_pred", "score", "offset", "iou_score"}
    nodes = require_package("onnx").load(path).graph.node
    weighted = ("Conv", "MatMul", "Gemm")
    return [node.name for node in nodes if node.op_type in weighted and not layers.isdisjoint(node.name.split("/"))]


@contextmanager
def _silence_exporters() -> Iterator[None]:
    """Silence warnings of the tracer and the quantizer, which don't concern this graph."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
