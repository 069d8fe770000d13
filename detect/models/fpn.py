"""Backbone, feature pyramid and scan as one module, used as the ``backbone`` of torchvision's detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from ..config.schema import ModelConfig, ScanConfig
from ..errors import ConfigError
from .backbones import build_backbone
from .backbones.staged import Backbone
from .layers import SeparableConv
from .recurrent import Scan, ScanControl

_MIN_SCAN_STRIDE = 8  # pixels per cell; at half the stride, a map has four times the cells and rows twice the steps


class FeaturePyramid(nn.Module):
    """Feature pyramid network (Lin et al. 2017) with batch normalisation on the maps of a backbone.

    For a backbone with a single map, it consists of a 1x1 and a 3x3 convolution.

    Args:
        backbone: its maps become the levels.
        channels: of every level.
        separable: whether the 3x3 convolution after the top-down addition is a separable one.
        scan: applied last to the levels of ``scanned_strides``, with shared weights; None: no scan.
        scanned_strides: strides of these levels.

    Attributes:
        out_channels: channels of every level.
        strides: pixels per cell of each level.
        names: keys of the levels; "p4" is the level at stride 4.
    """

    def __init__(
        self,
        backbone: Backbone,
        channels: int,
        *,
        separable: bool = False,
        scan: nn.Module | None = None,
        scanned_strides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = FeaturePyramidNetwork(backbone.out_channels, channels, norm_layer=nn.BatchNorm2d)
        if separable:
            self.fpn.layer_blocks = nn.ModuleList(
                nn.Sequential(SeparableConv(channels, channels), nn.BatchNorm2d(channels)) for _ in backbone.strides
            )
        self.scan = scan
        self.out_channels = channels
        self.strides = list(backbone.strides)
        self.names = [f"p{stride}" for stride in self.strides]
        self.scanned_strides = list(scanned_strides)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """FloatTensor[B, C, H, W] -> {name: float32[B, out_channels, ceil(H/stride), ceil(W/stride)]}."""
        features = self.fpn(OrderedDict(zip(self.names, self.body(images))))
        if self.scan is not None:
            for stride in self.scanned_strides:
                features[f"p{stride}"] = self.scan(features[f"p{stride}"])
        # under autocast the levels are bfloat16, but RoIAlign and box arithmetic need float32
        return OrderedDict((name, level.float()) for name, level in features.items())


def build_pyramid(model: ModelConfig, in_channels: int) -> FeaturePyramid:
    """Backbone, pyramid and scan with random weights.

    Args:
        model: only its sections ``backbone``, ``fpn`` and ``scan`` are used.
        in_channels: 1 for gray, 3 for RGB.

    Raises:
        ConfigError: parts that don't fit together, with the key to change.
    """
    backbone = build_backbone(model.backbone, in_channels, single_stride=model.fpn.single_stride)
    channels, separable = model.fpn.channels, model.fpn.smoothing == "separable"
    if model.scan is None:
        return FeaturePyramid(backbone, channels, separable=separable)
    strides = _scan_strides(model.scan.strides, backbone.strides)
    scan = _build_scan(model.scan, channels)
    return FeaturePyramid(backbone, channels, separable=separable, scan=scan, scanned_strides=strides)


def _scan_strides(requested: Sequence[int] | None, available: Sequence[int]) -> list[int]:
    names = ", ".join(map(str, available))
    strides = (
        [stride for stride in available if stride >= _MIN_SCAN_STRIDE]
        if requested is None
        else list(dict.fromkeys(requested))
    )
    missing = [stride for stride in strides if stride not in available]
    if missing:
        message = f"there is no level at stride {missing[0]}: the pyramid has strides {names}"
        raise ConfigError(message, where="model.scan.strides", fix="choose among these")
    if not strides:
        message = f"no level is scanned: the pyramid has strides {names}"
        raise ConfigError(message, where="model.scan.strides", fix="name some of these, or set model.scan=null")
    return strides


def _build_scan(config: ScanConfig, channels: int) -> nn.Module:
    scan = Scan(channels, config.hidden, window=config.window, overlap=config.overlap)
    if config.kind == "gru":
        return scan
    return ScanControl(channels, sum(p.numel() for p in scan.parameters()))
