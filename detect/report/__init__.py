"""Reports as HTML, Markdown, LaTeX, JSON and SVG: evaluation, audit, comparison, label issues, robustness. No torch."""
