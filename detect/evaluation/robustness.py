"""Robustness: a detector evaluated on corrupted copies of labelled images, and the drop in AP50."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.reading import clean_name
from ..errors import DataError
from ..images import Pixels, read_image
from ..structures import Detections
from ..synthetic.corruptions import CORRUPTIONS, SEVERITIES, checked_names, checked_severities, corrupt
from .bootstrap import bootstrap_ap, bootstrap_counts, confidence_interval, nan_mean
from .coco_eval import IOU_50, average_precisions, run_coco_eval
from .records import CocoEvaluation, check_detections, check_truth, groups_with_boxes

SCHEMA = 1
CONFIDENCE = 0.95

Detect = Callable[[Sequence[Pixels]], Sequence[Detections]]
_Condition = tuple[str, int]  # name of a corruption and severity; severity 0: the original images
_CLEAN: _Condition = ("", 0)


def judge_corrupted(
    detect: Detect,
    images: Sequence[Path],
    truth: dict[str, Any],
    *,
    names: Iterable[str] = tuple(CORRUPTIONS),
    severities: Iterable[int] = range(1, SEVERITIES + 1),
    seed: int = 0,
    batch_size: int = 16,
    resamples: int = 1000,
    groups: Sequence[int] | None = None,
    max_value: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate a detector on the original images and under each corruption and severity.

    Args:
        detect: images -> detections of each, in the same order; called with ``batch_size`` images at most.
        images: files, in the order of the truth's images.
        truth: a COCO data set; categories are matched to the detector's by name.
        names: of corruptions.
        severities: 1 to 5; 0 is always included.
        seed: the same seed gives the same copies and intervals.
        resamples: of the bootstrap over images; 0: no intervals.
        groups: group number of each image, by the images' sorted ids; images of one group are drawn together.
        max_value: white level of 16-bit images, as for ``corrupt``.
        progress: called with the number of images just processed; the total is their number times
            (1 + corruptions x severities).

    Returns:
        Plain JSON values, fractions, None where there is nothing to measure.

        ``clean``: ``AP``, ``AP50``, ``AP75``, ``AP50_low`` and ``AP50_high`` (95 % interval over images, as
        ``report_intervals`` gives it) and ``per_class``: name -> ``AP``, ``AP50``, ``AP75``.

        ``corruptions``: name -> ``what``, ``parameter``, ``unit`` and ``severities``: "1" to "5" -> ``value`` of the
        parameter, the same figures, and ``drop``, the relative loss of AP50, with ``drop_low`` and ``drop_high``, also
        for each class.

        ``mean``: the same over all corruptions and severities, and ``by_severity`` likewise.

        ``images``, ``boxes``, ``seed``, ``resamples``, ``names``, ``severities``, ``schema``.

    Raises:
        DataError: unknown names or severities, unreadable images, or labels or detections that don't fit.
    """
    names, severities = checked_names(names), checked_severities(severities)
    if not names or not severities:
        raise DataError("no corruption or no severity was given", fix="name at least one of each")
    labels = check_truth(truth)
    if len(images) != len(labels.images):
        raise DataError(
            f"{len(images)} image files for the {len(labels.images)} of the labels", fix="give one per image"
        )
    conditions = [_CLEAN, *((name, severity) for name in names for severity in severities)]
    results: dict[_Condition, list[dict[str, Any]]] = {condition: [] for condition in conditions}
    ids = {clean_name(str(item["name"])): item["id"] for item in truth["categories"]}
    for start in range(0, len(images), batch_size):
        members = range(start, min(start + batch_size, len(images)))
        pictures = [read_image(images[i]) for i in members]
        for name, severity in conditions:
            copies = [
                corrupt(p, name, severity, seed=seed, image=i, max_value=max_value) if severity else p
                for p, i in zip(pictures, members)
            ]
            for i, found in zip(members, detect(copies)):
                results[name, severity] += _results(found, truth["images"][i]["id"], ids)
            progress(len(copies))
    scenes = groups_with_boxes(labels, groups)[None]
    drawn = bootstrap_counts(len(images), resamples=resamples, seed=seed, groups=groups)
    counts = np.concatenate([np.ones((1, drawn.shape[1]), np.int64), drawn])
    scores, draws = {}, {}
    for condition, found_ in results.items():
        evaluated = run_coco_eval(labels, check_detections(found_, labels), sizes=False)
        scores[condition] = _scores(evaluated)
        draws[condition] = _resampled_ap50(evaluated, counts)
    return {
        "schema": SCHEMA,
        "images": len(images),
        "boxes": int((~labels.crowd).sum()),
        "seed": seed,
        "resamples": resamples,
        "names": names,
        "severities": severities,
        **_table(scores, draws, names, severities, scenes),
    }


def _results(found: Detections, image_id: Any, ids: dict[str, Any]) -> list[dict[str, Any]]:
    unknown = [name for name in found.categories if name not in ids]
    if unknown:
        fix = "evaluate it on data with the categories of its training"
        raise DataError(f"the detector was trained on {', '.join(unknown)}, the data has {', '.join(ids)}", fix=fix)
    return [
        {
            "image_id": image_id,
            "category_id": ids[each.label],
            "bbox": [each.xyxy[0], each.xyxy[1], each.xyxy[2] - each.xyxy[0], each.xyxy[3] - each.xyxy[1]],
            "score": each.score,
        }
        for each in found
    ]


def _scores(evaluated: CocoEvaluation) -> dict[str, Any]:
    per_class = {name: average_precisions(evaluated, k) for k, name in enumerate(evaluated.truth.categories)}
    return {**average_precisions(evaluated), "per_class": per_class}


def _resampled_ap50(evaluated: CocoEvaluation, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64[1 + resamples], the first of the original images."""
    matches = evaluated.matches
    at_50 = replace(
        matches,
        **{k: getattr(matches, k)[IOU_50 : IOU_50 + 1] for k in ("matched_label", "ignored", "matched_detection")},
    )
    by_class = bootstrap_ap(replace(evaluated, matches=at_50), counts)[:, 0]
    return nan_mean(by_class.T)


def _table(
    scores: dict[_Condition, dict[str, Any]],
    draws: dict[_Condition, NDArray[np.float64]],
    names: Sequence[str],
    severities: Sequence[int],
    scenes: int,
) -> dict[str, Any]:
    clean, clean_draws = scores[_CLEAN], draws[_CLEAN]

    def row(conditions: Sequence[_Condition]) -> dict[str, Any]:
        """The mean over some conditions, and its drop from the clean images."""
        figures = _mean_scores([scores[each] for each in conditions])
        drawn = np.mean([draws[each] for each in conditions], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            lost = 1 - drawn / clean_draws
        figures |= _ends("AP50", drawn, scenes, biased=True)
        figures |= {"drop": _drop(figures, clean)} | _ends("drop", lost, scenes, biased=False)
        for name, values in figures["per_class"].items():
            values["drop"] = _drop(values, clean["per_class"][name])
        return figures

    corruptions = {}
    for name in names:
        kind = CORRUPTIONS[name]
        corruptions[name] = {
            "what": kind.what,
            "parameter": kind.parameter,
            "unit": kind.unit,
            "severities": {str(s): {"value": float(kind.levels[s - 1]), **row([(name, s)])} for s in severities},
            "mean": row([(name, s) for s in severities]),
        }
    return {
        "clean": clean | _ends("AP50", clean_draws, scenes, biased=True),
        "corruptions": corruptions,
        "mean": row([(name, s) for name in names for s in severities]),
        "by_severity": {str(s): row([(name, s) for name in names]) for s in severities},
    }


def _mean_scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = ("AP", "AP50", "AP75")
    per_class = {
        name: {key: _mean([r["per_class"][name][key] for r in rows]) for key in keys} for name in rows[0]["per_class"]
    }
    return {**{key: _mean([r[key] for r in rows]) for key in keys}, "per_class": per_class}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _drop(corrupted: dict[str, Any], clean: dict[str, Any]) -> float | None:
    return 1 - corrupted["AP50"] / clean["AP50"] if clean["AP50"] else None


def _ends(key: str, drawn: NDArray[np.float64], scenes: int, *, biased: bool) -> dict[str, float | None]:
    """The ends of the interval, by ``confidence_interval``; the bias of AP cancels in the relative loss."""
    interval = confidence_interval(drawn, [scenes], CONFIDENCE, biased=biased)
    return {f"{key}_low": interval.low, f"{key}_high": interval.high}
