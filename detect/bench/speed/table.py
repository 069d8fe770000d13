"""Rows of ``detect bench infer`` as a Markdown table, each beside the first as a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cells import table

_COLUMNS = ["system", "runtime", "precision", "threads", "batch", "p50 ms", "p99 ms", "images/s", "AP50", "AP", "time"]


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table; ``time`` is an image's, against the first row's."""
    first = rows[0]["images_per_s"]
    cells = [
        [
            row["system"],
            row["runtime"],
            row["precision"],
            str(row["threads"]),
            str(row["batch"]),
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['images_per_s']:.1f}",
            *("-" if row[key] is None else f"{row[key]:.3f}" for key in ("AP50", "AP")),
            f"x {first / row['images_per_s']:.2f}",
        ]
        for row in rows
    ]
    return "\n".join(table(_COLUMNS, cells)) + "\n"
