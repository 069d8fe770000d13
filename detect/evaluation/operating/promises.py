"""What a limit is worth: promised by the images to choose on, confirmed by the others, and what it would take."""

from __future__ import annotations

from typing import Any, Literal

from .bounds import cases_for_share, images_for_rate

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
