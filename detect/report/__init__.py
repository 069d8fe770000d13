"""A judgement as files: detections.json, report.json, report.md and one page that opens offline. No torch."""

from .write import ReportPaths, write_report

__all__ = ["ReportPaths", "write_report"]
