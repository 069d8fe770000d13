"""The detector: backbone, FPN, RPN and RoI heads assembled into torchvision's FasterRCNN, for images and strips."""

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
    """torchvision's input transform, whose boxes end where the images end: rounding may lead out by 1e-4 pixels."""

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections, FloatTensor[N, 4] in "boxes", from images of ``image_shapes`` to the original (height, width)."""
        found: list[dict[str, Tensor]] = super().postprocess(result, image_shapes, original_image_sizes)
        for each, size_hw in zip(found, original_image_sizes):
            each["boxes"] = clip_boxes_to_image(each["boxes"], size_hw)
        return found


class NativeSizeTransform(ClippingRCNNTransform):
    """That without its resizing, which by default makes any image 800 pixels."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image and its target as they are."""
        return image, target


def detect_from_features(
    model: FasterRCNN,
    features: dict[str, Tensor],
    batch: ImageList,
    sizes_hw: Sequence[tuple[int, int]],
    max_proposals: int | None = None,
) -> list[dict[str, Tensor]]:
    """Detections from the features of a batch; the model is only read, so threads may share it.

    Args:
        model: in evaluation mode.
        features: of the pyramid, {name: FloatTensor[B, channels, H, W]}.
        batch: the images as ``model.transform`` gives them.
        sizes_hw: height and width in pixels of each image before that.
        max_proposals: how many of each image, the best ones, the box head looks at; None: all that the model proposes.

    Returns:
        Of each image ``boxes`` FloatTensor[N, 4] (xyxy, pixels), ``labels`` Int64Tensor[N] and ``scores``
        FloatTensor[N].
    """
    proposals, _ = model.rpn(batch, features)
    detections, _ = model.roi_heads(features, [of_image[:max_proposals] for of_image in proposals], batch.image_sizes)
    return list(model.transform.postprocess(detections, batch.image_sizes, list(sizes_hw)))


DetectionDict = dict[
    str, Tensor
]  # boxes FloatTensor[N, 4] (xyxy, pixels), labels Int64Tensor[N], scores FloatTensor[N]


class Detector(FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """torchvision's FasterRCNN (Ren et al. 2015) from finished parts, which its own constructor would build itself.

    Args:
        backbone: backbone and pyramid, images FloatTensor[B, channels, H, W] -> {name: FloatTensor[B, C, h, w]}.
        rpn: features -> proposals.
        roi_heads: features and proposals -> detections.
        transform: images -> batch, and boxes back to the pixels of the images.
    """

    def __init__(
        self, backbone: nn.Module, rpn: nn.Module, roi_heads: nn.Module, transform: GeneralizedRCNNTransform
    ) -> None:
        super(FasterRCNN, self).__init__(backbone, rpn, roi_heads, transform)


class StripDetector(Detector):
    """A FasterRCNN whose features pass a memory; frame by frame with a state, or whole clips in training.

    Called on images alone it knows of no time and treats each as the first frame of a strip.

    Args:
        parts: as for ``Detector``; the backbone is that of key frames.
        memory: between pyramid and heads.
        light: a cheaper pyramid with the same levels and channels, for the frames between key frames (Liu et al.
            2019); None: every frame is a key frame.
        light_proposals: how many proposals the box head looks at in a light frame.
        light_share: share of frames after a clip's first one that train the light pyramid.
        predicted_share: share of frames after a clip's first one that are foreseen in training instead of seen.
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
        """Losses in training, detections otherwise.

        Args:
            images: FloatTensor[channels, H, W] each, 0 to 1, in training all of one size; clip after clip.
            targets: boxes and labels of each image, in training.
            clip_length: frames a clip.
            motion_xy: FloatTensor[len(images), 2], pixels (right, down) that the surface moved since the frame
                before; needed where clip_length is over 1.
        """
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets)
        features = self._clip_features(batch.tensors, clip_length, motion_xy)
        proposals, proposal_losses = self.rpn(batch, features, targets)
        found, losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        if self.training:
            return {**losses, **proposal_losses}
        return list(self.transform.postprocess(found, batch.image_sizes, sizes))

    def step(
        self, image: Tensor, state: MemoryState | None, motion_xy: Tensor, *, light: bool = False
    ) -> tuple[DetectionDict, MemoryState]:
        """Detections of the next frame, and the state after it.

        Args:
            image: FloatTensor[channels, H, W], 0 to 1.
            state: after the frame before; None at the start of a strip.
            motion_xy: FloatTensor[2], pixels (right, down) that the surface moved since then.
            light: look at it with the light pyramid, if there is one.
        """
        batch, _ = self.transform([image])
        lighter = self.light if light and state is not None else None
        pyramid = self.backbone if lighter is None else lighter
        after = self.memory(pyramid(batch.tensors), state, _scale_motion(motion_xy, batch, image.shape[-2:]))
        found = self._detect(after, batch, tuple(image.shape[-2:]), None if lighter is None else self.light_proposals)
        return found, after

    def predict_next(
        self, state: MemoryState, motion_xy: Tensor, size_hw: tuple[int, int]
    ) -> tuple[DetectionDict, MemoryState]:
        """Detections of a frame that nobody has seen, and the state moved to it.

        Args:
            state: after the last frame that was seen.
            motion_xy: FloatTensor[2], pixels (right, down) that the surface will have moved.
            size_hw: pixels of the frame.
        """
        first = state[self.memory.names[0]]
        blank, _ = self.transform([first.new_zeros(self._channels, *size_hw)])
        ahead = self.memory.predict_next(state, _scale_motion(motion_xy, blank, size_hw))
        return self._detect(ahead, blank, size_hw, None), ahead

    @property
    def _channels(self) -> int:
        return len(self.transform.image_mean)

    def _detect(
        self, state: MemoryState, batch: ImageList, size_hw: tuple[int, ...], proposals_kept: int | None
    ) -> DetectionDict:
        (only,) = detect_from_features(self, state_features(state), batch, [(size_hw[0], size_hw[1])], proposals_kept)
        return only

    def _clip_features(self, tensors: Tensor, clip_length: int, motion_xy: Tensor | None) -> dict[str, Tensor]:
        """Features of all frames after memory, in the images' order."""
        full = _split_frames(self.backbone(tensors), clip_length)
        if clip_length == 1:
            return state_features(self.memory(full[0], None, tensors.new_zeros(len(tensors), 2)))
        assert motion_xy is not None, "clips come with the motion between their frames"
        motions = motion_xy.to(tensors).reshape(-1, clip_length, 2).unbind(1)
        light = _split_frames(self.light(tensors), clip_length) if self.light is not None and self.training else None
        state, frames = None, []
        for number, motion in enumerate(motions):
            way = float(torch.rand(())) if self.training and number > 0 else 1.0
            if state is not None and way < self.predicted_share:
                state = self.memory.predict_next(state, motion)
            elif light is not None and way < self.predicted_share + self.light_share:
                state = self.memory(light[number], state, motion)
            else:
                state = self.memory(full[number], state, motion)
            frames.append(state_features(state))
        return {name: torch.stack([frame[name] for frame in frames], dim=1).flatten(0, 1) for name in frames[0]}


def detect_single_images(model: FasterRCNN, images: list[Tensor], proposals: int) -> list[DetectionDict]:
    """What ``model(images)`` gives in evaluation mode, from no more than so many proposals of each image."""
    batch, _ = model.transform(images)
    if isinstance(model, StripDetector):
        features = model._clip_features(batch.tensors, 1, None)
    else:
        features = model.backbone(batch.tensors)
    sizes_hw = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    return detect_from_features(model, features, batch, sizes_hw, proposals)


def _scale_motion(motion_xy: Tensor, batch: ImageList, size_hw: Sequence[int]) -> Tensor:
    """A frame's motion, FloatTensor[2] in its own pixels, as FloatTensor[1, 2] in those that the network sees."""
    (height, width), seen = size_hw, batch.image_sizes[0]
    factors = torch.tensor([seen[1] / width, seen[0] / height]).to(batch.tensors)
    return (motion_xy.to(batch.tensors) * factors)[None]


def build_memory(model: ModelConfig, pyramid: FeaturePyramid, in_channels: int) -> dict[str, Any]:
    """What a StripDetector takes besides the parts of a FasterRCNN, with random weights.

    Raises:
        ConfigError: the light backbone doesn't fit the full one.
    """
    config = model.memory or MemoryConfig()
    light = None
    if config.light is not None:
        light = build_pyramid(model.model_copy(update={"backbone": config.light, "scan": None}), in_channels)
        if light.strides != pyramid.strides:
            found = f"the light backbone has strides {light.strides}, the full one {pyramid.strides}"
            raise ConfigError(found, where="model.memory.light", fix="give both as many stages")
    return {
        "memory": Memory(pyramid.out_channels, pyramid.strides, pyramid.names, stateful=config.kind == "gru"),
        "light": light,
        "light_proposals": config.light_proposals,
        "light_share": config.light_share,
        "predicted_share": config.predicted_share,
    }


def _split_frames(features: dict[str, Tensor], clip_length: int) -> Sequence[dict[str, Tensor]]:
    """{name: [clips * frames, ...]} -> one {name: [clips, ...]} a frame."""
    clips = {name: level.reshape(-1, clip_length, *level.shape[1:]) for name, level in features.items()}
    return [{name: level[:, number] for name, level in clips.items()} for number in range(clip_length)]


_MAX_SIZE = 10**9  # pixels of the longer side: long strips keep the size that was asked for
_SIZE_DIVISIBLE = 8  # pixels; NEU's 200 need no padding, 32 would add a quarter to the work


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """One row of the table of parts."""

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
        classes: number of categories, background not counted.
        channels: 1 for gray, 3 for RGB.
        mean, std: normalisation a channel, in 0 to 1.
        shapes: anchors, [level][anchor](width, height) in pixels.

    Returns:
        A torchvision FasterRCNN: list of FloatTensor[channels, H, W] in 0 to 1 -> losses or detections.

    Raises:
        ConfigError: parts that don't fit together, with the key to change.
    """
    pyramid = build_pyramid(model, channels)
    roi, rpn = model.roi, model.rpn
    proposing = _rpn_strides(pyramid.strides, rpn.finest_stride)
    check_anchors(shapes, proposing)
    pool = PyramidRoIAlign(
        pyramid.names,
        pyramid.strides,
        output_size=roi.pool,
        sampling_ratio=roi.sampling,
        canonical_side=roi.canonical_side,
    )
    first, *refinement = [_build_stage(roi, pyramid.out_channels, classes) for _ in range(roi.stages)]
    assemble: Callable[..., Detector] = Detector
    if model.memory is not None:
        assemble = partial(StripDetector, **build_memory(model, pyramid, channels))
    proposals = {"training": rpn.proposals_train, "testing": rpn.proposals_test}
    region_proposals = SparseRegionProposalNetwork(
        ShapeAnchorGenerator(shapes, proposing),
        LightRPNHead(
            pyramid.out_channels,
            len(shapes[0]),
            convs=rpn.convs,
            separable=rpn.kernel == "separable",
            levels=len(proposing),
        ),
        rpn.fg_iou,
        rpn.bg_iou,
        rpn.batch_per_image,
        rpn.positive_fraction,
        proposals,  # per level, before NMS
        proposals,  # in all, after it
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
    sized = NativeSizeTransform if model.input_size is None else ClippingRCNNTransform
    side = model.input_size or 1  # NativeSizeTransform ignores it
    transform = sized(side, _MAX_SIZE, list(mean), list(std), size_divisible=_SIZE_DIVISIBLE)
    detector = assemble(pyramid, region_proposals, heads, transform)
    convert_norm(detector, model.norm)
    detector.to(memory_format=torch.channels_last)  # convolutions and norms run a quarter faster on a CPU
    check_detector(detector, channels)
    return detector


def _build_stage(roi: RoiConfig, channels: int, classes: int) -> CascadeStage:
    head = BoxHead(
        channels, roi.pool, convs=roi.convs, conv_width=roi.conv_width, fc_width=roi.fc_width, dropout=roi.dropout
    )
    return CascadeStage(head, BoxPredictor(roi.fc_width, classes, predict_iou=roi.iou_score_weight > 0))


def proposal_strides(model: ModelConfig, channels: int) -> list[int]:
    """Strides of the levels on which a detector will have anchors, in pixels a cell, finest first; costs no memory.

    Raises:
        ConfigError: a backbone, pyramid or scan that can't be built, or no level that proposes.
    """
    with torch.device("meta"):
        return _rpn_strides(build_pyramid(model, channels).strides, model.rpn.finest_stride)


def _rpn_strides(strides: Sequence[int], finest: int | None) -> list[int]:
    kept = [stride for stride in strides if stride >= (finest or 0)]
    if not kept:
        found = f"no level would propose: the detector has them at strides {', '.join(map(str, strides))}"
        raise ConfigError(found, where="model.rpn.finest_stride", fix="choose among these")
    return kept


def check_anchors(shapes: AnchorShapes, strides: Sequence[int]) -> None:
    """One list of anchors a level, all of one length, all of positive size."""
    key = "model.anchors.shapes"
    if len(shapes) != len(strides):
        found = f"anchors are given for {len(shapes)} levels, {len(strides)} propose (strides {list(strides)})"
        raise ConfigError(found, where=key, fix="give one list a level, or leave it out to have them fitted")
    counts = [len(level) for level in shapes]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise ConfigError(f"levels have {counts} anchors", where=key, fix="give each level the same number")
    if not all(side > 0 for level in shapes for shape in level for side in shape):
        raise ConfigError("an anchor has a side that is not positive", where=key, fix="give (width, height) in pixels")


@torch.no_grad()
def check_detector(detector: FasterRCNN, channels: int, side: int = 200) -> None:
    """Run once on a blank image; maps, strides, anchors and RoI levels have to agree."""
    training = detector.training
    detector.eval()
    pyramid, anchors = detector.backbone, detector.rpn.anchor_generator
    maps = pyramid(torch.zeros(1, channels, side, side))
    for name, stride in zip(pyramid.names, pyramid.strides):
        want = (1, pyramid.out_channels, -(-side // stride), -(-side // stride))
        if name not in maps or tuple(maps[name].shape) != want:
            got = tuple(maps[name].shape) if name in maps else "nothing"
            found = f"level {name} should be {want} for a blank {side}x{side} image and is {got}"
            raise ConfigError(found, where="model.backbone", fix="check widths and the stride of each stage")
    if list(detector.roi_heads.box_roi_pool.featmap_names) != list(maps):
        found = f"RoIAlign reads {detector.roi_heads.box_roi_pool.featmap_names}, the pyramid gives {list(maps)}"
        raise ConfigError(found, where="model.fpn", fix="name the same levels")
    per_cell = anchors.num_anchors_per_location()
    if set(per_cell) != {detector.rpn.head.cls_logits.out_channels}:
        found = f"levels have {per_cell} anchors a cell, the RPN head {detector.rpn.head.cls_logits.out_channels}"
        raise ConfigError(found, where="model.anchors", fix="give each level the same number of shapes")
    detector([torch.zeros(channels, side, side)])
    detector.train(training)


def summarize_modules(detector: FasterRCNN) -> list[ModuleSummary]:
    """The parts with their size and whether they train; 'detect train' prints them."""
    pyramid, head = detector.backbone, detector.roi_heads
    levels = ", ".join(f"{s}" for s in pyramid.strides)
    fusion = "FPN" if len(pyramid.strides) > 1 else "a single level"
    per_cell = detector.rpn.anchor_generator.num_anchors_per_location()[0]
    rows: list[tuple[str, str, list[nn.Module]]] = [
        ("backbone", f"{pyramid.body.label}, strides {levels}", [pyramid.body]),
        ("pyramid", f"{fusion}, {pyramid.out_channels} channels", [pyramid.fpn]),
        ("rpn", f"{per_cell} anchors a cell", [detector.rpn]),
        ("box head", f"RoIAlign {head.box_roi_pool.output_size[0]}, then classes and boxes", [head]),
    ]
    if pyramid.scan is not None:
        scanned = ", ".join(map(str, pyramid.scanned_strides))
        rows.insert(2, ("scan", f"{pyramid.scan.label}, strides {scanned}", [pyramid.scan]))
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
    """A convolution to which 16 bits of its input count, also where autocast or a GPU rounds them to 8 or 11.

    ``use_high_precision_stem`` mixes it into the class of a convolution, which goes on computing in its own way; the
    result has to be affine in the images.
    """

    def forward(self, images: Tensor) -> Tensor:
        """FloatTensor[N, in_channels, H, W] -> float32[N, out_channels, h, w]."""
        with torch.autocast(images.device.type, enabled=False):
            if images.is_cuda:
                return self.split_forward(images.float())
            return torch.as_tensor(super().forward(images.float()))

    def split_forward(self, images: Tensor) -> Tensor:
        """The same as a sum: of what 8 bits of the input give, which TF32 keeps, and of what is left."""
        coarse = images.to(torch.bfloat16).float()
        of_nothing = super().forward(torch.zeros_like(images[:1]))  # the bias, which both parts add
        return torch.as_tensor(super().forward(coarse) + (super().forward(images - coarse) - of_nothing))


def use_high_precision_stem(detector: FasterRCNN) -> None:
    """Make the first convolution of each of a detector's backbones a ``HighPrecisionConv2d``; weights stay as they are.

    Normalised, gray values of 12 or 16 bits lie closer together than bfloat16 and TF32 can tell apart; what comes out
    of the first layer is of the size of what it found.
    """
    pyramids = [detector.backbone]
    if isinstance(detector, StripDetector) and detector.light is not None:
        pyramids.append(detector.light)
    for pyramid in pyramids:
        first = next(part for part in pyramid.body.modules() if isinstance(part, nn.Conv2d))
        if not isinstance(first, HighPrecisionConv2d):
            own = type(first)
            mixed = (
                HighPrecisionConv2d
                if own is nn.Conv2d
                else type(f"HighPrecision{own.__name__}", (HighPrecisionConv2d, own), {})
            )
            first.__class__ = mixed  # as torch.nn.utils.parametrize does: weights, hooks and names stay
