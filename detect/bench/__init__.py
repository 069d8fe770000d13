"""Systems compared on equal terms: trained alike with several seeds, judged alike, gathered in one table."""

from .gather import gather
from .markdown import to_markdown
from .plan import Plan, Run, System, plan_runs, read_systems
from .running import train_runs

__all__ = ["Plan", "Run", "System", "gather", "plan_runs", "read_systems", "to_markdown", "train_runs"]
