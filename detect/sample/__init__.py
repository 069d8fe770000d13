"""Seeded synthetic hot-rolled steel with NEU-DET's six defects, their look-alikes and exact boxes."""

from .degrade import degrade, draw_condition
from .scene import CATEGORIES, make_image
from .travel import EXPOSURE, motions, travel
from .write import sample_image, write_sample
from .write_strips import DEGRADED, MOST_FRAMES, SIDE_PX, write_strips

__all__ = [
    "CATEGORIES",
    "DEGRADED",
    "EXPOSURE",
    "MOST_FRAMES",
    "SIDE_PX",
    "degrade",
    "draw_condition",
    "make_image",
    "motions",
    "sample_image",
    "travel",
    "write_sample",
    "write_strips",
]
