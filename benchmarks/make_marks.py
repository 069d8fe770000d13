"""Write sample steel on which not defects are labelled but marks: water marks, light spots and oil shadows.

    python benchmarks/make_marks.py --out data/marks/raw --images 350 --seed 0
    detect convert data/marks/raw --out data/marks --split train=0.15,val=0.85

Three classes that no detector of sample steel or NEU-DET knows, and that those trained on sample steel have learned
to overlook: what a training on a user's own classes (``--init``) can be tried on. Labels are COCO JSON.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.synthetic.defects import LOOKALIKES, PlacedDefect
from detect.synthetic.steel import SURFACES
from drawn_set import Picture, boxed, main_of

_CLASSES = ("light_spot", "oil_shadow", "water_mark")
_SIDE, _MAX_MARKS = 200, 3
_STRENGTH = 2.0  # those of the sample data are fainter than any defect
_OUTLINE = 0.3  # share of a mark's largest change of the light that its box holds
_SMALLEST = 12  # pixels of a side below which a mark has nearly left the image, and gets no label


def draw(rng: np.random.Generator) -> Picture:
    """uint8[200, 200] and its boxes."""
    size_hw = (_SIDE, _SIDE)
    surface = SURFACES[str(rng.choice(list(SURFACES)))](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel, boxes = 1 + surface.relief, []
    for name in rng.choice(_CLASSES, int(rng.integers(1, _MAX_MARKS + 1))):
        mark = _STRENGTH * LOOKALIKES[str(name)](rng, size_hw, noise)
        steel = steel + mark
        box = boxed(PlacedDefect(str(name), 0, 0, np.abs(mark) > _OUTLINE * np.abs(mark).max()), _SMALLEST)
        if box is not None:
            boxes.append(box)
    gray = surface.light * steel + rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(argv, _pictures, doc=__doc__, images=350, stem="mark", classes=_CLASSES)


def _pictures(seed: int) -> Iterator[Picture]:
    return (draw(np.random.default_rng([seed, number])) for number in count())


if __name__ == "__main__":
    sys.exit(main())
