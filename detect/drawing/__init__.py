"""Boxes, class names and scores drawn on images that stay readable, and contact sheets of such pictures."""

from .boxes import Mark, default_scale, draw_boxes, draw_detections, draw_marks
from .colours import Rgb, class_colours
from .sheet import contact_sheet, to_8bit

__all__ = [
    "Mark",
    "Rgb",
    "class_colours",
    "contact_sheet",
    "default_scale",
    "draw_boxes",
    "draw_detections",
    "draw_marks",
    "to_8bit",
]
