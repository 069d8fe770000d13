"""What memory is worth on moving strips, by trained systems that see them in the order of time."""

from .judging import judge_strips
from .markdown import to_markdown

__all__ = ["judge_strips", "to_markdown"]
