"""The networks: backbones, pyramid, anchors, heads, and the detector made of them."""

from .anchors import Shapes, best_possible_recall, default_anchors, fit_anchors
from .backbones import load_pretrained
from .cost import Cost, cost
from .detector import Part, build_detector, parts, proposal_strides
from .memory import State
from .strip import StripDetector

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
    "fit_anchors",
    "load_pretrained",
    "parts",
    "proposal_strides",
]
