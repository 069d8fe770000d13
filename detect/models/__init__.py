"""The networks: backbones, pyramid, anchors, heads, and the detector made of them."""

from .anchors import Shapes, best_possible_recall, default_anchors, fit_anchors
from .detector import Part, build_detector, parts

__all__ = ["Part", "Shapes", "best_possible_recall", "build_detector", "default_anchors", "fit_anchors", "parts"]
