"""The operating point: a score threshold a category, chosen on one part of the images and confirmed on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Evaluated
from .calibration import calibrated
from .choosing import Choice, choose
from .costs import ClassCosts, Costs
from .escapes import escapes
from .parts import choosing_part, units_of
from .promises import Counted, promise
from .tally import Tally, tallies


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
