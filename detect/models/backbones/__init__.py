"""Backbones: networks that map an image to one feature map per stage."""

from __future__ import annotations

from collections.abc import Callable

from ...config.schema import BackboneConfig
from .recurrent_conv import RecurrentConv
from .staged import Backbone, Csp, Plain3, Plain5
from .torchvision import Torchvision

__all__ = [
    "BACKBONES",
    "Backbone",
    "Csp",
    "Plain3",
    "Plain5",
    "RecurrentConv",
    "Torchvision",
    "build_backbone",
    "load_pretrained",
]

# each is called with the number of input channels and the keys of its configuration section
BACKBONES: dict[str, Callable[..., Backbone]] = {
    "csp": Csp,
    "plain3": Plain3,
    "plain5": Plain5,
    "recurrent_conv": RecurrentConv,
    "torchvision": Torchvision,
}
_NON_MODEL_KEYS = {"name", "size", "weights"}


def build_backbone(config: BackboneConfig, in_channels: int, *, single_stride: int | None = None) -> Backbone:
    """A backbone with random weights.

    Args:
        config: its kind and widths.
        in_channels: 1 for gray, 3 for RGB.
        single_stride: return only the map at this stride and omit later stages; None: all maps.

    Raises:
        ConfigError: torchvision has no such network, or there is no map at ``single_stride``.
    """
    backbone = BACKBONES[config.name](in_channels, **config.model_dump(exclude=_NON_MODEL_KEYS))
    if single_stride is not None:
        backbone.keep_only(single_stride)
    return backbone


def load_pretrained(backbone: Backbone, config: BackboneConfig) -> None:
    """Load the weights that the configuration names, if it names any.

    Raises:
        CheckpointError: the file can't be read, or its weights are those of another network.
        ConfigError: the weights can't be downloaded.
    """
    if isinstance(backbone, Torchvision) and config.name == "torchvision" and config.weights != "none":
        backbone.load_weights(config.weights)
