"""An evaluation as files: detections.json, report.json, report.md and one page that opens offline. No torch."""
