"""An audit as tables to read in a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ..records import Finding
from .report import AuditReport

if TYPE_CHECKING:
    from rich.console import Group

_STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}


def audit_table(report: AuditReport, *, each: int = 3, every_error: int = 50) -> Group:
    """Two tables for rich's ``Console.print``: boxes by class and part, and findings by kind.

    Args:
        report: what to show.
        each: examples shown of a kind of warning or note; the rest is counted.
        every_error: examples shown of a kind of error.
    """
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    blocks: list[RenderableType] = []
    if report.parts:
        counts = Table(title="Boxes", title_justify="left")
        counts.add_column("class")
        for part in report.parts:
            counts.add_column(part, justify="right")
        labels = dict.fromkeys(label for part in report.parts.values() for label in part.per_class)
        for label in labels:
            row = [part.per_class.get(label, {}).get("boxes", 0) for part in report.parts.values()]
            counts.add_row(Text(_printable(label)), *map(_grouped, row))
        counts.add_section()
        counts.add_row("all boxes", *(_grouped(part.boxes) for part in report.parts.values()), style="bold")
        counts.add_row("images", *(_grouped(part.images) for part in report.parts.values()), style="bold")
        empty = [part.images_without_objects for part in report.parts.values()]
        if any(empty):
            counts.add_row("images without objects", *map(_grouped, empty))
        blocks.append(counts)

    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        kinds[finding.severity, finding.kind].append(finding)
    if kinds:
        table = Table(title="Findings", title_justify="left", show_lines=True)
        for column in ("", "kind", "count"):
            table.add_column(column, justify="right" if column == "count" else "left")
        table.add_column("where and what", overflow="fold")
        for (severity, kind), group in kinds.items():
            shown = every_error if severity == "error" else each
            lines = [f"{finding.path}: {finding.message}" for finding in group[:shown]]
            if len(group) > shown:
                lines.append(f"and {_grouped(len(group) - shown)} more")
            style = _STYLE[severity]
            table.add_row(Text(severity, style), Text(kind), _grouped(len(group)), Text(_printable("\n".join(lines))))
        blocks.append(table)
    else:
        blocks.append(Text("Nothing to complain about."))
    if report.left_out:
        amounts = Counter(item.what for item in report.left_out)
        told = ", ".join(f"{what}: {_grouped(amount)}" for what, amount in sorted(amounts.items()))
        blocks.append(Text(f"Left out, each with its reason in audit.json: {told}"))
    return Group(*blocks)


def _printable(text: str) -> str:
    """Without what a terminal can't show, such as file names in another encoding."""
    return text.encode(errors="backslashreplace").decode()


def _grouped(number: int) -> str:
    return f"{number:,}"
