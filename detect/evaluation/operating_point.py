"""The operating point: a score threshold per category, chosen by costs and limits, confirmed on other images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .calibration import calibrated
from .coco_eval import NO_DETECTIONS_THRESHOLD
from .costs import ClassCosts, Costs
from .records import Evaluated
from .threshold_counts import (
    Tally,
    cases_for_share,
    choosing_part,
    found_scores,
    images_for_rate,
    rate_kept,
    share,
    share_design_effect,
    share_kept,
    tallies,
    units_of,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and what it keeps.

    Attributes:
        threshold: lowest score that counts.
        keeps_missed: whether, with the confidence asked for, no more than the limit is missed; None without a limit.
        keeps_false_alarms: likewise for false alarms.
        words: what else there is to say about the choice, "" for nothing.
    """

    threshold: float
    keeps_missed: bool | None
    keeps_false_alarms: bool | None
    words: str


def choose(tally: Tally, costs: ClassCosts, confidence: float) -> Choice:
    """Choose on the images of a tally.

    A limit is kept where its upper bound is within it. From the safe end of the scores, thresholds are tried until
    the first that fails; so the bound holds although the threshold was chosen on the same images (an order
    statistic's tolerance limit, Wilks 1941). Where no threshold keeps it, the limit is taken for the rate counted, and
    if that fails too, the threshold comes as near as it can. Among those left, the cheapest is taken, of equally cheap
    ones that with the fewest misses.
    """
    thresholds = tally.thresholds()
    allowed = np.ones(len(thresholds), dtype=bool)
    keeps_missed = keeps_false = None
    if costs.false_alarm_limit is not None:
        keeps_false, allowed = _keeping_false_alarms(tally, thresholds, costs.false_alarm_limit, confidence)
    if not len(tally.defect_scores):
        lowest = float(thresholds[allowed][0]) if costs.false_alarm_limit is not None else 0.0
        words = f"no defect on the images to choose on, so {NO_DETECTIONS_THRESHOLD:g} is no choice but a default"
        unkept = None if costs.missed_limit is None else False
        return Choice(max(NO_DETECTIONS_THRESHOLD, lowest), unkept, keeps_false, words)
    never, words = int(np.isinf(tally.defect_scores).sum()), ""
    if never == len(tally.defect_scores) or (costs.missed_limit or 1) < never / len(tally.defect_scores):
        words = f"{never} of the {len(tally.defect_scores)} defects to choose on are found at no score"
    if costs.missed_limit is not None:
        keeps_missed, kept = _keeping_missed(tally, thresholds, costs.missed_limit, confidence)
        if not (allowed & kept).any():
            words = "no threshold keeps both limits, so that on missed defects goes first"
            keeps_false, allowed = False, np.arange(len(kept)) == np.flatnonzero(kept)[-1]
        allowed &= kept
    missed, false = tally.missed(thresholds), tally.false_alarms(thresholds)
    cost = np.where(allowed, costs.missed_price * missed + costs.false_alarm_price * false, np.inf)
    return Choice(float(thresholds[np.argmin(cost)]), keeps_missed, keeps_false, words)


def _keeping_missed(
    tally: Tally, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    """Whether any threshold keeps the limit with confidence, and which are allowed, at least one."""

    def kept(threshold: float) -> bool:
        missed, defects, effect = tally.miss_counts(threshold)
        return share_kept(missed / effect, defects / effect, limit, confidence)

    missed = tally.missed(thresholds)
    allowed = _run_of(missed, thresholds, kept)
    if allowed.any():
        return True, allowed
    least = max(limit * len(tally.defect_scores), missed[0])
    return False, missed <= least


def _keeping_false_alarms(
    tally: Tally, thresholds: NDArray[np.float64], limit: float, confidence: float
) -> tuple[bool, NDArray[np.bool_]]:
    def kept(threshold: float) -> bool:
        false, images, effect = tally.false_counts(threshold)
        return rate_kept(false / effect, images / effect, limit, confidence)

    false = tally.false_alarms(thresholds)
    allowed = _run_of(false[::-1], thresholds[::-1], kept)[::-1]
    if allowed.any():
        return True, allowed
    least = max(limit * int(tally.images.sum()), false[-1])
    return False, false <= least


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


Counted = Literal["missed", "false_alarms"]
Verdict = Literal["confirmed", "refuted", "cannot tell"]


def promise(
    counted: Counted,
    limit: float,
    kept: bool,
    choosing: dict[str, Any],
    confirming: dict[str, Any],
    confidence: float,
) -> dict[str, Any]:
    """How far a limit can be relied on.

    Args:
        counted: a share of missed defects, or a rate of false alarms an image.
        limit: the limit.
        kept: whether the bound on the choosing part is within it.
        choosing, confirming: the rates at the threshold, as ``Tally.rates`` gives them.
        confidence: of the bounds.

    Returns:
        ``limit``; ``promised``, whether the bound on the choosing part keeps it; ``verdict`` of the confirming part:
        "confirmed" where the upper bound there is within the limit, "refuted" where the lower bound is above it,
        "cannot tell" between; ``needed``, how many defects (or images) without a single miss (false alarm) can promise
        the limit; ``needed_at_this_rate``, how many at the rate of the confirming part, None where that is not below
        the limit; ``words``, a sentence.
    """
    needs = cases_for_share if counted == "missed" else images_for_rate
    rate = confirming["rate"]
    at_rate = None if rate is None else needs(limit, confidence, rate)
    if at_rate is not None:
        at_rate = round(at_rate * confirming["design_effect"])
    figures = {
        "limit": limit,
        "promised": kept,
        "verdict": _verdict(limit, confirming),
        "needed": needs(limit, confidence),
        "needed_at_this_rate": at_rate,
    }
    return figures | {"words": _words(counted, figures, choosing, confirming, confidence)}


def _verdict(limit: float, confirming: dict[str, Any]) -> Verdict:
    if confirming["rate"] is None:
        return "cannot tell"
    if confirming["high"] <= limit:
        return "confirmed"
    return "refuted" if confirming["low"] > limit else "cannot tell"


def _words(
    counted: Counted, figures: dict[str, Any], choosing: dict[str, Any], confirming: dict[str, Any], confidence: float
) -> str:
    limit, share = figures["limit"], counted == "missed"
    aim = f"at most {_shown(limit, share)} {'missed' if share else 'false alarms an image'}"
    things = "defects" if share else "images"
    without = f"without {'a miss' if share else 'a false alarm'}"
    if figures["promised"]:
        start = f"{aim}: promised with {100 * confidence:.4g} % confidence by {_counted(choosing, share, things)}"
    elif choosing["of"] < figures["needed"]:
        start = (
            f"{aim}: can't be promised by {choosing['of']:,} {things}; even {without} it takes {figures['needed']:,}"
        )
    else:
        start = f"{aim}: not promised by {_counted(choosing, share, things)}"
    other = _counted(confirming, share, things)
    if not confirming["of"]:
        return f"{start}; there are no others to confirm it"
    if figures["verdict"] == "confirmed":
        return f"{start}; confirmed by {other} on other images"
    if figures["verdict"] == "refuted":
        return f"{start}; THE CONFIRMATION FAILS with {other} on other images"
    if figures["needed_at_this_rate"] is None:
        return f"{start}; not confirmed: {other} on other images"
    more = f"too few to confirm it, about {figures['needed_at_this_rate']:,} are needed at that rate"
    return f"{start}; {other} on other images, {more}"


def _counted(rate: dict[str, Any], share: bool, things: str) -> str:
    if rate["rate"] is None:
        return f"no {things}"
    span = f"{_shown(rate['low'], share)} to {_shown(rate['high'], share)}"
    return f"{rate['count']:,} {'of' if share else 'on'} {rate['of']:,} {things} ({span})"


def _shown(value: float, share: bool) -> str:
    return f"{100 * value:.3g} %" if share else f"{value:.3g}"


_NO_CLEAN = "no overkill rate, as there is no {} without a label"
_NO_DEFECTIVE = "no escape rate, as there is no {} with a defect"


def escapes(
    evaluated: Evaluated,
    thresholds: NDArray[np.float64],
    *,
    images: NDArray[np.bool_] | None = None,
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Escape and overkill rates of images and, where groups are given, of groups (plates, coils, strips).

    An image or group is defective if it has a label to find, clean if it has no label at all; one with crowd regions
    alone is neither. A detection shows if its score is at least its category's threshold; it needn't lie on a defect
    to stop the plate.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], of each category.
        images: bool[images], which to look at; all by default.
        groups: a number an image; those that share one are one plate.
        confidence: of each bound.

    Returns:
        {"images", "groups"}, the latter None without groups; each with ``count``, ``defective``, ``clean`` and the
        rates ``escape`` (defective, and nothing shows), ``incomplete`` (defective, and not every defect is found by a
        shown detection of its category at an IoU of 0.5) and ``overkill`` (clean, and something shows): {"count",
        "of", "rate", "low", "high"}, the last three None where there is nothing to count, which ``notes`` explain.
    """
    count = len(evaluated.truth.images)
    part = np.ones(count, dtype=bool) if images is None else images
    alone = np.arange(count)
    together = None if groups is None else units_of(count, groups)
    bunches = alone if together is None else together
    return {
        "images": _of_units("image", evaluated, thresholds, part, alone, bunches, confidence),
        "groups": None
        if together is None
        else _of_units("group", evaluated, thresholds, part, together, together, confidence),
    }


def _of_units(
    unit: str,
    evaluated: Evaluated,
    thresholds: NDArray[np.float64],
    images: NDArray[np.bool_],
    units: NDArray[np.int64],
    bunches: NDArray[np.int64],
    confidence: float,
) -> dict[str, Any]:
    """Figures of units of images; ``bunches`` are what the units are drawn with."""
    truth, found, rows = evaluated.truth, evaluated.found, evaluated.matches.order
    count = int(units.max(initial=-1)) + 1
    shown = rows[(found.scores[rows] >= thresholds[found.category[rows]]) & images[found.image[rows]]]
    labelled = images[truth.image]
    to_find = labelled & ~truth.crowd
    missed = to_find & (found_scores(evaluated) < thresholds[truth.category])

    there = _units_with(units[images], count)
    defective = _units_with(units[truth.image[to_find]], count)
    clean = there & ~_units_with(units[truth.image[labelled]], count)
    showing = _units_with(units[found.image[shown]], count)
    incomplete = _units_with(units[truth.image[missed]], count)
    bunch_of = np.zeros(count, dtype=np.int64)
    bunch_of[units] = bunches

    def rate_of(counted: NDArray[np.bool_], of: NDArray[np.bool_]) -> dict[str, Any]:
        by_bunch = [np.bincount(bunch_of[each], minlength=int(bunches.max(initial=-1)) + 1) for each in (counted, of)]
        return share(int(counted.sum()), int(of.sum()), confidence, share_design_effect(*by_bunch))

    return {
        "count": int(there.sum()),
        "defective": int(defective.sum()),
        "clean": int(clean.sum()),
        "escape": rate_of(defective & ~showing, defective),
        "incomplete": rate_of(defective & incomplete, defective),
        "overkill": rate_of(clean & showing, clean),
        "notes": [
            note.format(unit)
            for note, units_there in ((_NO_DEFECTIVE, defective), (_NO_CLEAN, clean))
            if not units_there.any()
        ],
    }


def _units_with(units: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(units, minlength=count) > 0


SUMMARY_POINTS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false alarms an image
_CURVE_POINTS = 100


def froc(evaluated: Evaluated) -> dict[str, Any]:
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
    of_class = list(tallies(evaluated, np.ones(images, dtype=bool), np.arange(images)))
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
    """Share of the defects whose score is above that of the first false alarm too many; and the first such defect."""
    too_many = len(alarms) - 1 - budgets
    bars = np.where(too_many >= 0, np.append(alarms, 0)[np.maximum(too_many, 0)], -np.inf)
    first = np.searchsorted(defects, bars, side="right")
    return (len(defects) - first) / len(defects) if len(defects) else np.full(len(budgets), np.nan), first


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


COCO_SIZES_PX = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, None)}


def recall_by_size(
    evaluated: Evaluated, thresholds: NDArray[np.float64], *, bins: int = 4, confidence: float = 0.95
) -> dict[str, Any]:
    """How many defects are found, at an IoU of 0.5, by the square root of their labelled area in pixels.

    Args:
        evaluated: one run of COCOeval.
        thresholds: float64[K], the lowest score that counts, of each category.
        bins: parts of a category's defects, as equal in number as sizes that are equal allow.
        confidence: of each bound.

    Returns:
        {"overall", "per_class"}; each with ``quantiles``, a list by rising size, and ``coco``, by "small", "medium"
        and "large": {"from_px", "to_px", "count", "of", "rate", "low", "high"}, ``to_px`` not included but in the last
        quantile (None: no end), the last three None where there is no such defect.
    """
    truth = evaluated.truth
    to_find = ~truth.crowd
    found = found_scores(evaluated) >= thresholds[truth.category]
    sizes_px = np.sqrt(np.maximum(truth.area, 0))

    def of(rows: NDArray[np.int64]) -> dict[str, Any]:
        def counted(inside: NDArray[np.bool_], low: float, high: float | None) -> dict[str, Any]:
            hit, image = found[rows[inside]], truth.image[rows[inside]]
            of_image, hit_of_image = (np.bincount(each, minlength=len(truth.images)) for each in (image, image[hit]))
            effect = share_design_effect(hit_of_image, of_image)
            return {"from_px": low, "to_px": high, **share(int(hit.sum()), len(hit), confidence, effect)}

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
    evaluated: Evaluated,
    costs: Costs,
    *,
    groups: Sequence[int] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose the threshold of each category by what errors cost and which limits hold.

    Args:
        evaluated: one run of COCOeval.
        costs: prices and limits of every category.
        groups: a number an image; images with the same one stay in one part, and bounds are widened where errors come
            in bunches within a group. None: each image for itself.
        calibration: what ``calibration`` gives, if scores will be calibrated before they are compared. That changes
            the thresholds' values and nothing else, as it keeps the order of scores.

    Returns:
        ``thresholds``: category -> score. ``per_class``: by category its ``threshold``, ``uncalibrated_threshold`` (on
        the scores as judged), ``price`` (None if none was given), ``choosing`` and ``confirming`` (the rates of the two
        parts as ``Tally.rates`` gives them, with ``cost_per_image``), ``limits`` (what each is worth, as ``promise``
        says) and ``words``. ``parts``: how the images were divided. ``choosing`` and ``confirming``: ``cost_per_image``
        over all categories, and what ``escapes`` gives for ``images`` and ``groups``.

    Raises:
        DataError: not a group for each image.
    """
    truth = evaluated.truth
    units = units_of(len(truth.images), groups)
    first = choosing_part(truth, units, share=costs.choosing, seed=costs.seed)
    parts = {"choosing": first, "confirming": ~first}
    tallied = {name: list(tallies(evaluated, images, units)) for name, images in parts.items()}
    chosen, per_class = [], {}
    for k, name in enumerate(truth.categories):
        own = costs.per_class[name]
        choice = choose(tallied["choosing"][k], own, costs.confidence_each)
        chosen.append(choice.threshold)
        threshold = _calibrated(choice.threshold, name, calibration)
        figures = _of_class(choice, own, {part: each[k] for part, each in tallied.items()}, costs.confidence_each)
        per_class[name] = {"threshold": threshold, "uncalibrated_threshold": choice.threshold, **figures}
    at = np.array(chosen)
    return {
        "thresholds": {name: each["threshold"] for name, each in per_class.items()},
        "per_class": per_class,
        "parts": _parts(parts, units, costs, grouped=groups is not None),
        **{
            part: {
                "cost_per_image": _total(each[part]["cost_per_image"] for each in per_class.values()),
                **escapes(evaluated, at, images=images, groups=groups, confidence=costs.confidence_each),
            }
            for part, images in parts.items()
        },
    }


def _of_class(choice: Choice, costs: ClassCosts, tallied: Mapping[str, Tally], confidence: float) -> dict[str, Any]:
    rates = {part: tally.rates(choice.threshold, confidence) for part, tally in tallied.items()}
    limits: dict[str, Any] = {}
    wanted: tuple[tuple[Counted, float | None, bool | None], ...] = (
        ("missed", costs.missed_limit, choice.keeps_missed),
        ("false_alarms", costs.false_alarm_limit, choice.keeps_false_alarms),
    )
    for counted, limit, kept in wanted:
        if limit is not None:
            choosing, confirming = (rates[part][counted] for part in ("choosing", "confirming"))
            limits[counted] = promise(counted, limit, bool(kept), choosing, confirming, confidence)
    for each in rates.values():
        each["cost_per_image"] = _cost(each, costs) if costs.priced else None
    price = {"missed": costs.missed_price, "false_alarm": costs.false_alarm_price} if costs.priced else None
    words = [*([choice.words] if choice.words else []), *(each["words"] for each in limits.values())]
    return {"price": price, **rates, "limits": limits, "words": words}


def _calibrated(threshold: float, category: str, calibration: Mapping[str, Any] | None) -> float:
    if calibration is None:
        return threshold
    fitted = calibration["per_class"][category]
    return float(calibrated(np.array([threshold]), fitted["temperature"], fitted["shift"])[0])


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
        "confidence": costs.confidence_each,
        "joint": {"limits": costs.limits, "confidence": costs.confidence} if costs.joint and costs.limits > 1 else None,
        **{name: int(images.sum()) for name, images in parts.items()},
        **{f"{name}_groups": len(set(units[images].tolist())) if grouped else None for name, images in parts.items()},
    }


def _total(costs: Iterable[float | None]) -> float | None:
    priced = [cost for cost in costs if cost is not None]
    return sum(priced) if priced else None
