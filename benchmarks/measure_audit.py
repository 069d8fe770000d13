"""Measure the audit on sample data whose faults are known: copies, labels taken away, parts drawn at random.

    python benchmarks/measure_audit.py
    python benchmarks/measure_audit.py --images 300 --strips 30 --splits 400

Sample images are copied with small changes, one label is taken away from a third of the copies and from a twentieth of
the places in strips; printed is how much of it the audit finds, and what it finds that isn't so.
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

Picture = Pillow.Image


def _jpeg(picture: Picture) -> Picture:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=50)
    return Pillow.open(data).convert("L")


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG of quality 50": _jpeg,
    "a fifth less light": lambda picture: picture.point(lambda v: int(0.8 * v)),
    "mirrored": lambda picture: picture.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    "turned by a quarter": lambda picture: picture.transpose(Pillow.Transpose.ROTATE_90),
}


def _placed(box: Box, change: str, side: int) -> Box:
    x1, y1, x2, y2 = box.xyxy
    if change == "mirrored":
        x1, x2 = side - x2, side - x1
    if change == "turned by a quarter":
        x1, y1, x2, y2 = y1, side - x2, y2, side - x1
    return replace(box, xyxy=(x1, y1, x2, y2))


def _less_one(boxes: tuple[Box, ...], rng: np.random.Generator) -> tuple[tuple[Box, ...], Box]:
    k = int(rng.integers(len(boxes)))
    return boxes[:k] + boxes[k + 1 :], boxes[k]


def _found(missing: Sequence[MissingLabel], removed: dict[int, Box]) -> tuple[int, int]:
    """How many of the labels taken away are found, and how many finds are none: not half of them lies in one."""
    hits = set()
    for each in missing:
        if each.image in removed:
            place, label = (np.array([box.xyxy]) for box in (each.box, removed[each.image]))
            if intersection(place, label)[0, 0] > 0.5 * area(place)[0]:
                hits.add(each.image)
    return len(hits), sum(each.image not in hits for each in missing)


def copies(folder: Path, count: int, rng: np.random.Generator) -> tuple[list[Image], list[Fingerprint]]:
    """Print what is found of copies and of labels taken away from them; give the originals."""
    images, of_copy, removed = [], {}, {}
    for category, number in numbered(count):
        pixels, boxes = sample_image(category, number, seed=0)
        path = folder / f"{category}_{number}.bmp"
        write_image(path, pixels)
        images.append(Image(path, pixels.shape[1], pixels.shape[0], boxes))
    for i, image in enumerate(list(images[::2])):
        change = list(CHANGES)[i % len(CHANGES)]
        path = image.path.with_name(f"copy_{i}.png")
        CHANGES[change](Pillow.open(image.path)).save(path)
        boxes = tuple(_placed(box, change, image.width) for box in image.boxes)
        of_copy[len(images)] = 2 * i
        if i % 3 == 0:
            boxes, removed[len(images)] = _less_one(boxes, rng)
        images.append(replace(image, path=path, boxes=boxes))
    prints = [seen for seen in fingerprints([image.path for image in images]) if isinstance(seen, Fingerprint)]
    duplicate_groups = find_duplicates(prints)
    pairs = {(link.second, link.first) for group in duplicate_groups for link in group.links}
    right = pairs & set(of_copy.items())
    print(f"copies: {len(right)} of {len(of_copy)} found, {len(pairs - right)} false pairs among {len(images)} images")
    hits, others = _found(missing_in_duplicates(images, duplicate_groups), removed)
    print(f"labels taken away from copies: {hits} of {len(removed)} found, {others} false alarms")
    return images[:count], prints[:count]


def strips(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Print what is found of labels taken away from frames of strips, and how many are told where none is."""
    images = list(write_strips(folder, frames=20, strips=count, seed=1).images)
    clean = sum(image.frame is not None and image.frame.condition == "clean" for image in images)
    print(f"strips as labelled: {len(missing_in_strips(images))} false alarms in {clean} clean frames")
    removed = {}
    for i, image in enumerate(images):
        if image.boxes and image.frame and image.frame.condition == "clean" and rng.random() < 0.05 * len(image.boxes):
            boxes, removed[i] = _less_one(image.boxes, rng)
            images[i] = replace(image, boxes=boxes)
    hits, others = _found(missing_in_strips(images), removed)
    print(f"labels taken away from frames: {hits} of {len(removed)} found, {others} false alarms")


def parts(images: Sequence[Image], prints: Sequence[Fingerprint], splits: int, rng: np.random.Generator) -> None:
    """Print how often parts drawn at random are said to differ."""
    alarms, comparisons = 0, 0
    for number in range(splits):
        order = rng.permutation(len(images)).tolist()
        cut = int(0.7 * len(order))
        shifts = find_shifts(images, prints, CATEGORIES, {"train": order[:cut], "val": order[cut:]}, seed=number)
        alarms += any(shift.significant for shift in shifts)
        comparisons = len(shifts)
    print(f"random parts: {alarms} of {splits} said to differ in any of {comparisons} comparisons")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120, help="drawn; half as many copies are added")
    parser.add_argument("--strips", type=int, default=12, help="of 20 frames")
    parser.add_argument("--splits", type=int, default=100, help="at random")
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
