"""From records to batches of tensors."""

from .dataset import DetectionDataset, Sample, as_channels, read_dataset, unit_range
from .loader import Batch, TrainingLoader, to_tensor
from .transforms import Augment

__all__ = [
    "Augment",
    "Batch",
    "DetectionDataset",
    "Sample",
    "TrainingLoader",
    "as_channels",
    "read_dataset",
    "to_tensor",
    "unit_range",
]
