"""The networks: backbones, pyramid, anchors, heads, and the detector made of them."""

from .anchors import Shapes, best_possible_recall, default_anchors, fit_anchors
from .backbones import load_pretrained
from .cost import Cost, cost
from .count import parameters_of
from .depth import keep_depth
from .detector import Part, build_detector, parts, proposal_strides
from .memory import State
from .saved import load_plain
from .strip import StripDetector, detect_stills

__all__ = [
    "Cost",
    "Part",
    "Shapes",
    "State",
    "StripDetector",
    "best_possible_recall",
    "build_detector",
    "cost",
    "default_anchors",
    "detect_stills",
    "fit_anchors",
    "keep_depth",
    "load_plain",
    "load_pretrained",
    "parameters_of",
    "parts",
    "proposal_strides",
]
