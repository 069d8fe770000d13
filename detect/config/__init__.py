"""The configuration of a run: its typed tree, and the way from YAML and back."""

from .backbones import BackboneConfig, CspConfig
from .reading import differing_keys, load_config, parse_config, read_plain, to_yaml
from .tree import (
    AnchorConfig,
    AugmentConfig,
    BoxLoss,
    Config,
    DataConfig,
    FpnConfig,
    MemoryConfig,
    ModelConfig,
    RoiConfig,
    ScanConfig,
    Suppression,
    TrainConfig,
)

__all__ = [
    "AnchorConfig",
    "AugmentConfig",
    "BackboneConfig",
    "BoxLoss",
    "Config",
    "CspConfig",
    "DataConfig",
    "FpnConfig",
    "MemoryConfig",
    "ModelConfig",
    "RoiConfig",
    "ScanConfig",
    "Suppression",
    "TrainConfig",
    "differing_keys",
    "load_config",
    "parse_config",
    "read_plain",
    "to_yaml",
]
