"""Systems compared on equal terms: trained alike with several seeds, judged alike, gathered in one table."""

from .figure import forest_plot
from .gather import gather
from .joined import join
from .markdown import to_markdown
from .plan import Plan, Run, System, plan_runs, read_systems
from .running import train_runs

__all__ = [
    "Plan",
    "Run",
    "System",
    "forest_plot",
    "gather",
    "join",
    "plan_runs",
    "read_systems",
    "to_markdown",
    "train_runs",
]
