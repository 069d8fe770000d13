"""A search over the configuration: trials that train, a study on disk that several workers share."""

from .space import Range, Space, read_space
from .study import Trial, search

__all__ = ["Range", "Space", "Trial", "read_space", "search"]
