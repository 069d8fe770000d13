"""``detect bench infer``: how fast a detector is on this machine, runtime by runtime, with its accuracy beside it."""

from .measuring import measure
from .pareto import pareto_plot
from .table import to_markdown

__all__ = ["measure", "pareto_plot", "to_markdown"]
