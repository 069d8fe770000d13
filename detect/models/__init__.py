"""The networks: backbones, pyramid, anchors, heads, and the detector made of them."""

from .anchors import Shapes, best_possible_recall, default_anchors, fit_anchors
from .cost import Cost, cost
from .detector import Part, build_detector, parts

__all__ = [
    "Cost",
    "Part",
    "Shapes",
    "best_possible_recall",
    "build_detector",
    "cost",
    "default_anchors",
    "fit_anchors",
    "parts",
]
