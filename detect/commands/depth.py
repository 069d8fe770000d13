"""What the verbs say where 16-bit images were looked at: which gray value was white, and whether that can be right."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference import Predictor


def say_depth(predictor: Predictor, *, drawn: bool = False) -> None:
    """Lines on stderr if the detector was given 16-bit images.

    Args:
        predictor: after it has seen them.
        drawn: pictures were made of them.
    """
    from ..data import depth_in_words

    if predictor.brightest is None:
        return
    said, warning = depth_in_words(predictor.brightest, predictor.max_value)
    trained = "as in training" if predictor.max_value is not None else "the detector was trained on 8 bits"
    shown = "; drawn pictures are stretched to 8 bits to be seen" if drawn else ""
    print(f"detect: {said}; {trained}{shown}", file=sys.stderr)
    if warning is not None:
        print(f"detect: check this: {warning}", file=sys.stderr)
