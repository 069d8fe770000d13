"""Detections judged against labels: pycocotools once, and all else derived from its matches. No torch."""
