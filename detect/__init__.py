"""Steel surface defect detection: convert labels, train a detector from scratch, judge it, use it."""

__version__ = "0.1.0"
