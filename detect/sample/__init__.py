"""Seeded synthetic hot-rolled steel with NEU-DET's six defects, their look-alikes and exact boxes."""

from .scene import CATEGORIES, make_image
from .write import sample_image, write_sample

__all__ = ["CATEGORIES", "make_image", "sample_image", "write_sample"]
