"""The backbones to choose from, one section a kind: ``model.backbone.name`` says which, ``csp`` if it is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, model_validator

from .section import Fraction, Layers, Positive, Section

_CSP_SIZES: dict[object, dict[str, Any]] = {
    "s": {"stem": 24, "widths": (48, 96, 192, 320), "depths": (1, 2, 3, 2)},
    "m": {"stem": 32, "widths": (64, 128, 256, 384), "depths": (1, 2, 3, 2)},
}


class CspConfig(Section):
    """The CSP network: one entry of ``widths`` and ``depths`` a stage, at strides 4, 8, 16, 32."""

    name: Literal["csp"] = "csp"
    size: Literal["n", "s", "m"] = "n"  # what the three keys below are where they aren't given; n is written here
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    depths: tuple[Layers, ...] = (1, 2, 2, 1)

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("size"), str):
            return given
        return {**_CSP_SIZES.get(given["size"], {}), **given}

    @model_validator(mode="after")
    def _one_depth_a_stage(self) -> CspConfig:
        if len(self.widths) != len(self.depths) or not 2 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries and depths {len(self.depths)}: give both 2 to 5")
        return self


class PlainConfig(Section):
    """What the two plain networks have in common."""

    dropout: Fraction = 0.5  # of the deepest map
    norm: Literal["batch", "none"] = "batch"  # none: as published; hard to train without


class Plain3Config(PlainConfig):
    """Three 3x3 convolutions, each followed by 2x2 pooling; maps at strides 4 and 8."""

    name: Literal["plain3"] = "plain3"
    width: Positive = 32


class Plain5Config(PlainConfig):
    """Five 5x5 convolutions, each followed by 2x2 pooling; maps at strides 4, 8, 16, 32."""

    name: Literal["plain5"] = "plain5"
    width: Positive = 128


class RecurrentConvConfig(Section):
    """Recurrent convolutional layers, one entry of ``widths`` a stage, at strides 4, 8, 16, 32."""

    name: Literal["recurrent_conv"] = "recurrent_conv"
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    steps: Layers = 3  # times that the recurrent weights are applied; 0: a plain network of equal width

    @model_validator(mode="after")
    def _a_pyramid_of_stages(self) -> RecurrentConvConfig:
        if not 1 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries: give 1 to 5")
        return self


class TorchvisionConfig(Section):
    """A classification network of torchvision, its maps at all strides from 4 on."""

    name: Literal["torchvision"] = "torchvision"
    arch: str = "resnet18"  # as torchvision.models.list_models() names it
    weights: Literal["none", "hub"] | Path = (
        "none"  # to start from; hub: torchvision's own; else a file of a state dict
    )


def _name(backbone: Any) -> str:
    if isinstance(backbone, dict):
        return str(backbone.get("name", "csp"))
    return str(getattr(backbone, "name", "csp"))  # what is no section is refused as a csp that isn't one


BackboneConfig = Annotated[
    Annotated[CspConfig, Tag("csp")]
    | Annotated[Plain3Config, Tag("plain3")]
    | Annotated[Plain5Config, Tag("plain5")]
    | Annotated[RecurrentConvConfig, Tag("recurrent_conv")]
    | Annotated[TorchvisionConfig, Tag("torchvision")],
    Discriminator(_name),
]
