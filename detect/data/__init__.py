"""From records to batches of tensors."""

from ..formats.room import free_bytes
from .dataset import DetectionDataset, Sample, as_channels, read_dataset
from .depth import MIN_WHITE, MOST, check_depth, depth_in_words, unit_range, white_of
from .loader import Batch, SeededLoader, TrainingLoader, to_tensor
from .sequences import ClipLoader, strips
from .shortage import shortage_told
from .transforms import Augment
from .windows import Windows

__all__ = [
    "MIN_WHITE",
    "MOST",
    "Augment",
    "Batch",
    "ClipLoader",
    "DetectionDataset",
    "Sample",
    "SeededLoader",
    "TrainingLoader",
    "Windows",
    "as_channels",
    "check_depth",
    "depth_in_words",
    "free_bytes",
    "read_dataset",
    "shortage_told",
    "strips",
    "to_tensor",
    "unit_range",
    "white_of",
]
