"""Judge detections against labels: pycocotools once, and all else derived from its matches. No torch."""

from .judging import SCHEMA, average_precision, judge
from .records import Evaluated, FalseAlarm, Found, Hit, ImageOutcome, JudgedImage, Judgement, Matches, Miss, Truth

__all__ = [
    "SCHEMA",
    "Evaluated",
    "FalseAlarm",
    "Found",
    "Hit",
    "ImageOutcome",
    "JudgedImage",
    "Judgement",
    "Matches",
    "Miss",
    "Truth",
    "average_precision",
    "judge",
]
