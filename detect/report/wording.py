"""Numbers as a reader wants them: three decimals, a dash where there is nothing, and the gist in a sentence or two."""

from __future__ import annotations

from typing import Any

NOTHING = "\N{EN DASH}"
STRETCHED = (
    "16-bit pictures are stretched to 8 bits to be seen, each over its own gray values, so their brightness can't "
    "be compared. Detection used all bits."
)


def fraction(value: float | None) -> str:
    """0.743, or a dash."""
    return NOTHING if value is None else f"{value:.3f}"


def ends(summary: dict[str, Any], key: str, category: str | None = None) -> tuple[float, float] | None:
    """The interval of a figure, over all or of a category; None where the judgement holds none."""
    intervals = summary.get("intervals")
    if intervals is None:
        return None
    of = intervals["overall"] if category is None else intervals["per_class"][category]
    found = of.get(key)
    return None if found is None or found["low"] is None else (found["low"], found["high"])


def span(low_high: tuple[float, float] | None) -> str:
    """0.441 to 0.583 with a dash between, or nothing."""
    return "" if low_high is None else f"{low_high[0]:.3f}\N{EN DASH}{low_high[1]:.3f}"


def resampled(intervals: dict[str, Any], images: int) -> str:
    """1,000 bootstrap resamples of 240 images, or of 12 groups of images."""
    drawn = "images" if intervals["groups"] == images else "groups of images"
    return f"{count(intervals['resamples'])} bootstrap resamples of {count(intervals['groups'])} {drawn}"


def signed(value: float | None) -> str:
    """+3.1 or −0.4 (with a true minus), or a dash."""
    if value is None:
        return NOTHING
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def offset(value: float | None) -> str:
    """3.1, or a dash."""
    return NOTHING if value is None else f"{value:.1f}"


def gained(value: float | None) -> str:
    """+0.254 or −0.003, or a dash."""
    return NOTHING if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """1,440, or a dash."""
    return NOTHING if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """81 %, or a dash."""
    return NOTHING if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def plural(number: int, one: str, many: str | None = None) -> str:
    """1 image, 240 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def gist(summary: dict[str, Any]) -> str:
    """What an engineer would ask first: how many are found, how many alarms are false, which class is worst."""
    boxes, total = summary["boxes"], summary["at_threshold"]
    if not boxes:
        return "There is no labelled object to find, so there is nothing to measure."
    if not summary["detections"]:
        return f"Nothing was found of {plural(boxes, 'labelled object')} on {plural(summary['images'], 'image')}."
    said = f"At a score of {fraction(summary['score_threshold'])} or more, "
    said += f"{total['found']:,} of {boxes:,} objects are found ({percent(total['recall'])})"
    if total["found"] + total["false"]:
        shown = total["found"] + total["false"]
        said += f" and {total['false']:,} of {shown:,} detections are false alarms ({percent(total['false'] / shown)})"
    said += "."
    ranked = sorted((c["AP50"], name) for name, c in summary["per_class"].items() if c["AP50"] is not None)
    if len(ranked) > 1:
        (low, worst), (high, best) = ranked[0], ranked[-1]
        said += f" Strongest class: {best} (AP50 {fraction(high)}); weakest: {worst} ({fraction(low)})."
    return said


def displaced(summary: dict[str, Any]) -> str:
    """A sentence on what shift all boxes share, and where it is clear, what it may come from."""
    found = summary["displacement"]
    told = found["words"][0].upper() + found["words"][1:]
    if not any(found["clear"].values()):
        return f"{told}."
    ends = []
    for axis, way in (("x", "to the right"), ("y", "downwards")):
        if found["clear"][axis]:
            low, high = found["interval_px"][axis]
            ends.append(f"{low:+.1f} to {high:+.1f} {way}")
    return (
        f"{told} (95\N{NO-BREAK SPACE}%: {', '.join(ends)}). A detector that has learned from mirrored images lies so "
        "where labels lie beside what they mark, unless it was told of others that do (augment.label_offset_xy)."
    )


def provenance(summary: dict[str, Any], meta: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of (what, value) on where the report comes from: ``meta`` in its order, then the versions."""
    rows = [row for key, value in meta.items() if key != "versions" for row in _flat(key, value)]
    given = meta.get("versions")
    versions = {**(given if isinstance(given, dict) else {}), **summary["versions"]}
    rows.append(("versions", ", ".join(f"{name} {number}" for name, number in versions.items())))
    return [*rows, ("report schema", str(summary["schema"]))]


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for inner, v in value.items() for row in _flat(f"{key} {inner}", v)]
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return [] if value is None else [(str(key).replace("_", " "), str(value))]
