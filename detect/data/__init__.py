"""From records to batches of tensors."""

from .dataset import DetectionDataset, Sample, as_channels, read_dataset, unit_range
from .loader import Batch, SeededLoader, TrainingLoader, to_tensor
from .memory import free_bytes
from .sequences import ClipLoader, strips
from .shortage import shortage_told
from .transforms import Augment
from .windows import Windows

__all__ = [
    "Augment",
    "Batch",
    "ClipLoader",
    "DetectionDataset",
    "Sample",
    "SeededLoader",
    "TrainingLoader",
    "Windows",
    "as_channels",
    "free_bytes",
    "read_dataset",
    "shortage_told",
    "strips",
    "to_tensor",
    "unit_range",
]
