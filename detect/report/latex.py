"""report.tex: the tables of a judgement for papers, in booktabs form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .wording import ends

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_FIGURES = (("AP", "AP"), ("AP50", "AP$_{50}$"), ("AP75", "AP$_{75}$"), ("AR100", "AR$_{100}$"))


def to_latex(summary: dict[str, Any]) -> str:
    """A table of the classes and one of the errors of their boxes; needs ``\\usepackage{booktabs}``."""
    classes = summary["per_class"]
    rows = [
        [_text(name), _count(c["boxes"]), *(_per_cent(c[key], ends(summary, key, name)) for key, _ in _FIGURES)]
        for name, c in classes.items()
    ]
    total = ["all", _count(summary["boxes"]), *(_per_cent(summary[key], ends(summary, key)) for key, _ in _FIGURES)]
    told = summary.get("intervals")
    in_brackets = "" if told is None else f"; in brackets {100 * told['confidence']:g}\\,\\% bootstrap intervals"
    edges = ("left", "top", "right", "bottom")
    lie = [
        [_text(name), _count(c["matched"]), _fraction(c["mean_iou"]), *(_signed(c["edge_bias_px"][e]) for e in edges)]
        for name, c in classes.items()
    ]
    images = f"{_count(summary['images'])} images"
    return "\n\n".join(
        [
            "% needs \\usepackage{booktabs}",
            _table(
                ["class", "boxes", *(told for _, told in _FIGURES)],
                rows,
                total,
                f"Average precision and recall in per cent, as COCO defines them, on {images}{in_brackets}.",
                "tab:detection",
            ),
            _table(
                ["class", "matched", "mean IoU", *edges],
                lie,
                None,
                "Detections matched at an IoU of 0.5: mean offset of each edge in pixels, detected minus true, $y$ "
                "downwards.",
                "tab:localisation",
            ),
            "",
        ]
    )


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None, caption: str, label: str
) -> str:
    body = [" & ".join(row) + r" \\" for row in rows]
    if total is not None:
        body += [r"\midrule", " & ".join(total) + r" \\"]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{caption}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            *(
                f"    {line}"
                for line in [r"\toprule", " & ".join(columns) + r" \\", r"\midrule", *body, r"\bottomrule"]
            ),
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _text(name: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in " ".join(name.split()))


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\\,")


def _per_cent(value: float | None, low_high: tuple[float, float] | None) -> str:
    limits = "" if low_high is None else " ({:.1f}--{:.1f})".format(*(100 * end for end in low_high))
    return "--" if value is None else f"{100 * value:.1f}{limits}"


def _fraction(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "--" if value is None else f"${value:+.1f}$"
