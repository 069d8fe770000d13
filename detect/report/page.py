"""report.html: one page without a link to anything outside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import Judgement
from ..evaluation.breakdown import breakdown
from ..evaluation.mending import KINDS
from . import wording
from .charts import bias_sketch
from .curves import iou_chart, operating_charts, pr_charts, threshold_chart, training_charts
from .packing import as_script, pack
from .pictures import collect
from .template import named, render


def to_html(judgement: Judgement, *, images_root: Path | None, log: list[dict[str, Any]], meta: dict[str, Any]) -> str:
    """Render page.html with its style sheet and script inlined; whatever came from outside is escaped."""
    summary = judgement.summary
    filters = named(
        wording.fraction,
        wording.signed,
        wording.gained,
        wording.offset,
        wording.count,
        wording.percent,
        wording.plural,
        wording.ends,
        wording.span,
        wording.resampled,
        wording.displaced,
    )
    files = [outcome.image.file_name for outcome in judgement.outcomes]
    album = collect(files, _most_wrong_first(judgement), images_root)
    error_of, errors = _errors(judgement)
    packed = pack(judgement.evaluated, album, summary["score_threshold"], error_of, errors)
    return render(
        "page.html",
        filters | {"sketch": bias_sketch},
        s={"intervals": None, **summary},
        gist=wording.gist(summary),
        provenance=wording.provenance(summary, meta),
        subject=[str(meta[key]) for key in ("weights", "data") if meta.get(key)],
        pr=pr_charts(summary),
        by_iou=iou_chart(summary),
        kinds=[kind.name for kind in KINDS],
        thresholds=threshold_chart(summary),
        operating=summary.get("operating"),
        operating_charts=operating_charts(summary.get("operating")),
        training=training_charts(log),
        with_pictures=images_root is not None,
        album=album,
        errors=packed["errors"],
        judged=as_script(packed),
    )


def _errors(judgement: Judgement) -> tuple[NDArray[np.int64], list[str]]:
    """Of each column of the matches the position of its kind of error, -1 for none; and the kinds of detections."""
    found = breakdown(judgement.evaluated)
    names = [kind.name for kind in KINDS if kind.name != "missed"]
    of_row = np.full(len(judgement.evaluated.found.scores), -1, dtype=np.int64)
    for position, name in enumerate(names):
        of_row[found.errors[name].detections] = position
    return of_row[judgement.evaluated.matches.order], names


def _most_wrong_first(judgement: Judgement) -> list[int]:
    """Positions of the images, so that those worth a look have a picture where there is no room for all."""
    wrong = [len(outcome.misses) + len(outcome.false_alarms) for outcome in judgement.outcomes]
    return sorted(range(len(wrong)), key=lambda position: -wrong[position])
