"""Tables in Markdown, and how scores and differences are told in their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Padded, so that it reads well as plain text too; the first column is text, the others are figures."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows)]
    widths = [max(width, 3) for width in widths]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(columns), line(rule), *map(line, rows)]


def mean(score: dict[str, Any]) -> str:
    """A mean with the standard deviation from seed to seed, if there is one: ``0.512 ± 0.013``."""
    spread = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
    return "-" if score["mean"] is None else f"{score['mean']:.3f}{spread}"


def span(score: dict[str, Any]) -> str:
    """The ends of its interval: ``0.480 to 0.541``."""
    return "-" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


def signed(score: dict[str, Any]) -> str:
    """A difference with the ends of its interval: ``+0.031 (+0.008 to +0.055)``."""
    if score["value"] is None:
        return "-"
    ends = "" if score["low"] is None else f" ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"{score['value']:+.3f}{ends}"


def short(count: int) -> str:
    """1234567 -> "1.23 M"; three figures."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            scaled = count / size
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{unit}"
    return str(count)
