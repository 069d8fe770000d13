"""Write the report of a run: an HTML page, Markdown, LaTeX, JSON and SVG figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from ..errors import DataError
from ..evaluation.coco_eval import IOU_50, IOU_THRESHOLD
from ..evaluation.error_analysis import MAIN_ERRORS, analyze_errors
from ..evaluation.records import CocoEvaluation, Judgement
from ..fileio import write_text
from ..structures import xywh_to_xyxy
from . import tables as wording
from .charts import box_bias_chart, figures, iou_chart, operating_charts, pr_charts, threshold_chart, training_charts
from .tables import STRETCHED, to_latex, to_markdown
from .thumbnails import Thumbnails, collect_thumbnails


def render(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Render a template of this folder with HTML escaping.

    Args:
        template: file name.
        filters: template filters by name.
        values: template variables.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.globals["stretched_note"] = STRETCHED
    return environment.get_template(template).render(**values)


def write_page(path: Path, text: str) -> None:
    """Write a text file atomically; undecodable bytes of file names (surrogates) are written as escapes."""
    write_text(path, text.encode(errors="backslashreplace").decode())


@contextmanager
def write_errors(what: str, where: Path, *, fix: str = "choose a folder that can be written to") -> Iterator[None]:
    """Raise a DataError that ``what`` can't be written for an OSError in the ``with`` block."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{what} can't be written ({error.strerror})", where=where, fix=fix) from None


def filters_by_name(*functions: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The functions by their names, as template filters."""
    return {function.__name__: function for function in functions}


def read_asset(name: str) -> str:
    """A style sheet or script of this folder, for pages of other packages with the same design."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


_MAX_VIEWER_DETECTIONS = 60_000  # about 3 MB; the detections with the lowest scores are left out
_UNMATCHED, _IGNORED = -1, -2  # as in script/counting.js


def pack_viewer_data(
    evaluated: CocoEvaluation,
    album: Thumbnails,
    threshold: float,
    error_of: NDArray[np.int64] | None = None,
    errors: Sequence[str] = (),
) -> dict[str, Any]:
    """Plain JSON values for script/counting.js.

    Args:
        evaluated: labels, detections and matches.
        album: the thumbnails of the page.
        threshold: initial score threshold of the page.
        error_of: int64[M], for each column of the matches the position of its error in ``errors``, -1 for none.
        errors: names of the kinds of error.

    Returns:
        ``classes``, ``errors``, ``threshold``, ``min_score`` (lowest score that is included), ``iou``, and ``images``:
        lists of file name, width, height, position of the thumbnail or None, labels ([x1, y1, x2, y2, class, 1 if
        crowd]) and detections by decreasing score ([x1, y1, x2, y2, class, score, position of the matched label or -1
        for none or -2 for a crowd, position of the error]). Coordinates are in pixels.
    """
    truth, found, matches = evaluated.truth, evaluated.found, evaluated.matches
    scores = found.scores[matches.order]
    columns = np.argsort(-scores, kind="stable")
    min_score = float(scores[columns[_MAX_VIEWER_DETECTIONS - 1]]) if len(columns) > _MAX_VIEWER_DETECTIONS else 0.0
    columns = columns[:_MAX_VIEWER_DETECTIONS]
    labels_of: list[list[list[float]]] = [[] for _ in truth.images]
    position_of = np.zeros(len(truth.image), np.int64)  # position of each label among the labels of its image
    gt_xyxy = xywh_to_xyxy(truth.boxes_xywh).round(2).tolist()
    for label, (image, category, crowd) in enumerate(zip(truth.image, truth.category, truth.crowd)):
        position_of[label] = len(labels_of[image])
        labels_of[image].append([*gt_xyxy[label], int(category), *([1] if crowd else [])])
    detections_of: list[list[list[float | None]]] = [[] for _ in truth.images]
    pred_xyxy = xywh_to_xyxy(found.boxes_xywh).round(2).tolist()
    for column in columns.tolist():
        row, label = int(matches.order[column]), int(matches.matched_label[IOU_50, column])
        matched = _IGNORED if matches.ignored[IOU_50, column] else _UNMATCHED if label < 0 else int(position_of[label])
        error = None if error_of is None or error_of[column] < 0 else int(error_of[column])
        packed = [*pred_xyxy[row], int(found.category[row]), round(float(scores[column]), 5), matched]
        detections_of[found.image[row]].append([*packed, *([] if error is None else [error])])
    images = []
    for number, image in enumerate(truth.images):
        picture = album.of.get(number)
        boxes: list[list[Any]] = [*labels_of[number], *detections_of[number]]
        width, height = album.size(number) or _size(image.width, image.height, boxes)
        images.append([image.file_name, width, height, picture, labels_of[number], detections_of[number]])
    return {
        "classes": list(truth.categories),
        "errors": list(errors),
        "threshold": int(threshold * 1e5) / 1e5,  # rounded down, so that a detection with this score is included
        "min_score": min_score,
        "iou": IOU_THRESHOLD,
        "images": images,
    }


def as_script(packed: dict[str, Any]) -> Markup:
    """JSON for a script element, escaped so that it can't end the element."""
    text = json.dumps(packed, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _size(width: int | None, height: int | None, boxes: Sequence[Sequence[Any]]) -> tuple[float, float]:
    """(width, height) from the labels, else the extent of the boxes, at least 1 x 1."""
    if width and height:
        return width, height
    return max(1.0, *(box[2] for box in boxes), 1.0), max(1.0, *(box[3] for box in boxes), 1.0)


def to_html(judgement: Judgement, *, images_root: Path | None, log: list[dict[str, Any]], meta: dict[str, Any]) -> str:
    """Render page.html with its style sheet and script inlined; all external text is escaped."""
    summary = judgement.summary
    filters = filters_by_name(
        wording.fraction,
        wording.signed,
        wording.signed_text,
        wording.offset,
        wording.count,
        wording.percent,
        wording.plural,
        wording.ends,
        wording.span,
        wording.resampled,
        wording.box_bias_sentence,
        wording.edge_bias_text,
        wording.warning_sentence,
        wording.operating_sentences,
        wording.escape_notes,
    )
    files = [outcome.image.file_name for outcome in judgement.outcomes]
    album = collect_thumbnails(files, _most_wrong_first(judgement), images_root)
    error_of, errors = _errors(judgement)
    packed = pack_viewer_data(judgement.evaluated, album, summary["score_threshold"], error_of, errors)
    return render(
        "page.html",
        filters | {"sketch": box_bias_chart},
        s={"intervals": None, **summary},
        summary=wording.headline(summary),
        provenance=wording.provenance(summary, meta),
        subject=[str(meta[key]) for key in ("weights", "data") if meta.get(key)],
        pr=pr_charts(summary),
        by_iou=iou_chart(summary),
        kinds=[kind.name for kind in MAIN_ERRORS],
        thresholds=threshold_chart(summary),
        operating=summary.get("operating"),
        operating_charts=operating_charts(summary.get("operating")),
        training=training_charts(log),
        with_pictures=images_root is not None,
        album=album,
        errors=packed["errors"],
        viewer_data=as_script(packed),
    )


def _errors(judgement: Judgement) -> tuple[NDArray[np.int64], list[str]]:
    """For each column of the matches, the position of its kind of error, -1 for none; names of the kinds of error."""
    analysis = analyze_errors(judgement.evaluated)
    names = [kind.name for kind in MAIN_ERRORS if kind.name != "missed"]
    of_row = np.full(len(judgement.evaluated.found.scores), -1, dtype=np.int64)
    for position, name in enumerate(names):
        of_row[analysis.errors[name].detections] = position
    return of_row[judgement.evaluated.matches.order], names


def _most_wrong_first(judgement: Judgement) -> list[int]:
    """Positions of the images, most mistakes first, so that these get a thumbnail if not all images fit."""
    wrong = [len(outcome.misses) + len(outcome.false_alarms) for outcome in judgement.outcomes]
    return sorted(range(len(wrong)), key=lambda position: -wrong[position])


class ReportPaths(NamedTuple):
    """Paths of the files of a report."""

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
    """Write report.html, .md, .tex and .json, the curves in figures/, and detections.json (COCO results).

    Args:
        judgement: the evaluation to report.
        out: output folder, created if it does not exist; files of an earlier report are replaced.
        images_root: the folder to which image file names are relative, that of the COCO file; without it, and for
            unreadable images, the page shows only the boxes and a note.
        log: the rows of a run's log.jsonl, for the training curves.
        meta: provenance such as weights, data, epoch, seed, machine and date; plain JSON values, shown in the given
            order.

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
    svg_files = figures(judgement.summary)
    with write_errors("the report", out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            write_page(out / name, text)
        for name, text in svg_files.items():
            write_page(out / "figures" / name, text)
        for old in set((out / "figures").glob("*.svg")) - {out / "figures" / name for name in svg_files}:
            old.unlink()
    named = ("report.json", "report.md", "report.html", "report.tex", "figures", "detections.json")
    return ReportPaths(*(out / name for name in named))
