"""Write sample steel on which not defects are labelled but marks: water marks, light spots and oil shadows.

    python tools/make_marks.py --out data/marks/raw --images 350 --seed 0
    detect convert data/marks/raw --out data/marks --split train=0.15,val=0.85

Three classes that no detector of sample steel or NEU-DET knows, and that those trained on sample steel have learned
to overlook: what a training on a user's own classes (``--init``) can be tried on. Labels are COCO JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from detect.errors import DetectError
from detect.formats import coco
from detect.images import write_image
from detect.records import Box, Dataset, Image
from detect.sample.lookalikes import LOOKALIKES
from detect.sample.surface import SURFACES

_CLASSES = ("light_spot", "oil_shadow", "water_mark")
_SIDE, _MOST = 200, 3
_STRENGTH = 2.0  # those of the sample data are fainter than any defect
_OUTLINE = 0.3  # share of a mark's largest change of the light that its box holds
_SMALLEST = 12  # pixels of a side below which a mark has nearly left the image, and gets no label


def draw(rng: np.random.Generator) -> tuple[np.ndarray, tuple[Box, ...]]:
    """uint8[200, 200] and its boxes."""
    size_hw = (_SIDE, _SIDE)
    surface = SURFACES[str(rng.choice(list(SURFACES)))](rng, size_hw)
    noise = surface.noise_gray / float(surface.light.mean())
    steel, boxes = 1 + surface.relief, []
    for name in rng.choice(_CLASSES, int(rng.integers(1, _MOST + 1))):
        mark = _STRENGTH * LOOKALIKES[str(name)](rng, size_hw, noise)
        steel = steel + mark
        rows, columns = np.nonzero(np.abs(mark) > _OUTLINE * np.abs(mark).max())
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        if min(x2 - x1, y2 - y1) >= _SMALLEST:
            boxes.append(Box(str(name), (float(x1), float(y1), float(x2), float(y2))))
    gray = surface.light * steel + rng.standard_normal(size_hw)
    return np.rint(np.clip(gray, 0, 255)).astype(np.uint8), tuple(boxes)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=350, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    images = []
    try:
        for number in range(args.images):
            pixels, boxes = draw(np.random.default_rng([args.seed, number]))
            path = args.out / f"mark_{number + 1}.png"
            write_image(path, pixels)
            images.append(Image(path, _SIDE, _SIDE, boxes))
        coco.write({"labels": Dataset(tuple(images), _CLASSES)}, args.out)
    except DetectError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(images):,} images with their labels: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
