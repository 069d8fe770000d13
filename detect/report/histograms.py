"""Histograms of several parts side by side, as inline SVG on a scale that doubles from tick to tick."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from .charts import Frame, nice_ticks, styled

_FRAME = Frame(width=360, height=190, left=38, right=8, top=8, bottom=32)
_MOST_BINS = 16
_GAP = 0.16  # of a bin, between it and the next


def doubling_edges(values: Sequence[float]) -> list[float]:
    """Edges of bins that hold all values above 0: half-octaves, or whole ones where these would be too many."""
    low, high = math.log2(min(values)), math.log2(max(values))
    for step in (0.5, 1.0, 2.0, 4.0):
        first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
        if last - first <= _MOST_BINS or step == 4:
            break
    return [2.0 ** (k * step) for k in range(first, last + 1)]


def shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Share of the values in each bin; all 0 where there is none."""
    counts = np.histogram(values, edges)[0]
    return [float(count) / max(len(values), 1) for count in counts]


def histogram(
    title: str,
    edges: Sequence[float],
    parts: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
    frame: Frame = _FRAME,
) -> Markup:
    """An SVG element with the bars of all parts beside each other in each bin.

    Args:
        title: what a screen reader says.
        edges: of the bins, rising.
        parts: name and share of each bin, 0 to 1; the colours are those of ``charts.styled``.
        x_label: what the values are.
        frame: size and margins.
    """
    bins, wide = len(edges) - 1, frame.width - frame.left - frame.right
    base, tall = frame.height - frame.bottom, frame.height - frame.bottom - frame.top
    most = max((share for _, each in parts for share in each), default=0) or 1.0
    drawn = [Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(*frame[:2], title)]
    for value in nice_ticks(0, most, 3):
        y = base - value / most * tall
        drawn.append(
            Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{:.1f}" y2="{:.1f}"/>').format(
                frame.left, frame.left + wide, y, y
            )
        )
        drawn.append(
            Markup('<text x="{:g}" y="{:.1f}" text-anchor="end">{:.0f}%</text>').format(
                frame.left - 6, y + 3.5, 100 * value
            )
        )
    bar = wide / bins * (1 - _GAP) / max(len(parts), 1)
    for number, (name, each) in enumerate(parts):
        for k, share in enumerate(each):
            if share > 0:
                x, height = frame.left + wide / bins * (k + _GAP / 2) + number * bar, share / most * tall
                says = f"{name}: {100 * share:.1f} % from {edges[k]:.3g} to {edges[k + 1]:.3g} {x_label}"
                rect = (
                    '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
                )
                drawn.append(Markup(rect).format(styled(number), x, base - height, bar, height, says))
    every = 1 if bins <= 8 else 2
    for k in range(0, bins + 1, every):
        text = '<text x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>'
        told = f"{edges[k]:.0f}" if edges[k] >= 10 else f"{edges[k]:.2g}"
        drawn.append(Markup(text).format(frame.left + wide / bins * k, base + 14, told))
    drawn.append(Markup('<path class="axis" d="M{:g} {:g}h{:g}"/>').format(frame.left, base, wide))
    label = '<text class="label" x="{:g}" y="{:g}" text-anchor="middle">{}</text>'
    drawn.append(Markup(label).format(frame.left + wide / 2, frame.height - 3, x_label))
    return Markup("").join([*drawn, Markup("</svg>")])
