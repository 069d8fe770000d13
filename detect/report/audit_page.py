"""The audit as one page: findings, the same pictures side by side, the parts beside each other, all in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..audit import AuditReport
from ..audit.duplicates import ALIKE
from ..audit.shifts import SIGNIFICANT
from ..errors import DataError
from . import wording
from .audit_pictures import Gallery, copies, misdrawn, seemingly_missing, strangers
from .audit_words import LEAK, gist, kinds
from .charts import Line, legend, styled
from .histograms import doubling_edges, histogram, shares
from .template import named, render, write_page

_UNSURE_TESTS, _MOST_FINDINGS = 12, 2_000


def write_audit_page(report: AuditReport, path: Path, *, meta: Mapping[str, str]) -> None:
    """Write the page.

    Args:
        report: what to show; its pictures are read again from their files.
        path: of the page.
        meta: where it comes from, shown in the order given.

    Raises:
        DataError: the file can't be written.
    """
    text = to_html(report, meta=meta)
    try:
        write_page(path, text)
    except OSError as error:
        found = f"the page can't be written ({error.strerror})"
        raise DataError(found, where=path, fix="choose a place that can be written to") from None


def to_html(report: AuditReport, *, meta: Mapping[str, str]) -> str:
    """Render audit.html with its style sheet and script inlined; whatever came from outside is escaped."""
    gallery = Gallery(report)
    severities = [finding.severity for finding in report.findings]
    sure = sum(shift.significant for shift in report.shifts)
    return render(
        "audit.html",
        named(wording.count, wording.plural, wording.percent),
        report=report,
        gist=gist(report),
        kinds=kinds(report),
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        leaks=sum(finding.kind == LEAK for finding in report.findings),
        sure=sure,
        alike=ALIKE,
        level=SIGNIFICANT,
        copies=copies(gallery),
        strangers=strangers(gallery),
        missing=seemingly_missing(gallery),
        misdrawn=misdrawn(gallery),
        gallery=gallery,
        parts=list(report.parts),
        legend=_legend(list(report.members)),
        classes=_classes(report),
        histograms=_histograms(report),
        tests=report.shifts[: sure + _UNSURE_TESTS],
        findings=report.findings[:_MOST_FINDINGS],
        meta=list(meta.items()),
    )


class Bar(NamedTuple):
    """The share of a class in a part's boxes, relative to the largest of all."""

    part: str
    style: str
    share: float
    length: float
    boxes: int
    images: int


def _classes(report: AuditReport) -> list[tuple[str, list[Bar]]]:
    """For each class a bar a part."""
    labels = dict.fromkeys(label for part in report.parts.values() for label in part.per_class)
    shares = {
        (label, name): part.per_class.get(label, {}).get("boxes", 0) / max(part.boxes, 1)
        for label in labels
        for name, part in report.parts.items()
    }
    most = max(shares.values(), default=0) or 1.0

    def bar(label: str, number: int, name: str) -> Bar:
        counts, share = report.parts[name].per_class.get(label, {}), shares[label, name]
        return Bar(name, styled(number), share, share / most, counts.get("boxes", 0), counts.get("images", 0))

    return [(label, [bar(label, k, name) for k, name in enumerate(report.parts)]) for label in labels]


def _histograms(report: AuditReport) -> list[tuple[str, str, Markup]]:
    """For each class what the page says of its size, and the chart; classes without boxes are left out."""
    sides: dict[str, dict[str, list[float]]] = {}
    for part, positions in report.members.items():
        for i in positions:
            for box in report.images[i].boxes:
                x1, y1, x2, y2 = box.xyxy
                if not box.crowd and x2 > x1 and y2 > y1:
                    of_class = sides.setdefault(box.label, {name: [] for name in report.members})
                    of_class[part].append(((x2 - x1) * (y2 - y1)) ** 0.5)
    charts = []
    for label in sorted(sides):
        parts = sides[label]
        edges = doubling_edges([side for values in parts.values() for side in values])
        rows = [(name, shares(values, edges)) for name, values in parts.items()]
        middle = [f"{sorted(values)[len(values) // 2]:.0f}" for values in parts.values() if values]
        title = f"Size of {label}, share of the boxes of each part"
        charts.append((label, f"median {' | '.join(middle)} px", histogram(title, edges, rows, x_label="px a side")))
    return charts


def _legend(parts: Sequence[str]) -> Markup:
    lines: list[Any] = [Line(name, (), styled(k)) for k, name in enumerate(parts)]
    return legend(lines) if len(parts) > 1 else Markup("")
