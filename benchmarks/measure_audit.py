"""Measure the audit on sample data with known faults: copies, removed labels, random parts.

    python benchmarks/measure_audit.py
    python benchmarks/measure_audit.py --images 300 --strips 30 --splits 400

Sample images are copied with small changes, and one label is removed from a third of the copies and for a twentieth of
the boxes in strips. The script prints how many of these faults the audit finds, and the number of false alarms.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image as Pillow

from detect.datasets.audit import MissingLabel, missing_in_duplicates, missing_in_strips
from detect.datasets.duplicates import Fingerprint, find_duplicates, fingerprints
from detect.datasets.part_shift import find_shifts
from detect.images import write_image
from detect.structures import Box, Image, area, intersection
from detect.synthetic.scenes import CATEGORIES, numbered, sample_image
from detect.synthetic.strips import write_strips

PillowImage = Pillow.Image


def _jpeg(image: PillowImage) -> PillowImage:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=50)
    return Pillow.open(data).convert("L")


CHANGES: dict[str, Callable[[PillowImage], PillowImage]] = {
    "JPEG of quality 50": _jpeg,
    "20 % darker": lambda image: image.point(lambda v: int(0.8 * v)),
    "mirrored": lambda image: image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    "rotated by 90 degrees": lambda image: image.transpose(Pillow.Transpose.ROTATE_90),
}


def _transform_box(box: Box, change: str, side: int) -> Box:
    x1, y1, x2, y2 = box.xyxy
    if change == "mirrored":
        x1, x2 = side - x2, side - x1
    if change == "rotated by 90 degrees":
        x1, y1, x2, y2 = y1, side - x2, y2, side - x1
    return replace(box, xyxy=(x1, y1, x2, y2))


def _remove_one(boxes: tuple[Box, ...], rng: np.random.Generator) -> tuple[tuple[Box, ...], Box]:
    k = int(rng.integers(len(boxes)))
    return boxes[:k] + boxes[k + 1 :], boxes[k]


def _count_found(missing: Sequence[MissingLabel], removed: dict[int, Box]) -> tuple[int, int]:
    """Removed labels found, and false alarms (findings with at most half of their area in a removed label)."""
    hits = set()
    for each in missing:
        if each.image in removed:
            found, label = (np.array([box.xyxy]) for box in (each.box, removed[each.image]))
            if intersection(found, label)[0, 0] > 0.5 * area(found)[0]:
                hits.add(each.image)
    return len(hits), sum(each.image not in hits for each in missing)


def copies(folder: Path, count: int, rng: np.random.Generator) -> tuple[list[Image], list[Fingerprint]]:
    """Print how many copies and removed labels are found; returns the originals and their fingerprints."""
    images, original_of, removed = [], {}, {}
    for category, number in numbered(count):
        pixels, boxes = sample_image(category, number, seed=0)
        path = folder / f"{category}_{number}.bmp"
        write_image(path, pixels)
        images.append(Image(path, pixels.shape[1], pixels.shape[0], boxes))
    for i, image in enumerate(list(images[::2])):
        change = list(CHANGES)[i % len(CHANGES)]
        path = image.path.with_name(f"copy_{i}.png")
        CHANGES[change](Pillow.open(image.path)).save(path)
        boxes = tuple(_transform_box(box, change, image.width) for box in image.boxes)
        original_of[len(images)] = 2 * i
        if i % 3 == 0:
            boxes, removed[len(images)] = _remove_one(boxes, rng)
        images.append(replace(image, path=path, boxes=boxes))
    prints = [each for each in fingerprints([image.path for image in images]) if isinstance(each, Fingerprint)]
    duplicate_groups = find_duplicates(prints)
    pairs = {(link.second, link.first) for group in duplicate_groups for link in group.links}
    correct = pairs & set(original_of.items())
    found = f"{len(correct)} of {len(original_of)} found, {len(pairs - correct)} false pairs"
    print(f"copies: {found} among {len(images)} images")
    hits, others = _count_found(missing_in_duplicates(images, duplicate_groups), removed)
    print(f"labels removed from copies: {hits} of {len(removed)} found, {others} false alarms")
    return images[:count], prints[:count]


def strips(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Print how many labels removed from frames of strips are found, and the false alarms without removed labels."""
    images = list(write_strips(folder, frames=20, strips=count, seed=1).images)
    clean = sum(image.frame is not None and image.frame.condition == "clean" for image in images)
    print(f"strips as labelled: {len(missing_in_strips(images))} false alarms in {clean} clean frames")
    removed = {}
    for i, image in enumerate(images):
        if image.boxes and image.frame and image.frame.condition == "clean" and rng.random() < 0.05 * len(image.boxes):
            boxes, removed[i] = _remove_one(image.boxes, rng)
            images[i] = replace(image, boxes=boxes)
    hits, others = _count_found(missing_in_strips(images), removed)
    print(f"labels removed from frames: {hits} of {len(removed)} found, {others} false alarms")


def parts(images: Sequence[Image], prints: Sequence[Fingerprint], splits: int, rng: np.random.Generator) -> None:
    """Print how often random parts are reported as different."""
    alarms, comparisons = 0, 0
    for number in range(splits):
        order = rng.permutation(len(images)).tolist()
        cut = int(0.7 * len(order))
        shifts = find_shifts(images, prints, CATEGORIES, {"train": order[:cut], "val": order[cut:]}, seed=number)
        alarms += any(shift.significant for shift in shifts)
        comparisons = len(shifts)
    print(f"random parts: {alarms} of {splits} reported as different in any of {comparisons} comparisons")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120, help="number of images; half as many copies are added")
    parser.add_argument("--strips", type=int, default=12, help="number of strips of 20 frames")
    parser.add_argument("--splits", type=int, default=100, help="number of random splits")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stills").mkdir()
        images, prints = copies(Path(folder) / "stills", args.images, rng)
        strips(Path(folder) / "strips", args.strips, rng)
    parts(images, prints, args.splits, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
