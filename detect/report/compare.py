"""compare.html, compare.md and compare.json: systems side by side, what differs, how surely, and on which images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..errors import DataError
from ..evaluation import Evaluated
from ..evaluation.comparison import FIGURES, ImageDifference
from . import compare_words as words
from . import wording
from .compare_gallery import Pairs, Seen, differences, pairs, seen
from .template import named, render, write_page

_SKETCH_WH = (150, 18)  # CSS pixels


class ComparisonPaths(NamedTuple):
    """Where the files of a comparison lie."""

    json: Path
    markdown: Path
    html: Path


def write_comparison(
    comparison: dict[str, Any],
    judged: Mapping[str, Sequence[Evaluated]],
    out: Path,
    *,
    images_roots: Sequence[Path],
    meta: dict[str, Any] | None = None,
) -> ComparisonPaths:
    """Write compare.json, compare.md and compare.html into the folder ``out``.

    Args:
        comparison: what ``detect.evaluation.comparison.compare`` tells.
        judged: by system, the first first, for each fold the run whose boxes are drawn.
        out: a folder, made if it is not there; files of an earlier comparison are replaced.
        images_roots: for each fold the folder that image file names start from.
        meta: where it comes from; plain JSON values, shown in the order given.

    Raises:
        DataError: the folder can't be written to.
    """
    meta = meta or {}
    runs = {name: [seen(each) for each in folds] for name, folds in judged.items()}
    first, *others = runs
    found = {name: differences(runs[first], runs[name]) for name in others}
    thresholds = {name: [each.score_threshold for each in folds] for name, folds in runs.items()}
    images = {name: [_told(runs[first][fold], each) for fold, each in of_other] for name, of_other in found.items()}
    told = {**comparison, "score_thresholds": thresholds, "images_by_system": images, "meta": meta}
    paths = ComparisonPaths(out / "compare.json", out / "compare.md", out / "compare.html")
    contents = {
        paths.json: json.dumps(told, indent=1, allow_nan=False, default=str) + "\n",
        paths.markdown: words.to_markdown(comparison),
        paths.html: to_html(comparison, pairs(found, runs, images_roots), thresholds, meta),
    }
    try:
        for path, text in contents.items():
            write_page(path, text)
    except OSError as error:
        why = f"the comparison can't be written ({error.strerror})"
        raise DataError(why, where=out, fix="choose a folder that can be written to") from None
    return paths


def to_html(
    comparison: dict[str, Any], gallery: Pairs, thresholds: Mapping[str, Sequence[float]], meta: dict[str, Any]
) -> str:
    """Render compare.html with its style sheets and script inlined; whatever came from outside is escaped."""
    filters = named(wording.fraction, wording.count, wording.plural, words.span, words.signed, words.brief)
    others = comparison["systems"][1:]
    tables = [(row["name"], words.class_rows(comparison, row)) for row in others]
    return render(
        "compare.html",
        filters,
        c=comparison,
        figures=FIGURES,
        share=words.percent(comparison),
        subject=words.subject(comparison),
        sentences=words.sentences(comparison),
        explanation=words.explanation(comparison),
        tables=tables,
        sketch=interval_sketch,
        reach={name: {key: _reach(rows, key) for key in FIGURES} for name, rows in tables},
        gallery=gallery,
        thresholds={name: ", ".join(f"{each:.3f}" for each in folds) for name, folds in thresholds.items()},
        meta=[(key.replace("_", " "), value) for key, value in meta.items() if value is not None],
    )


def interval_sketch(interval: dict[str, Any], reach: float) -> Markup:
    """An interval as a bar around its value, with a line at 0; ``reach`` is how far the scale goes to either side."""
    if interval["value"] is None or not reach:
        return Markup("")
    width, height = _SKETCH_WH

    def x(value: float) -> float:
        return width / 2 + (width / 2 - 5) * value / reach

    kind = {"better": "better", "worse": "worse"}.get(interval["verdict"], "unsure")
    bar = ""
    if interval["low"] is not None:
        low, high = x(interval["low"]), x(interval["high"])
        bar = (
            f'<rect class="{kind}" x="{low:.1f}" y="{height / 2 - 2.5}" width="{high - low:.1f}" height="5" rx="2.5"/>'
        )
    return Markup(
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<line x1="{width / 2}" x2="{width / 2}" y1="0" y2="{height}"/>{bar}'
        f'<circle class="{kind}" cx="{x(interval["value"]):.1f}" cy="{height / 2}" r="3.5"/></svg>'
    )


def _reach(rows: Sequence[dict[str, Any]], key: str) -> float:
    ends = [row["difference"][key][end] for row in rows for end in ("value", "low", "high")]
    return max((abs(end) for end in ends if end is not None), default=0.0)


def _told(first: Seen, difference: ImageDifference) -> dict[str, Any]:
    image = first.evaluated.truth.images[difference.image]
    return {
        "id": image.id,
        "file_name": image.file_name,
        "gained": difference.gained,
        "lost": difference.lost,
        "false": list(difference.false),
    }
