"""Write an evaluation to files: detections.json, report.json, report.md and one offline HTML page. Without torch."""
