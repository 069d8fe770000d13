"""Write sample steel with labelled marks instead of defects: water marks, light spots and oil shadows.

    python benchmarks/make_marks.py --out data/marks/raw --images 350 --seed 0
    detect convert data/marks/raw --out data/marks --split train=0.15,val=0.85

Detectors of sample steel or NEU-DET don't know these three classes, and detectors trained on sample steel have learned
to ignore them. The set is a test of training on a user's own classes (``--init``). Labels are COCO JSON.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.synthetic.defects import LOOKALIKES, PlacedDefect
from detect.synthetic.steel import SURFACES
from drawn_set import LabelledImage, visible_box, write_drawn_set

_CLASSES = ("light_spot", "oil_shadow", "water_mark")
_SIDE, _MAX_MARKS = 200, 3
_STRENGTH = 2.0  # relative to the sample data, where marks are fainter than any defect
_OUTLINE = 0.3  # the box contains pixels with more than this share of the largest change
_SMALLEST = 12  # pixels; a mark with a shorter side is almost outside the image and gets no label


def draw(rng: np.random.Generator) -> LabelledImage:
    """An image, uint8[200, 200], and its boxes."""
    size_hw = (_SIDE, _SIDE)
    surface = SURFACES[str(rng.choice(list(SURFACES)))](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel, boxes = 1 + surface.relief, []
    for name in rng.choice(_CLASSES, int(rng.integers(1, _MAX_MARKS + 1))):
        mark = _STRENGTH * LOOKALIKES[str(name)](rng, size_hw, noise)
        steel = steel + mark
        box = visible_box(PlacedDefect(str(name), 0, 0, np.abs(mark) > _OUTLINE * np.abs(mark).max()), _SMALLEST)
        if box is not None:
            boxes.append(box)
    gray = surface.light * steel + rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def main(argv: Sequence[str] | None = None) -> int:
    return write_drawn_set(argv, _images, doc=__doc__, images=350, stem="mark", classes=_CLASSES)


def _images(seed: int) -> Iterator[LabelledImage]:
    return (draw(np.random.default_rng([seed, number])) for number in count())


if __name__ == "__main__":
    sys.exit(main())
