"""Backbones: image in, one feature map a stage out; each kind in a file of its own."""

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

# each takes the number of input channels and the keys of its section in the configuration
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
        single_stride: give the map at this stride alone, and leave out what comes after it.

    Raises:
        ConfigError: torchvision has no such network, or there is no map at this stride.
    """
    backbone = BACKBONES[config.name](in_channels, **config.model_dump(exclude=_NON_MODEL_KEYS))
    if single_stride is not None:
        backbone.keep_only(single_stride)
    return backbone


def load_pretrained(backbone: Backbone, config: BackboneConfig) -> None:
    """Replace random weights by those that the configuration names, if it names any.

    Raises:
        ConfigError: they can't be read or fetched, or are another network's.
    """
    if isinstance(backbone, Torchvision) and config.name == "torchvision" and config.weights != "none":
        backbone.load_weights(config.weights)
