"""Training: the loop, its schedule, and the run folder that it fills."""

from .trainer import train

__all__ = ["train"]
