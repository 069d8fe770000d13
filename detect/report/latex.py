"""report.tex: the tables of a judgement for papers, in booktabs form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        [_text(name), _count(c["boxes"]), *(_per_cent(c[key]) for key, _ in _FIGURES)] for name, c in classes.items()
    ]
    total = ["all", _count(summary["boxes"]), *(_per_cent(summary[key]) for key, _ in _FIGURES)]
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
                f"Average precision and recall in per cent, as COCO defines them, on {images}.",
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


def _per_cent(value: float | None) -> str:
    return "--" if value is None else f"{100 * value:.1f}"


def _fraction(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "--" if value is None else f"${value:+.1f}$"
