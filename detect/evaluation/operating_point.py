"""The operating point: a score threshold per category, chosen by costs and limits, confirmed on holdout images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .calibration import apply_calibration
from .coco_eval import NO_DETECTIONS_THRESHOLD
from .costs import ClassCosts, Costs
from .records import CocoEvaluation
from .threshold_counts import (
    ThresholdCounts,
    matched_scores,
    rate_within_limit,
    required_cases,
    required_images_for_rate,
    sampling_units,
    share_design_effect,
    share_estimate,
    share_within_limit,
    threshold_counts,
    tuning_images,
)

ChoiceProblem = Literal["no defects", "never detected", "limits conflict"]


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """A threshold, and whether it keeps the limits.

    Attributes:
        threshold: lowest score that counts.
        meets_missed_limit: whether no more than the limit is missed, with the required confidence; None without limit.
        meets_false_alarm_limit: likewise for false alarms.
        problem: "no defects": the tuning images hold none, so the threshold is a default; "never detected": all
            defects, or more than the limit allows, have no detection at any score; "limits conflict": no threshold
            keeps both, and the limit on missed defects has priority; None: there is none.
        never_detected: tuning defects without a detection at any score.
    """

    threshold: float
    meets_missed_limit: bool | None
    meets_false_alarm_limit: bool | None
    problem: ChoiceProblem | None = None
    never_detected: int = 0


def choose_threshold(counts: ThresholdCounts, costs: ClassCosts, confidence: float) -> ThresholdChoice:
    """Choose the threshold on the images of ``counts``.

    A limit is kept where its upper bound is within it. From the safe end of the scores, thresholds are tried until
    the first that fails; so the bound holds although the threshold was chosen on the same images (an order
    statistic's tolerance limit, Wilks 1941). Where no threshold keeps it, the limit is taken for the rate counted, and
    if that fails too, the threshold comes as near as it can. Among those left, the cheapest is taken, of equally cheap
    ones that with the fewest misses.
    """
    thresholds = counts.thresholds()
    allowed = np.ones(len(thresholds), dtype=bool)
    meets_missed_limit = keeps_false = None
    if costs.false_alarm_limit is not None:
        keeps_false, allowed = _within_false_alarm_limit(counts, thresholds, costs.false_alarm_limit, confidence)
    if not len(counts.defect_scores):
        lowest = float(thresholds[allowed][0]) if costs.false_alarm_limit is not None else 0.0
        unkept = None if costs.missed_limit is None else False
        return ThresholdChoice(max(NO_DETECTIONS_THRESHOLD, lowest), unkept, keeps_false, "no defects")
    problem: ChoiceProblem | None = None
    never = int(np.isinf(counts.defect_scores).sum())
    if never == len(counts.defect_scores) or (costs.missed_limit or 1) < never / len(counts.defect_scores):
        problem = "never detected"
    if costs.missed_limit is not None:
        meets_missed_limit, kept = _within_missed_limit(counts, thresholds, costs.missed_limit, confidence)
        if not (allowed & kept).any():
            problem = "limits conflict"
            keeps_false, allowed = False, np.arange(len(kept)) == np.flatnonzero(kept)[-1]
        allowed &= kept
    missed, false = counts.missed(thresholds), counts.false_alarms(thresholds)
    cost = np.where(allowed, costs.missed_price * missed + costs.false_alarm_price * false, np.inf)
    return ThresholdChoice(float(thresholds[np.argmin(cost)]), meets_missed_limit, keeps_false, problem, never)


def _within_missed_limit(
    counts: ThresholdCounts, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    """Whether any threshold keeps the limit with confidence, and which are allowed, at least one."""

    def kept(threshold: float) -> bool:
        missed, defects, effect = counts.miss_counts(threshold)
        return share_within_limit(missed / effect, defects / effect, limit, confidence)

    missed = counts.missed(thresholds)
    allowed = _run_of(missed, thresholds, kept)
    if allowed.any():
        return True, allowed
    tolerated = max(limit * len(counts.defect_scores), missed[0])
    return False, missed <= tolerated


def _within_false_alarm_limit(
    counts: ThresholdCounts, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    def kept(threshold: float) -> bool:
        false, images, effect = counts.false_counts(threshold)
        return rate_within_limit(false / effect, images / effect, limit, confidence)

    false = counts.false_alarms(thresholds)
    allowed = _run_of(false[::-1], thresholds[::-1], kept)[::-1]
    if allowed.any():
        return True, allowed
    tolerated = max(limit * int(counts.images.sum()), false[-1])
    return False, false <= tolerated


def _run_of(
    counts: NDArray[np.int64], thresholds: NDArray[np.float64], kept: Callable[[float], bool]
) -> NDArray[np.bool_]:
    """bool[thresholds]: those from the first on, the safest, until one fails; ``counts`` rise."""
    allowed = np.zeros(len(thresholds), dtype=bool)
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(counts)]):
        if not kept(float(thresholds[start])):
            break
        allowed[start:stop] = True
    return allowed


LimitedCount = Literal["missed", "false_alarms"]
LimitVerdict = Literal["confirmed", "refuted", "cannot tell"]


def guarantee(
    counted: LimitedCount,
    limit: float,
    kept: bool,
    holdout: dict[str, Any],
    confidence: float,
) -> dict[str, Any]:
    """Whether a limit is guaranteed by the tuning part and confirmed by the holdout part.

    Args:
        counted: a share of missed defects, or a rate of false alarms per image.
        limit: the limit.
        kept: whether the bound on the tuning part is within it.
        holdout: the rate at the threshold on the holdout part, as ``ThresholdCounts.rates`` gives it.
        confidence: of the bounds.

    Returns:
        ``limit``; ``guaranteed``, whether the bound on the tuning part keeps it; ``verdict`` of the holdout part:
        "confirmed" where the upper bound there is within the limit, "refuted" where the lower bound is above it,
        "cannot tell" otherwise; ``needed``, the number of defects (or images) that guarantee the limit if there is no
        miss (false alarm); ``needed_at_this_rate``, the number at the rate of the holdout part, None where that is not
        below the limit.
    """
    needs = required_cases if counted == "missed" else required_images_for_rate
    rate = holdout["rate"]
    at_rate = None if rate is None else needs(limit, confidence, rate)
    if at_rate is not None:
        at_rate = round(at_rate * holdout["design_effect"])
    return {
        "limit": limit,
        "guaranteed": kept,
        "verdict": _verdict(limit, holdout),
        "needed": needs(limit, confidence),
        "needed_at_this_rate": at_rate,
    }


def _verdict(limit: float, holdout: dict[str, Any]) -> LimitVerdict:
    if holdout["rate"] is None:
        return "cannot tell"
    if holdout["high"] <= limit:
        return "confirmed"
    return "refuted" if holdout["low"] > limit else "cannot tell"


def escape_rates(
    evaluated: CocoEvaluation,
    thresholds: NDArray[np.float64],
    *,
    images: NDArray[np.bool_] | None = None,
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Escape and overkill rates of images and, where groups are given, of groups (plates, coils, strips).

    An image or group is defective if it has a label, clean if it has none; one with crowd regions alone is neither. A
    detection counts if its score is at least its category's threshold, wherever it is: it stops the plate.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], of each category.
        images: bool[images], which to use; all by default.
        groups: group number of each image; images of one group are one plate.
        confidence: of each bound.

    Returns:
        {"images", "groups"}, the latter None without groups; each with ``count``, ``defective``, ``clean`` and the
        rates ``escape`` (defective without any detection), ``incomplete`` (defective, and not every defect is matched
        by a detection of its category at an IoU of 0.5) and ``overkill`` (clean with any detection): {"count", "of",
        "rate", "low", "high"}, the last three None if "of" is 0.
    """
    count = len(evaluated.truth.images)
    part = np.ones(count, dtype=bool) if images is None else images
    alone = np.arange(count)
    together = None if groups is None else sampling_units(count, groups)
    clusters = alone if together is None else together
    return {
        "images": _of_units(evaluated, thresholds, part, alone, clusters, confidence),
        "groups": None if together is None else _of_units(evaluated, thresholds, part, together, together, confidence),
    }


def _of_units(
    evaluated: CocoEvaluation,
    thresholds: NDArray[np.float64],
    images: NDArray[np.bool_],
    units: NDArray[np.int64],
    clusters: NDArray[np.int64],
    confidence: float,
) -> dict[str, Any]:
    """Rates over units of images; ``clusters``: the sampling unit of each unit."""
    truth, found, rows = evaluated.truth, evaluated.found, evaluated.matches.order
    count = int(units.max(initial=-1)) + 1
    shown = rows[(found.scores[rows] >= thresholds[found.category[rows]]) & images[found.image[rows]]]
    labelled = images[truth.image]
    to_find = labelled & ~truth.crowd
    missed = to_find & (matched_scores(evaluated) < thresholds[truth.category])

    present = _units_with(units[images], count)
    defective = _units_with(units[truth.image[to_find]], count)
    clean = present & ~_units_with(units[truth.image[labelled]], count)
    showing = _units_with(units[found.image[shown]], count)
    incomplete = _units_with(units[truth.image[missed]], count)
    cluster_of = np.zeros(count, dtype=np.int64)
    cluster_of[units] = clusters

    def rate_of(counted: NDArray[np.bool_], of: NDArray[np.bool_]) -> dict[str, Any]:
        by_cluster = [
            np.bincount(cluster_of[each], minlength=int(clusters.max(initial=-1)) + 1) for each in (counted, of)
        ]
        return share_estimate(int(counted.sum()), int(of.sum()), confidence, share_design_effect(*by_cluster))

    return {
        "count": int(present.sum()),
        "defective": int(defective.sum()),
        "clean": int(clean.sum()),
        "escape": rate_of(defective & ~showing, defective),
        "incomplete": rate_of(defective & incomplete, defective),
        "overkill": rate_of(clean & showing, clean),
    }


def _units_with(units: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(units, minlength=count) > 0


SUMMARY_POINTS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false alarms an image
_CURVE_POINTS = 100


def froc(evaluated: CocoEvaluation) -> dict[str, Any]:
    """The curve and its usual points (Setio et al. 2017), over all categories by one threshold, and for each alone.

    Returns:
        {"overall", "per_class"}; each with ``points``: what can be found with at most 1/8, 1/4, ..., 8 false alarms an
        image, as {"false_alarms_per_image", "sensitivity", "threshold", "reached"}, where ``threshold`` is the lowest
        score that does it, None where nothing can be shown, and ``reached`` is False where all detections together
        raise fewer; ``mean_sensitivity`` of these seven points; and ``curve``: ``false_alarms_per_image`` and
        ``sensitivity``, up to 100 points. A category's false alarms are its own, counted on all images. A threshold
        can't part equal scores. Sensitivities are None where there is nothing to find.
    """
    images = len(evaluated.truth.images)
    of_class = list(threshold_counts(evaluated, np.ones(images, dtype=bool), np.arange(images)))
    defects = np.sort(np.concatenate([each.defect_scores for each in of_class] or [np.empty(0)]))
    alarms = np.sort(np.concatenate([each.false_scores for each in of_class] or [np.empty(0)]))
    return {
        "overall": _of(defects, alarms, images),
        "per_class": {
            name: _of(each.defect_scores, each.false_scores, images)
            for name, each in zip(evaluated.truth.categories, of_class)
        },
    }


def _of(defects: NDArray[np.float64], alarms: NDArray[np.float64], images: int) -> dict[str, Any]:
    """From rising scores of defects, -inf for those never found, and of false alarms."""
    budgets = np.floor(np.array(SUMMARY_POINTS) * images + 1e-9).astype(np.int64)
    sensitivity, first = _with_at_most(budgets, defects, alarms)
    points = [
        {
            "false_alarms_per_image": at,
            "sensitivity": _plain(share),
            "threshold": float(defects[i]) if i < len(defects) else None,
            "reached": len(alarms) >= budget,
        }
        for at, share, i, budget in zip(SUMMARY_POINTS, sensitivity, first.tolist(), budgets.tolist())
    ]
    counts = np.unique(np.geomspace(1, len(alarms) + 1, _CURVE_POINTS).round().astype(np.int64)) - 1
    return {
        "points": points,
        "mean_sensitivity": float(sensitivity.mean()) if len(defects) else None,
        "curve": {
            "false_alarms_per_image": (counts / max(images, 1)).tolist(),
            "sensitivity": [_plain(each) for each in _with_at_most(counts, defects, alarms)[0]],
        },
    }


def _with_at_most(
    budgets: NDArray[np.int64], defects: NDArray[np.float64], alarms: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sensitivity with at most so many false alarms, and the first of the defects detected then."""
    too_many = len(alarms) - 1 - budgets
    lowest = np.where(too_many >= 0, np.append(alarms, 0)[np.maximum(too_many, 0)], -np.inf)
    first = np.searchsorted(defects, lowest, side="right")
    return (len(defects) - first) / len(defects) if len(defects) else np.full(len(budgets), np.nan), first


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


COCO_SIZES_PX = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, None)}


def recall_by_size(
    evaluated: CocoEvaluation, thresholds: NDArray[np.float64], *, bins: int = 4, confidence: float = 0.95
) -> dict[str, Any]:
    """Recall at an IoU of 0.5 by size, the square root of the labelled area in pixels.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], the lowest score that counts, of each category.
        bins: quantile bins of a category's defects; equal sizes share a bin.
        confidence: of each bound.

    Returns:
        {"overall", "per_class"}; each with ``quantiles``, a list by ascending size, and ``coco``, by "small", "medium"
        and "large": {"from_px", "to_px", "count", "of", "rate", "low", "high"}, ``to_px`` excluded except in the last
        quantile (None: no end), the last three None where there is no such defect.
    """
    truth = evaluated.truth
    to_find = ~truth.crowd
    found = matched_scores(evaluated) >= thresholds[truth.category]
    sizes_px = np.sqrt(np.maximum(truth.area, 0))

    def of(rows: NDArray[np.int64]) -> dict[str, Any]:
        def counted(inside: NDArray[np.bool_], low: float, high: float | None) -> dict[str, Any]:
            hit, image = found[rows[inside]], truth.image[rows[inside]]
            of_image, hit_of_image = (np.bincount(each, minlength=len(truth.images)) for each in (image, image[hit]))
            effect = share_design_effect(hit_of_image, of_image)
            return {"from_px": low, "to_px": high, **share_estimate(int(hit.sum()), len(hit), confidence, effect)}

        size = sizes_px[rows]
        edges = np.unique(np.quantile(size, np.linspace(0, 1, bins + 1))).tolist() if len(size) else []
        edges = edges * 2 if len(edges) == 1 else edges  # all of one size
        quantiles = [
            counted((size >= low) & (size <= high if high == edges[-1] else size < high), low, high)
            for low, high in pairwise(edges)
        ]
        coco = {
            name: counted((size >= low) & (size < (high or np.inf)), low, high)
            for name, (low, high) in COCO_SIZES_PX.items()
        }
        return {"quantiles": quantiles, "coco": coco}

    return {
        "overall": of(np.flatnonzero(to_find)),
        "per_class": {
            name: of(np.flatnonzero(to_find & (truth.category == k))) for k, name in enumerate(truth.categories)
        },
    }


def operating_point(
    evaluated: CocoEvaluation,
    costs: Costs,
    *,
    groups: Sequence[int] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose the threshold of each category by the costs of errors and the limits on them.

    Args:
        evaluated: one run of COCOeval.
        costs: prices and limits of every category.
        groups: group number of each image; groups are not divided, and bounds are widened where errors are clustered
            within groups. None: each image is a group.
        calibration: result of ``fit_calibration``, if scores will be calibrated before they are compared. It changes
            only the thresholds' values, as the order of scores stays.

    Returns:
        ``thresholds``: category -> score. ``per_class``: by category its ``threshold``, ``uncalibrated_threshold`` (for
        the original scores), ``price`` (None if none was given), ``tuning`` and ``holdout`` (the rates of the two
        parts as ``ThresholdCounts.rates`` gives them, with ``cost_per_image``), ``limits`` (what each is worth, as
        ``guarantee`` says), ``problem`` and ``never_detected`` (as in ``ThresholdChoice``). ``parts``: the division.
        ``tuning``, ``holdout``: ``cost_per_image`` over all categories, and what ``escape_rates`` gives for ``images``
        and ``groups``.

    Raises:
        DataError: not a group for each image.
    """
    truth = evaluated.truth
    units = sampling_units(len(truth.images), groups)
    first = tuning_images(truth, units, share=costs.tuning_share, seed=costs.seed)
    parts = {"tuning": first, "holdout": ~first}
    counts_by_part = {name: list(threshold_counts(evaluated, images, units)) for name, images in parts.items()}
    chosen, per_class = [], {}
    for k, name in enumerate(truth.categories):
        own = costs.per_class[name]
        choice = choose_threshold(counts_by_part["tuning"][k], own, costs.per_limit_confidence)
        chosen.append(choice.threshold)
        threshold = _calibrated(choice.threshold, name, calibration)
        figures = _of_class(
            choice, own, {part: each[k] for part, each in counts_by_part.items()}, costs.per_limit_confidence
        )
        per_class[name] = {"threshold": threshold, "uncalibrated_threshold": choice.threshold, **figures}
    at = np.array(chosen)
    return {
        "thresholds": {name: each["threshold"] for name, each in per_class.items()},
        "per_class": per_class,
        "parts": _parts(parts, units, costs, grouped=groups is not None),
        **{
            part: {
                "cost_per_image": _total(each[part]["cost_per_image"] for each in per_class.values()),
                **escape_rates(evaluated, at, images=images, groups=groups, confidence=costs.per_limit_confidence),
            }
            for part, images in parts.items()
        },
    }


def _of_class(
    choice: ThresholdChoice, costs: ClassCosts, counts_by_part: Mapping[str, ThresholdCounts], confidence: float
) -> dict[str, Any]:
    rates = {part: counts.rates(choice.threshold, confidence) for part, counts in counts_by_part.items()}
    limits: dict[str, Any] = {}
    wanted: tuple[tuple[LimitedCount, float | None, bool | None], ...] = (
        ("missed", costs.missed_limit, choice.meets_missed_limit),
        ("false_alarms", costs.false_alarm_limit, choice.meets_false_alarm_limit),
    )
    for counted, limit, kept in wanted:
        if limit is not None:
            limits[counted] = guarantee(counted, limit, bool(kept), rates["holdout"][counted], confidence)
    for each in rates.values():
        each["cost_per_image"] = _cost(each, costs) if costs.priced else None
    price = {"missed": costs.missed_price, "false_alarm": costs.false_alarm_price} if costs.priced else None
    problem = {"problem": choice.problem, "never_detected": choice.never_detected}
    return {"price": price, **rates, "limits": limits, **problem}


def _calibrated(threshold: float, category: str, calibration: Mapping[str, Any] | None) -> float:
    if calibration is None:
        return threshold
    fitted = calibration["per_class"][category]
    return float(apply_calibration(np.array([threshold]), fitted["temperature"], fitted["shift"])[0])


def _cost(rates: dict[str, Any], costs: ClassCosts) -> float | None:
    missed, false = rates["missed"]["count"], rates["false_alarms"]
    total = costs.missed_price * missed + costs.false_alarm_price * false["count"]
    return total / false["of"] if false["of"] else None


def _parts(
    parts: dict[str, NDArray[np.bool_]], units: NDArray[np.int64], costs: Costs, *, grouped: bool
) -> dict[str, Any]:
    return {
        "by": "group" if grouped else "image",
        "seed": costs.seed,
        "confidence": costs.per_limit_confidence,
        "joint": {"limits": costs.limits, "confidence": costs.confidence} if costs.joint and costs.limits > 1 else None,
        **{name: int(images.sum()) for name, images in parts.items()},
        **{f"{name}_groups": len(set(units[images].tolist())) if grouped else None for name, images in parts.items()},
    }


def _total(costs: Iterable[float | None]) -> float | None:
    priced = [cost for cost in costs if cost is not None]
    return sum(priced) if priced else None
