"""The detector: backbone, pyramid, RPN, RoIAlign and box head assembled into torchvision's FasterRCNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from ..config import ModelConfig, RoiConfig
from ..errors import ConfigError
from .anchors import ShapeAnchors, Shapes
from .detection_heads import DetectionHeads
from .heads import BoxHead, BoxPredictor, ProposalHead, Stage
from .norms import renormalise
from .pooling import PyramidRoIAlign
from .proposals import ProposalNetwork
from .pyramid import build_pyramid
from .sizing import NativeSize, Resized
from .strip import StripDetector, memory_parts

_NO_LIMIT = 10**9  # pixels of the longer side: long strips keep the size that was asked for
_PADDED_TO = 8  # pixels; NEU's 200 need no padding, 32 would add a quarter to the work


@dataclass(frozen=True, slots=True)
class Part:
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
    shapes: Shapes,
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
    proposing = _proposing(pyramid.strides, rpn.finest_stride)
    check_anchors(shapes, proposing)
    pool = PyramidRoIAlign(
        pyramid.names,
        pyramid.strides,
        output_size=roi.pool,
        sampling_ratio=roi.sampling,
        canonical_side=roi.canonical_side,
    )
    first, *refinement = [_look(roi, pyramid.out_channels, classes) for _ in range(roi.stages)]
    assemble: Callable[..., FasterRCNN] = FasterRCNN
    if model.memory is not None:
        assemble = partial(StripDetector, **memory_parts(model, pyramid, channels))
    anchors = ShapeAnchors(shapes, proposing)
    proposal_head = ProposalHead(
        pyramid.out_channels,
        len(shapes[0]),
        convs=rpn.convs,
        separable=rpn.kernel == "separable",
        levels=len(proposing),
    )
    detector = assemble(
        pyramid,
        rpn_anchor_generator=anchors,
        rpn_head=proposal_head,
        box_roi_pool=pool,
        box_head=first.head,
        box_predictor=first.predictor,
    )
    detector.rpn = ProposalNetwork(
        anchors,
        proposal_head,
        rpn.fg_iou,
        rpn.bg_iou,
        rpn.batch_per_image,
        rpn.positive_fraction,
        {"training": rpn.proposals_train, "testing": rpn.proposals_test},  # of a level, before suppression
        {"training": rpn.proposals_train, "testing": rpn.proposals_test},  # in all, after it
        rpn.nms_iou,
    )
    sized = NativeSize if model.input_size is None else Resized
    side = model.input_size or 1  # NativeSize doesn't look at it
    detector.transform = sized(side, _NO_LIMIT, list(mean), list(std), size_divisible=_PADDED_TO)
    detector.roi_heads = DetectionHeads(
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
        noisy_copies=roi.noisy_copies,
        noise=roi.noise,
        box_loss=roi.box_loss,
        box_loss_weight=roi.box_loss_weight,
        label_smoothing=roi.label_smoothing,
        quality_weight=roi.quality_weight,
        suppression=roi.suppression,
        voting=roi.voting,
    )
    renormalise(detector, model.norm)
    detector.to(memory_format=torch.channels_last)  # convolutions and norms run a quarter faster on a CPU
    check_detector(detector, channels)
    return detector


def _look(roi: RoiConfig, channels: int, classes: int) -> Stage:
    head = BoxHead(
        channels, roi.pool, convs=roi.convs, conv_width=roi.conv_width, fc_width=roi.fc_width, dropout=roi.dropout
    )
    return Stage(head, BoxPredictor(roi.fc_width, classes, quality=roi.quality_weight > 0))


def proposal_strides(model: ModelConfig, channels: int) -> list[int]:
    """Strides of the levels on which a detector will have anchors, in pixels a cell, finest first; costs no memory.

    Raises:
        ConfigError: a backbone, pyramid or scan that can't be built, or no level that proposes.
    """
    with torch.device("meta"):
        return _proposing(build_pyramid(model, channels).strides, model.rpn.finest_stride)


def _proposing(strides: Sequence[int], finest: int | None) -> list[int]:
    kept = [stride for stride in strides if stride >= (finest or 0)]
    if not kept:
        found = f"no level would propose: the detector has them at strides {', '.join(map(str, strides))}"
        raise ConfigError(found, where="model.rpn.finest_stride", fix="choose among these")
    return kept


def check_anchors(shapes: Shapes, strides: Sequence[int]) -> None:
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


def parts(detector: FasterRCNN) -> list[Part]:
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
        Part(
            name,
            description,
            sum(p.numel() for m in modules for p in m.parameters()),
            all(p.requires_grad for m in modules for p in m.parameters()),
        )
        for name, description, modules in rows
    ]
