"""16-bit images in the verbs: which gray value is white, what is said of it, and whether that can be right."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference import Predictor


_OPTION = "--max-value"


def add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    """``--max-value``."""
    parser.add_argument(
        _OPTION,
        type=int,
        metavar="GRAY",
        help="white of 16-bit images: 1023 of a camera of 10 bits, 4095 of 12 (default: as in training, else 65535)",
    )


def say_depth(predictor: Predictor, *, drawn: bool = False) -> None:
    """Lines on stderr if the detector was given 16-bit images.

    Args:
        predictor: after it has seen them.
        drawn: pictures were made of them.
    """
    from ..data import depth_in_words

    if predictor.brightest is None:
        return
    before, now = predictor.trained_max_value, predictor.max_value
    setting = "data.max_value=" if now is not None and now == before else f"{_OPTION} "
    said, warning = depth_in_words(predictor.brightest, now, setting=setting)
    trained = "the detector was trained on 8 bits" if before is None else f"the detector was trained with {before:,}"
    trained = "as in training" if before is not None and now == before else trained
    shown = "; drawn pictures are stretched to 8 bits to be seen" if drawn else ""
    print(f"detect: {said}; {trained}{shown}", file=sys.stderr)
    if warning is not None:
        print(f"detect: check this: {warning}", file=sys.stderr)
