"""Judge detections against labels: pycocotools once, and all else derived from its matches. No torch."""

from .intervals import Interval, Intervals, bootstrap, paired_bootstrap
from .judging import SCHEMA, average_precision, judge
from .records import Evaluated, FalseAlarm, Found, Hit, ImageOutcome, JudgedImage, Judgement, Matches, Miss, Truth

__all__ = [
    "SCHEMA",
    "Evaluated",
    "FalseAlarm",
    "Found",
    "Hit",
    "ImageOutcome",
    "Interval",
    "Intervals",
    "JudgedImage",
    "Judgement",
    "Matches",
    "Miss",
    "Truth",
    "average_precision",
    "bootstrap",
    "judge",
    "paired_bootstrap",
]
