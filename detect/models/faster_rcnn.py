"""Faster R-CNN: backbone, FPN, RPN and RoI heads assembled on torchvision's FasterRCNN, for images and strips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image

from ..config.schema import MemoryConfig, ModelConfig, RoiConfig
from ..errors import ConfigError
from .anchors import AnchorShapes, ShapeAnchorGenerator
from .fpn import FeaturePyramid, build_pyramid
from .layers import convert_norm
from .recurrent import Memory, MemoryState, state_features
from .roi_heads import BoxHead, BoxPredictor, CascadeRoIHeads, CascadeStage, PyramidRoIAlign
from .rpn import LightRPNHead, SparseRegionProposalNetwork


class ClippingRCNNTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's input transform; clips boxes to the images, as rounding can exceed the border by 1e-4 pixels."""

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Scale ``boxes``, FloatTensor[N, 4], from ``image_shapes`` to the original (height, width) and clip them."""
        detections: list[dict[str, Tensor]] = super().postprocess(result, image_shapes, original_image_sizes)
        for each, size_hw in zip(detections, original_image_sizes):
            each["boxes"] = clip_boxes_to_image(each["boxes"], size_hw)
        return detections


class NativeSizeTransform(ClippingRCNNTransform):
    """``ClippingRCNNTransform`` without resizing (torchvision resizes the shorter side to 800 pixels by default)."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return image and target unchanged."""
        return image, target


def detect_from_features(
    model: FasterRCNN,
    features: dict[str, Tensor],
    batch: ImageList,
    sizes_hw: Sequence[tuple[int, int]],
    max_proposals: int | None = None,
) -> list[dict[str, Tensor]]:
    """Detections from the features of a batch. The model is not modified, so threads can share it.

    Args:
        model: in evaluation mode.
        features: of the pyramid, {name: FloatTensor[B, channels, H, W]}.
        batch: output of ``model.transform``.
        sizes_hw: height and width in pixels of each image before the transform.
        max_proposals: maximum number of proposals per image, highest scores first; None: all of the RPN.

    Returns:
        Per image ``boxes`` FloatTensor[N, 4] (xyxy, pixels), ``labels`` Int64Tensor[N] and ``scores`` FloatTensor[N].
    """
    proposals, _ = model.rpn(batch, features)
    proposals = [image_proposals[:max_proposals] for image_proposals in proposals]
    detections, _ = model.roi_heads(features, proposals, batch.image_sizes)
    return list(model.transform.postprocess(detections, batch.image_sizes, list(sizes_hw)))


# boxes FloatTensor[N, 4] (xyxy, pixels), labels Int64Tensor[N], scores FloatTensor[N]
DetectionDict = dict[str, Tensor]


class Detector(FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """torchvision's FasterRCNN (Ren et al. 2015), constructed from given modules instead of building its own.

    Args:
        backbone: backbone and pyramid, images FloatTensor[B, channels, H, W] -> {name: FloatTensor[B, C, h, w]}.
        rpn: features -> proposals.
        roi_heads: features and proposals -> detections.
        transform: images -> batch, and boxes back to pixels of the original images.
    """

    def __init__(
        self, backbone: nn.Module, rpn: nn.Module, roi_heads: nn.Module, transform: GeneralizedRCNNTransform
    ) -> None:
        super(FasterRCNN, self).__init__(backbone, rpn, roi_heads, transform)


class StripDetector(Detector):
    """A detector with a recurrent memory between pyramid and heads, for the frames of a moving strip.

    It trains on whole clips and runs frame by frame with a state (``step``). Called on single images, it treats each
    as the first frame of a strip.

    Args:
        parts: as for ``Detector``; ``backbone`` is used for key frames.
        memory: recurrent module between pyramid and heads.
        light: a cheaper pyramid with the same levels and channels, for the frames between key frames (Liu et al.
            2019); None: every frame is a key frame.
        light_proposals: number of proposals per frame for the box head when the light pyramid is used.
        light_share: fraction of frames after the first of a clip that use the light pyramid in training.
        predicted_share: fraction of frames after the first of a clip whose features are predicted from the state in
            training, without their image.
    """

    def __init__(
        self,
        *parts: Any,
        memory: Memory,
        light: FeaturePyramid | None,
        light_proposals: int,
        light_share: float,
        predicted_share: float,
    ) -> None:
        super().__init__(*parts)
        self.memory, self.light = memory, light
        self.light_proposals, self.light_share, self.predicted_share = light_proposals, light_share, predicted_share

    def forward(
        self,
        images: list[Tensor],
        targets: list[dict[str, Tensor]] | None = None,
        *,
        clip_length: int = 1,
        motion_xy: Tensor | None = None,
    ) -> dict[str, Tensor] | list[DetectionDict]:
        """Losses in training, detections in evaluation.

        Args:
            images: FloatTensor[channels, H, W] each, 0 to 1, clip after clip; in training all of the same size.
            targets: boxes and labels of each image, in training.
            clip_length: frames per clip.
            motion_xy: FloatTensor[len(images), 2], motion of the surface in pixels (right, down) since the previous
                frame; required if ``clip_length`` is above 1.
        """
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets)
        resized_xy = None if motion_xy is None else _scale_motion(motion_xy, batch, sizes[0])
        features = self._clip_features(batch.tensors, clip_length, resized_xy)
        proposals, proposal_losses = self.rpn(batch, features, targets)
        detections, losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        if self.training:
            return {**losses, **proposal_losses}
        return list(self.transform.postprocess(detections, batch.image_sizes, sizes))

    def step(
        self, image: Tensor, state: MemoryState | None, motion_xy: Tensor, *, light: bool = False
    ) -> tuple[DetectionDict, MemoryState]:
        """Detections of the next frame, and the state after it.

        Args:
            image: FloatTensor[channels, H, W], 0 to 1.
            state: after the previous frame; None at the start of a strip.
            motion_xy: FloatTensor[2], motion of the surface in pixels (right, down) since the previous frame.
            light: use the light pyramid, if the detector has one; ignored at the start of a strip.
        """
        batch, _ = self.transform([image])
        light_pyramid = self.light if light and state is not None else None
        pyramid = self.backbone if light_pyramid is None else light_pyramid
        max_proposals = None if light_pyramid is None else self.light_proposals
        new_state = self.memory(pyramid(batch.tensors), state, _scale_motion(motion_xy, batch, image.shape[-2:]))
        return self._detect(new_state, batch, tuple(image.shape[-2:]), max_proposals), new_state

    def predict_next(
        self, state: MemoryState, motion_xy: Tensor, size_hw: tuple[int, int]
    ) -> tuple[DetectionDict, MemoryState]:
        """Detections predicted for the next frame without its image, and the state shifted to it.

        Args:
            state: after the previous frame.
            motion_xy: FloatTensor[2], motion of the surface in pixels (right, down) until the next frame.
            size_hw: height and width of the frame in pixels.
        """
        first = state[self.memory.names[0]]
        blank, _ = self.transform([first.new_zeros(self._channels, *size_hw)])
        next_state = self.memory.predict_next(state, _scale_motion(motion_xy, blank, size_hw))
        return self._detect(next_state, blank, size_hw, None), next_state

    @property
    def _channels(self) -> int:
        return len(self.transform.image_mean)

    def _detect(
        self, state: MemoryState, batch: ImageList, size_hw: tuple[int, ...], max_proposals: int | None
    ) -> DetectionDict:
        sizes_hw = [(size_hw[0], size_hw[1])]
        return detect_from_features(self, state_features(state), batch, sizes_hw, max_proposals)[0]

    def _clip_features(self, tensors: Tensor, clip_length: int, motion_xy: Tensor | None) -> dict[str, Tensor]:
        """Features of all frames after the memory, in the order of the images."""
        full = _split_frames(self.backbone(tensors), clip_length)
        if clip_length == 1:
            return state_features(self.memory(full[0], None, tensors.new_zeros(len(tensors), 2)))
        assert motion_xy is not None, "clips need the motion between their frames"
        motions = motion_xy.to(tensors).reshape(-1, clip_length, 2).unbind(1)
        light = _split_frames(self.light(tensors), clip_length) if self.light is not None and self.training else None
        state, frames = None, []
        for number, motion in enumerate(motions):
            mode = float(torch.rand(())) if self.training and number > 0 else 1.0
            if state is not None and mode < self.predicted_share:
                state = self.memory.predict_next(state, motion)
            elif light is not None and mode < self.predicted_share + self.light_share:
                state = self.memory(light[number], state, motion)
            else:
                state = self.memory(full[number], state, motion)
            frames.append(state_features(state))
        return {name: torch.stack([frame[name] for frame in frames], dim=1).flatten(0, 1) for name in frames[0]}


def detect_single_images(model: FasterRCNN, images: list[Tensor], proposals: int) -> list[DetectionDict]:
    """Like ``model(images)`` in evaluation mode, but with at most ``proposals`` proposals per image."""
    batch, _ = model.transform(images)
    if isinstance(model, StripDetector):
        features = model._clip_features(batch.tensors, 1, None)
    else:
        features = model.backbone(batch.tensors)
    sizes_hw = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    return detect_from_features(model, features, batch, sizes_hw, proposals)


def _scale_motion(motion_xy: Tensor, batch: ImageList, size_hw: Sequence[int]) -> Tensor:
    """Motion in pixels of the original frames, FloatTensor[..., 2], -> of the resized ones, FloatTensor[1, ..., 2]."""
    (height, width), (resized_height, resized_width) = size_hw, batch.image_sizes[0]
    factors = torch.tensor([resized_width / width, resized_height / height]).to(batch.tensors)
    return (motion_xy.to(batch.tensors) * factors)[None]


def _build_memory(
    config: MemoryConfig, model: ModelConfig, pyramid: FeaturePyramid, in_channels: int
) -> dict[str, Any]:
    """Keyword arguments of StripDetector: memory and light pyramid with random weights, and their settings.

    Raises:
        ConfigError: the strides of the light backbone differ from those of the full one.
    """
    light = None
    if config.light is not None:
        light = build_pyramid(model.model_copy(update={"backbone": config.light, "scan": None}), in_channels)
        if light.strides != pyramid.strides:
            message = f"the light backbone has strides {light.strides}, the full one {pyramid.strides}"
            raise ConfigError(message, where="model.memory.light", fix="give both the same number of stages")
    return {
        "memory": Memory(pyramid.out_channels, pyramid.strides, pyramid.names, stateful=config.kind == "gru"),
        "light": light,
        "light_proposals": config.light_proposals,
        "light_share": config.light_share,
        "predicted_share": config.predicted_share,
    }


def _split_frames(features: dict[str, Tensor], clip_length: int) -> Sequence[dict[str, Tensor]]:
    """{name: [clips * frames, ...]} -> one {name: [clips, ...]} per frame."""
    clips = {name: level.reshape(-1, clip_length, *level.shape[1:]) for name, level in features.items()}
    return [{name: level[:, number] for name, level in clips.items()} for number in range(clip_length)]


_MAX_SIZE = 10**9  # pixels of the longer side: no limit, so that long strips keep their configured size
_SIZE_DIVISIBLE = 8  # pixels; the 200-pixel images of NEU need no padding, with 32 they would cost 1/4 more


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """One row of the model summary."""

    name: str
    description: str
    parameters: int
    trains: bool


def build_detector(
    model: ModelConfig,
    *,
    classes: int,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    shapes: AnchorShapes,
) -> FasterRCNN:
    """Assemble a detector with random weights and run it once on a blank image.

    Args:
        model: widths and settings of every part.
        classes: number of categories without background.
        channels: 1 for gray, 3 for RGB.
        mean, std: normalisation per channel, in 0 to 1.
        shapes: anchors, [level][anchor](width, height) in pixels.

    Returns:
        A torchvision FasterRCNN: list of FloatTensor[channels, H, W] in 0 to 1 -> losses or detections.

    Raises:
        ConfigError: parts that don't fit together, with the key to change.
    """
    pyramid = build_pyramid(model, channels)
    roi, rpn = model.roi, model.rpn
    strides = _rpn_strides(pyramid.strides, rpn.finest_stride)
    check_anchors(shapes, strides)
    pool = PyramidRoIAlign(
        pyramid.names,
        pyramid.strides,
        output_size=roi.pool,
        sampling_ratio=roi.sampling,
        canonical_side=roi.canonical_side,
    )
    first, *refinement = [_build_stage(roi, pyramid.out_channels, classes) for _ in range(roi.stages)]
    detector_class: Callable[..., Detector] = Detector
    if model.memory is not None:
        detector_class = partial(StripDetector, **_build_memory(model.memory, model, pyramid, channels))
    proposals = {"training": rpn.proposals_train, "testing": rpn.proposals_test}
    region_proposals = SparseRegionProposalNetwork(
        ShapeAnchorGenerator(shapes, strides),
        LightRPNHead(
            pyramid.out_channels,
            len(shapes[0]),
            convs=rpn.convs,
            separable=rpn.kernel == "separable",
            levels=len(strides),
        ),
        rpn.fg_iou,
        rpn.bg_iou,
        rpn.batch_per_image,
        rpn.positive_fraction,
        proposals,  # per level, before NMS
        proposals,  # per image, after NMS
        rpn.nms_iou,
    )
    heads = CascadeRoIHeads(
        pool,
        first.head,
        first.predictor,
        fg_iou_thresh=roi.fg_iou,
        bg_iou_thresh=roi.fg_iou,
        batch_size_per_image=roi.batch_per_image,
        positive_fraction=roi.positive_fraction,
        bbox_reg_weights=None,
        score_thresh=roi.score_threshold,
        nms_thresh=roi.nms_iou,
        detections_per_img=roi.max_detections,
        refinement=refinement,
        num_denoising_boxes=roi.num_denoising_boxes,
        box_noise_scale=roi.box_noise_scale,
        box_loss=roi.box_loss,
        box_loss_weight=roi.box_loss_weight,
        label_smoothing=roi.label_smoothing,
        iou_score_weight=roi.iou_score_weight,
        nms_method=roi.nms,
        voting=roi.box_voting,
    )
    transform_class = NativeSizeTransform if model.input_size is None else ClippingRCNNTransform
    min_size = model.input_size or 1  # NativeSizeTransform ignores it
    transform = transform_class(min_size, _MAX_SIZE, list(mean), list(std), size_divisible=_SIZE_DIVISIBLE)
    detector = detector_class(pyramid, region_proposals, heads, transform)
    convert_norm(detector, model.norm)
    detector.to(memory_format=torch.channels_last)  # convolutions and norms are 25 % faster on a CPU
    check_detector(detector, channels)
    return detector


def _build_stage(roi: RoiConfig, channels: int, classes: int) -> CascadeStage:
    head = BoxHead(
        channels, roi.pool, convs=roi.convs, conv_width=roi.conv_width, fc_width=roi.fc_width, dropout=roi.dropout
    )
    return CascadeStage(head, BoxPredictor(roi.fc_width, classes, predict_iou=roi.iou_score_weight > 0))


def proposal_strides(model: ModelConfig, channels: int) -> list[int]:
    """Strides of the levels with anchors, in pixels per cell, finest first; allocates no weights.

    Raises:
        ConfigError: a backbone, pyramid or scan that can't be built, or no level with anchors.
    """
    with torch.device("meta"):
        return _rpn_strides(build_pyramid(model, channels).strides, model.rpn.finest_stride)


def _rpn_strides(strides: Sequence[int], finest: int | None) -> list[int]:
    rpn_strides = [stride for stride in strides if stride >= (finest or 0)]
    if not rpn_strides:
        message = f"no level would have anchors: the pyramid has strides {', '.join(map(str, strides))}"
        raise ConfigError(message, where="model.rpn.finest_stride", fix="choose one of these")
    return rpn_strides


def check_anchors(shapes: AnchorShapes, strides: Sequence[int]) -> None:
    """Check that there is one list of anchors per level, all of the same length and of positive sizes.

    Raises:
        ConfigError: otherwise.
    """
    key = "model.anchors.shapes"
    if len(shapes) != len(strides):
        message = f"anchors are given for {len(shapes)} levels instead of {len(strides)} (strides {list(strides)})"
        raise ConfigError(message, where=key, fix="give one list per level, or omit it to fit them to the data")
    counts = [len(level) for level in shapes]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise ConfigError(f"levels have {counts} anchors", where=key, fix="give each level the same number")
    if not all(side > 0 for level in shapes for shape in level for side in shape):
        raise ConfigError("an anchor has a side that is not positive", where=key, fix="give (width, height) in pixels")


@torch.no_grad()
def check_detector(detector: FasterRCNN, channels: int, side: int = 200) -> None:
    """Run the detector once on a blank image, to check that maps, strides, anchors and RoI levels agree.

    Raises:
        ConfigError: they don't.
    """
    training = detector.training
    detector.eval()
    pyramid, anchors = detector.backbone, detector.rpn.anchor_generator
    maps = pyramid(torch.zeros(1, channels, side, side))
    for name, stride in zip(pyramid.names, pyramid.strides):
        expected = (1, pyramid.out_channels, -(-side // stride), -(-side // stride))
        if name not in maps or tuple(maps[name].shape) != expected:
            actual = tuple(maps[name].shape) if name in maps else "nothing"
            message = f"level {name} should be {expected} for a blank {side}x{side} image and is {actual}"
            raise ConfigError(message, where="model.backbone", fix="check widths and the stride of each stage")
    if list(detector.roi_heads.box_roi_pool.featmap_names) != list(maps):
        message = f"RoIAlign reads {detector.roi_heads.box_roi_pool.featmap_names}, the pyramid returns {list(maps)}"
        raise ConfigError(message, where="model.fpn", fix="use the same levels in both")
    per_cell = anchors.num_anchors_per_location()
    if set(per_cell) != {detector.rpn.head.cls_logits.out_channels}:
        message = f"levels have {per_cell} anchors per cell, the RPN head {detector.rpn.head.cls_logits.out_channels}"
        raise ConfigError(message, where="model.anchors", fix="give each level the same number of shapes")
    detector([torch.zeros(channels, side, side)])
    detector.train(training)


def summarize_modules(detector: FasterRCNN) -> list[ModuleSummary]:
    """Parts of the detector with their number of parameters and whether they train, as 'detect train' prints them."""
    pyramid, head = detector.backbone, detector.roi_heads
    levels = ", ".join(f"{s}" for s in pyramid.strides)
    fusion = "FPN" if len(pyramid.strides) > 1 else "a single level"
    per_cell = detector.rpn.anchor_generator.num_anchors_per_location()[0]
    rows: list[tuple[str, str, list[nn.Module]]] = [
        ("backbone", f"{pyramid.body.label}, strides {levels}", [pyramid.body]),
        ("pyramid", f"{fusion}, {pyramid.out_channels} channels", [pyramid.fpn]),
        ("rpn", f"{per_cell} anchors per cell", [detector.rpn]),
        ("box head", f"RoIAlign {head.box_roi_pool.output_size[0]}, then classes and boxes", [head]),
    ]
    if pyramid.scan is not None:
        scan_strides = ", ".join(map(str, pyramid.scanned_strides))
        rows.insert(2, ("scan", f"{pyramid.scan.label}, strides {scan_strides}", [pyramid.scan]))
    if isinstance(detector, StripDetector):
        rows.append(("memory", detector.memory.label, [detector.memory]))
        if detector.light is not None:
            rows.append(("light pyramid", f"{detector.light.body.label}, between key frames", [detector.light]))
    return [
        ModuleSummary(
            name,
            description,
            sum(p.numel() for m in modules for p in m.parameters()),
            all(p.requires_grad for m in modules for p in m.parameters()),
        )
        for name, description, modules in rows
    ]


class HighPrecisionConv2d(nn.Conv2d):
    """A convolution that uses 16 bits of its input, also where autocast or a GPU rounds them to 8 or 11.

    ``use_high_precision_stem`` adds it as a base class to the class of a convolution, whose ``forward`` still computes
    the result; this has to be affine in the images.
    """

    def forward(self, images: Tensor) -> Tensor:
        """FloatTensor[N, in_channels, H, W] -> float32[N, out_channels, h, w]."""
        with torch.autocast(images.device.type, enabled=False):
            if images.is_cuda:
                return self.split_forward(images.float())
            return torch.as_tensor(super().forward(images.float()))

    def split_forward(self, images: Tensor) -> Tensor:
        """Sum of the convolutions of the upper 8 bits of the input, which are exact in TF32, and of the remainder."""
        coarse = images.to(torch.bfloat16).float()
        bias = super().forward(torch.zeros_like(images[:1]))  # added by both parts
        return torch.as_tensor(super().forward(coarse) + (super().forward(images - coarse) - bias))


def use_high_precision_stem(detector: FasterRCNN) -> None:
    """Turn the first convolution of each backbone of a detector into a ``HighPrecisionConv2d`` with the same weights.

    bfloat16 and TF32 can't resolve normalised gray values of 12 or 16 bits. After the first layer, activations are
    responses to image structure, whose range these formats resolve.
    """
    pyramids = [detector.backbone]
    if isinstance(detector, StripDetector) and detector.light is not None:
        pyramids.append(detector.light)
    for pyramid in pyramids:
        first = next(part for part in pyramid.body.modules() if isinstance(part, nn.Conv2d))
        if not isinstance(first, HighPrecisionConv2d):
            conv_class = type(first)
            high_precision_class = (
                HighPrecisionConv2d
                if conv_class is nn.Conv2d
                else type(f"HighPrecision{conv_class.__name__}", (HighPrecisionConv2d, conv_class), {})
            )
            # as torch.nn.utils.parametrize does: weights, hooks and names are unchanged
            first.__class__ = high_precision_class
