"""Using a trained detector on images that nobody labelled."""

from .predictor import Predictor

__all__ = ["Predictor"]
