"""The files of a report, each complete or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..evaluation.records import Judgement
from .charts import figures
from .page import to_html, write_page
from .tables import to_latex, to_markdown


class ReportPaths(NamedTuple):
    """Where the files of a report lie."""

    json: Path
    markdown: Path
    html: Path
    latex: Path
    figures: Path
    detections: Path


def write_report(
    judgement: Judgement,
    out: Path,
    *,
    images_root: Path | None,
    log: list[dict[str, Any]] | None = None,
    meta: dict[str, Any] | None = None,
) -> ReportPaths:
    """Write report.html, .md, .tex and .json, the curves in figures, and detections.json (COCO results).

    Args:
        judgement: what to report.
        out: the folder of them all, made if it is not there; files of an earlier report are replaced.
        images_root: the folder that image file names start from, that of the COCO file; without it, and for pictures
            that can't be read, the page shows the boxes alone and says so.
        log: the lines of a run's log.jsonl, for the curves of training.
        meta: where it comes from, such as weights, data, epoch, seed, machine and date; plain JSON values, shown in
            the order given.

    Raises:
        DataError: the folder can't be written to.
    """
    meta = meta or {}
    contents = {
        "detections.json": json.dumps(judgement.detections, allow_nan=False),
        "report.json": json.dumps({**judgement.summary, "meta": meta}, indent=1, allow_nan=False, default=str),
        "report.md": to_markdown(judgement.summary, meta),
        "report.tex": to_latex(judgement.summary),
        "report.html": to_html(judgement, images_root=images_root, log=log or [], meta=meta),
    }
    pictures = figures(judgement.summary)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            write_page(out / name, text)
        for name, text in pictures.items():
            write_page(out / "figures" / name, text)
        for old in set((out / "figures").glob("*.svg")) - {out / "figures" / name for name in pictures}:
            old.unlink()
    except OSError as error:
        found = f"the report can't be written ({error.strerror})"
        raise DataError(found, where=out, fix="choose a folder that can be written to") from None
    named = ("report.json", "report.md", "report.html", "report.tex", "figures", "detections.json")
    return ReportPaths(*(out / name for name in named))
